"""Forgers who write everything anew that costs no key: each meets the one thing they cannot make.

The forger has a bundle, its bodies, a machine of his own with its own PKI, and keys of his own.
He lacks the keys of the boot, of its platform and of its root.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attestation.bundle import Bundle, BundledReceipt, EventLogRecord, make_bundle
from attestation.encoding import base64url, jcs
from attestation.encoding.digest import Digest
from attestation.encoding.jwk import Jwk, thumbprint
from attestation.errors import MalformedError
from attestation.merkle.checkpoint import Checkpoint
from attestation.merkle.note import sign_note, vkey_for
from attestation.merkle.tlog_proof import TlogProof, render
from attestation.merkle.tree import leaf_hash
from attestation.receipt.claims import ReceiptClaims
from attestation.receipt.signing import parse_receipt, sign_receipt
from attestation.result import AttestationResult, Verdict
from attestation.statement import Keyset, parse_statement
from attestation.tdx.chain import encode_pem
from attestation.tdx.quote import canonical_quote, parse_quote
from gateway.attester.simulated.keys import public_xy, sign_raw
from tests.support.bundles import CONFIG_DIGEST, Gateway, failed, open_checks
from tests.tamper.folder import judge
from tests.tamper.folders import folder_of, gateway

VICTIM = gateway("victim")
SIBLING = gateway("sibling", platform_of=VICTIM)
FORGER = gateway("forger")
KEY = Ed25519PrivateKey.from_private_bytes(bytes([1]) * 32)
LOG_KEY = Ed25519PrivateKey.from_private_bytes(bytes([2]) * 32)
ED25519_ORDER = 2**252 + 27742317777372353535851937790883648493


def jwk(key: Ed25519PrivateKey) -> Jwk:
    raw = key.public_key().public_bytes_raw()
    return Jwk(raw=raw, kid=thumbprint(raw))


def verified(**changes: Any) -> AttestationResult:
    """What the victim's auditor says of the victim's bundle with `changes`."""
    return VICTIM.verify(bundle=VICTIM.bundle(**changes))


def refused(result: AttestationResult, *ids: str) -> None:
    assert result.verdict is Verdict.REJECTED
    assert failed(result) == set(ids)


def signed_anew(
    item: BundledReceipt, key: Ed25519PrivateKey, kid: str, **claims: Any
) -> BundledReceipt:
    changed: ReceiptClaims = replace(item.receipt.claims, **claims)
    return replace(item, receipt=parse_receipt(sign_receipt(changed, key, kid)))


def items(source: Gateway = VICTIM) -> list[BundledReceipt]:
    return [exchanged.item for exchanged in source.exchanged]


def with_token(item: BundledReceipt, token: str) -> BundledReceipt:
    return replace(item, receipt=parse_receipt(token))


FORGED_KEYSET = replace(VICTIM.keyset, receipt_key=jwk(KEY))


def test_untouched_bundle_ends_in_15() -> None:
    assert verified().verdict is Verdict.SIMULATED
    assert judge(folder_of(VICTIM)) == 15


# Receipts


def test_receipt_signed_by_another_key_under_the_right_name_is_refused() -> None:
    plain, stream = items()
    forged = signed_anew(plain, KEY, VICTIM.receipt_jwk.kid)
    refused(verified(receipts=[forged, stream]), "RECEIPT-SIGNATURE")


def test_receipt_signed_by_another_key_under_its_own_name_is_refused() -> None:
    plain, stream = items()
    refused(verified(receipts=[signed_anew(plain, KEY, jwk(KEY).kid), stream]), "RECEIPT-SIGNATURE")


def test_stream_whose_receipt_was_signed_anew_no_longer_fits_the_block_in_its_body() -> None:
    plain, stream = items()
    forged = signed_anew(stream, KEY, jwk(KEY).kid)
    refused(verified(receipts=[plain, forged]), "RECEIPT-SIGNATURE", "RESPONSE-BODY")


def test_other_spelling_of_an_ed25519_signature_is_refused() -> None:
    token = items()[0].receipt.token
    head, _, signature = token.rpartition(".")
    raw = base64url.decode(signature)
    s = int.from_bytes(raw[32:], "little") + ED25519_ORDER
    forged = f"{head}.{base64url.encode(raw[:32] + s.to_bytes(32, 'little'))}"
    changed = [with_token(items()[0], forged), items()[1]]
    refused(verified(receipts=changed), "RECEIPT-SIGNATURE")


def test_receipts_of_another_boot_of_the_machine_are_not_those_of_this_one() -> None:
    # They are genuine: what is missing is their boot.
    result = verified(receipts=items(SIBLING))
    assert result.verdict is Verdict.INCOMPLETE
    assert {"RECEIPT-SIGNATURE", "RECEIPT-BINDING"} <= open_checks(result)


def test_receipt_of_another_boot_dressed_as_one_of_this_boot_is_refused() -> None:
    own = items()[0].receipt.claims
    dressed = [
        signed_anew(
            item, SIBLING.receipt_key, VICTIM.receipt_jwk.kid, bootseed=own.bootseed,
            keyset_digest=own.keyset_digest, quote_digest=own.quote_digest, log=own.log,
        )
        for item in items(SIBLING)[:1]
    ]  # fmt: skip
    result = verified(receipts=[*dressed, *items()[1:]])
    refused(result, "RECEIPT-SIGNATURE")


def test_openings_of_another_receipt_open_nothing() -> None:
    first, second = items()
    swapped = [replace(first, openings=second.openings), replace(second, openings=first.openings)]
    result = verified(receipts=swapped)
    refused(result, "REQUEST-BODY", "RESPONSE-BODY")


def test_exchanged_keys_within_the_openings_open_nothing() -> None:
    first, second = items()
    assert first.openings is not None
    keys = first.openings.keys
    exchanged = replace(first.openings, keys={"req": keys["res"], "res": keys["req"]})
    result = verified(receipts=[replace(first, openings=exchanged), second])
    refused(result, "REQUEST-BODY", "RESPONSE-BODY")


@pytest.mark.parametrize(
    ("more", "id_"),
    [
        ({"keys": {"fwd": bytes(32)}}, "FORWARDED-BODY"),
        ({"keys": {"eng": bytes(32)}}, "ENGINE-BODY"),
        ({"inserted": (b"x",)}, "FORWARDED-BODY"),
    ],
)
def test_openings_for_what_the_receipt_does_not_commit_to_are_refused(
    more: dict[str, Any], id_: str
) -> None:
    first, second = items()
    assert first.openings is not None
    keys = {**first.openings.keys, **more.get("keys", {})}
    openings = replace(first.openings, keys=keys, inserted=more.get("inserted", ()))
    refused(verified(receipts=[replace(first, openings=openings), second]), id_)


# Keyset and statement


def test_other_receipt_key_in_the_keyset_is_refused_though_everything_names_it() -> None:
    statement = replace(VICTIM.evidence.statement, keyset_digest=FORGED_KEYSET.digest)
    event = {
        "bootseed": statement.bootseed.hex(),
        "event": "receipt.key",
        "keyset_digest": FORGED_KEYSET.digest.hex,
        "n": 1,
    }
    boot = replace(
        VICTIM.evidence,
        statement=statement,
        keyset=FORGED_KEYSET,
        event_log=EventLogRecord(format="attested-gateway", data=[event]),
    )
    forged = signed_anew(items()[0], KEY, jwk(KEY).kid, keyset_digest=FORGED_KEYSET.digest)
    refused(verified(boots=[boot], receipts=[forged]), "BOOT-STATEMENT", "EVENT-LOG")


def test_other_keyset_under_the_old_statement_is_refused() -> None:
    boot = replace(VICTIM.evidence, keyset=FORGED_KEYSET)
    forged = signed_anew(items()[0], KEY, jwk(KEY).kid)
    refused(verified(boots=[boot], receipts=[forged]), "KEYSET", "RECEIPT-BINDING")


@pytest.mark.parametrize(
    "change",
    [
        {"tls_spki": ()},
        {"tls_spki": (Digest.of(b"forger's TLS key"),)},
        {"tls_spki": (*VICTIM.tls, Digest.of(b"forger's TLS key"))},
        {"not_after": VICTIM.not_after + 1},
        {"log_vkey": vkey_for(VICTIM.origin, LOG_KEY.public_key().public_bytes_raw())},
    ],
)
def test_keyset_changed_in_any_member_is_refused(change: dict[str, Any]) -> None:
    keyset: Keyset = replace(VICTIM.keyset, **change)
    assert "KEYSET" in failed(verified(boots=[replace(VICTIM.evidence, keyset=keyset)]))


@pytest.mark.parametrize(
    "change",
    [
        {"config_digest": Digest.of(b"weaker settings")},
        {"time_claimed": VICTIM.evidence.statement.time_claimed + 1},
        {"image": "forged:1"},
    ],
)
def test_statement_changed_in_any_member_is_refused(change: dict[str, Any]) -> None:
    statement = replace(VICTIM.evidence.statement, **change)
    boot = replace(VICTIM.evidence, statement=statement)
    refused(verified(boots=[boot]), "BOOT-STATEMENT")


def test_statement_changed_to_name_a_model_is_refused() -> None:
    statement = replace(VICTIM.evidence.statement, model_digest=Digest.of(b"a model"))
    boot = replace(VICTIM.evidence, statement=statement)
    refused(verified(boots=[boot]), "BOOT-STATEMENT", "MODEL")


def test_genuine_quote_over_another_statement_of_the_same_boot_is_refused() -> None:
    # As a challenge or an epoch would have one: same registers, same keys, other REPORTDATA.
    other = VICTIM.quote(Digest.of(b"challenge").value.ljust(64, b"\0"), _key_events(VICTIM))
    result = verified(boots=[replace(VICTIM.evidence, quote=other)])
    assert result.verdict is Verdict.REJECTED
    assert failed(result) == {"BOOT-STATEMENT", "RECEIPT-BINDING"}


def test_statement_of_another_purpose_has_no_place_as_boot_statement() -> None:
    document = folder_of(VICTIM).document()
    document["boots"][0]["statement"]["purpose"] = "attested-gateway/epoch/v1"
    assert judge(folder_of(VICTIM).but(jcs.canonicalize(document))) == 13
    with pytest.raises(MalformedError):
        parse_statement(document["boots"][0]["statement"])


# Quotes


def _key_events(source: Gateway) -> list[bytes]:
    record = source.evidence.event_log
    assert record is not None
    return [event.digest for event in record.parse().events]


def requoted(**parts: bytes) -> Bundle:
    """The bundle with parts of the quote replaced, by offset in a version 4 quote."""
    offsets = {"report_data": 568, "signature": 636, "key": 700, "qe": 770, "qe_signature": 1154}
    raw = bytearray(VICTIM.evidence.quote)
    for name, value in parts.items():
        raw[offsets[name] : offsets[name] + len(value)] = value
    boot = replace(VICTIM.evidence, quote=canonical_quote(bytes(raw)))
    return VICTIM.bundle(boots=[boot])


def test_report_data_written_over_is_refused() -> None:
    forged = replace(VICTIM.evidence.statement, config_digest=Digest.of(b"weaker settings"))
    bundle = requoted(report_data=forged.report_data)
    (boot,) = bundle.boots
    result = VICTIM.verify(bundle=replace(bundle, boots=(replace(boot, statement=forged),)))
    refused(result, "QUOTE-GENUINE", "RECEIPT-BINDING")


def test_quote_signed_anew_by_a_key_of_the_forgers_is_refused() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    signed = parse_quote(VICTIM.evidence.quote).signed_region
    bundle = requoted(signature=sign_raw(key, signed), key=public_xy(key))
    refused(VICTIM.verify(bundle=bundle), "QUOTE-GENUINE")


def test_quote_whose_enclave_report_names_a_key_of_the_forgers_is_refused() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    quote = parse_quote(VICTIM.evidence.quote)
    hasher = hashes.Hash(hashes.SHA256())
    hasher.update(public_xy(key) + quote.qe.auth_data)
    report = quote.qe.raw[:320] + hasher.finalize() + bytes(32)
    for qe_signature in (quote.qe.signature, sign_raw(key, report)):
        bundle = requoted(
            signature=sign_raw(key, quote.signed_region),
            key=public_xy(key),
            qe=report,
            qe_signature=qe_signature,
        )
        refused(VICTIM.verify(bundle=bundle), "QUOTE-GENUINE")


def test_machine_of_the_forgers_with_the_same_names_under_another_root_is_refused() -> None:
    # Every subject in his certificates equals the victim's: names are nothing.
    subjects = [one.certificate.subject for one in (FORGER.anchor, VICTIM.anchor)]
    assert subjects[0] == subjects[1]
    result = VICTIM.verify(bundle=FORGER.bundle(), contents=FORGER.contents())
    assert result.verdict is Verdict.REJECTED
    assert failed(result) == {"QUOTE-GENUINE"}


def test_chain_of_the_forgers_with_the_right_root_put_at_its_end_is_refused() -> None:
    quote = parse_quote(FORGER.evidence.quote)
    old = encode_pem(quote.chain())
    pem = encode_pem((*quote.chain()[:2], VICTIM.anchor.root_der))
    raw = bytearray(quote.raw.replace(old, pem))
    for at in (632, 766, quote.raw.index(old) - 4):
        size = int.from_bytes(raw[at : at + 4], "little") + len(pem) - len(old)
        raw[at : at + 4] = size.to_bytes(4, "little")
    boot = replace(FORGER.evidence, quote=bytes(raw))
    for endorsed in (FORGER, VICTIM):
        collateral = endorsed.machine.collateral()
        bundle = FORGER.bundle(
            boots=[replace(boot, collateral=collateral.digest)], collateral=[collateral]
        )
        result = VICTIM.verify(bundle=bundle, contents=FORGER.contents())
        refused(result, "QUOTE-GENUINE")


# What else a file can hold


def test_two_boots_with_one_seed_are_malformed() -> None:
    forged = replace(VICTIM.evidence, keyset=FORGED_KEYSET)
    with pytest.raises(MalformedError, match="order"):
        make_bundle(boots=[VICTIM.evidence, forged], collateral=[VICTIM.machine.collateral()])


def test_boot_under_another_root_beside_a_genuine_one_is_refused() -> None:
    result = verified(
        boots=[VICTIM.evidence, FORGER.evidence],
        collateral=[VICTIM.machine.collateral(), FORGER.machine.collateral()],
        receipts=[*items(), *items(FORGER)],
    )
    refused(result, "QUOTE-GENUINE")


def test_task_records_and_gpu_evidence_that_nothing_checks_stay_open() -> None:
    token = items()[0].receipt.token
    assert verified(tasks=[token]).verdict is Verdict.INCOMPLETE
    boot = replace(VICTIM.evidence, gpu=({"evidence": "forged"},))
    result = verified(boots=[boot])
    assert result.verdict is Verdict.INCOMPLETE
    assert "GPU-GENUINE" in open_checks(result)


def proof_by(key: Ed25519PrivateKey, item: BundledReceipt, *, index: int) -> str:
    leaf = leaf_hash(b"\x01" + item.receipt.digest.value)
    note = Checkpoint(origin=VICTIM.origin, size=index + 1, root=leaf)
    signed = sign_note(note.text, VICTIM.origin, key)
    return render(TlogProof(extra=None, index=index, path=(), note=signed))


def test_proof_under_a_log_key_of_the_forgers_is_refused() -> None:
    forged = [replace(item, proof=proof_by(LOG_KEY, item, index=0)) for item in items()]
    refused(verified(receipts=forged), "LOG-CHECKPOINT")


def test_proof_of_one_receipt_beside_another_is_refused() -> None:
    made = gateway("anchored")
    made.anchored()
    first, second = items(made)
    assert made.verify().verdict is Verdict.SIMULATED
    swapped = [replace(first, proof=second.proof), replace(second, proof=first.proof)]
    refused(made.verify(bundle=made.bundle(receipts=swapped)), "LOG-INCLUSION")


def test_config_digest_of_the_builder_is_what_the_tests_above_change() -> None:
    assert VICTIM.evidence.statement.config_digest == CONFIG_DIGEST
