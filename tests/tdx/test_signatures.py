"""Signatures inside quotes and collateral, each broken alone."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from attestation.errors import EvidenceError, MalformedError
from attestation.tdx import chain as chains
from attestation.tdx.anchor import Anchor
from attestation.tdx.collateral import Collateral
from attestation.tdx.quote import Quote, parse_quote
from attestation.tdx.signatures import (
    OwnChecks,
    own_checks,
    verify_collateral_signatures,
    verify_quote_signatures,
)
from gateway.attester.simulated.facts import DAY
from gateway.attester.simulated.keys import sign_raw
from tests.refusals import refusal
from tests.tdx import bench

GOOD = bench.collateral()
ROOT = bench.platform().anchor
# Offsets in a version 4 quote.
BODY_BYTE, BODY_SIGNATURE, KEY, QE_REPORT, QE_SIGNATURE = 600, 640, 700, 770, 1154
ROOT_KEY = ec.derive_private_key(3, ec.SECP256R1())
SIGNER_KEY = ec.derive_private_key(4, ec.SECP256R1())


def checks(data: bytes) -> OwnChecks:
    return own_checks(parse_quote(data))


def quote_code(data: bytes | Quote) -> str:
    parsed = data if isinstance(data, Quote) else parse_quote(data)
    return bench.outcome(verify_quote_signatures, parsed, ROOT)


def collateral_code(collateral: Collateral, *, at: int = bench.NOW, anchor: Anchor = ROOT) -> str:
    return bench.outcome(verify_collateral_signatures, collateral, anchor, at)


def test_healthy_quote_and_collateral_hold() -> None:
    assert checks(bench.raw_quote()) == OwnChecks(
        body_sig=True, ak_binding=True, qe_sig=True, chain=True
    )
    assert quote_code(bench.raw_quote()) == "accepted"
    assert collateral_code(GOOD) == "accepted"


@pytest.mark.parametrize(
    ("offset", "broken"),
    [
        (BODY_BYTE, {"body_sig"}),
        (BODY_SIGNATURE, {"body_sig"}),
        (QE_REPORT, {"qe_sig"}),
        (QE_SIGNATURE, {"qe_sig"}),
        (1220, {"ak_binding"}),
    ],
)
def test_one_broken_signature_is_seen_alone(offset: int, broken: set[str]) -> None:
    data = bench.flipped(bench.raw_quote(), offset)
    seen = checks(data)
    values = {name: getattr(seen, name) for name in ("body_sig", "ak_binding", "qe_sig", "chain")}
    assert {name for name, holds in values.items() if not holds} == broken
    assert quote_code(data) == "signature"


def test_key_that_is_no_point_of_the_curve_signs_nothing() -> None:
    raw = bench.raw_quote()
    data = raw[:KEY] + bytes(64) + raw[KEY + 64 :]
    assert checks(data).body_sig is False
    assert quote_code(data) == "signature"


def test_attestation_key_of_somebody_else_is_not_vouched_for() -> None:
    raw, key = bench.raw_quote(), ec.derive_private_key(5, ec.SECP256R1())
    numbers = key.public_key().public_numbers()
    point = numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")
    data = raw[:636] + sign_raw(key, raw[:632]) + point + raw[764:]
    assert checks(data) == OwnChecks(body_sig=True, ak_binding=False, qe_sig=True, chain=True)
    assert quote_code(data) == "signature"


@pytest.mark.parametrize("tail", [b"\x01" + bytes(31), bytes(31) + b"\x01"])
def test_all_64_bytes_of_the_enclaves_report_data_count(tail: bytes) -> None:
    quote = bench.quote()
    raw = quote.qe.raw[:352] + tail
    assert not replace(quote.qe, raw=raw).binds(quote.attestation_key)


def with_chain(*ders: bytes) -> Quote:
    return replace(bench.quote(), certification_data=chains.encode_pem(ders))


def test_quote_without_a_chain_has_nothing_to_check_the_enclave_with() -> None:
    parsed = replace(bench.quote(), certification_data=b"")
    assert own_checks(parsed) == OwnChecks(body_sig=True, ak_binding=True, qe_sig=None, chain=None)
    assert quote_code(parsed) == "pem"


def test_damaged_authority_breaks_the_chain_and_nothing_else() -> None:
    leaf, authority, root = bench.quote().chain()
    damaged = with_chain(leaf, bench.flipped(authority, len(authority) - 5), root)
    assert own_checks(damaged) == OwnChecks(
        body_sig=True, ak_binding=True, qe_sig=True, chain=False
    )
    assert quote_code(damaged) == "signature"
    unreadable = with_chain(leaf, authority[:-1], root)
    assert own_checks(unreadable).chain is False
    assert quote_code(unreadable) == "certificate"


def test_unreadable_leaf_signs_nothing() -> None:
    leaf, authority, root = bench.quote().chain()
    parsed = with_chain(leaf[:-1], authority, root)
    assert own_checks(parsed).qe_sig is False
    assert own_checks(parsed).chain is False
    assert quote_code(parsed) == "certificate"


def test_leaf_of_another_platform_did_not_sign_this_enclave() -> None:
    other = bench.changed(bench.platform(), machine={"fmspc": bytes(6)})
    _, authority, root = bench.quote().chain()
    parsed = with_chain(authority, root)
    assert own_checks(parsed) == OwnChecks(body_sig=True, ak_binding=True, qe_sig=False, chain=True)
    assert quote_code(parsed) == "signature"
    assert own_checks(parse_quote(other.quote(bench.REPORT_DATA))).qe_sig is True


def test_chain_that_ends_below_a_root_is_not_self_contained() -> None:
    leaf, authority, _ = bench.quote().chain()
    assert own_checks(with_chain(leaf, authority)).chain is False
    assert quote_code(with_chain(leaf, authority)) == "accepted"


@pytest.mark.parametrize("name", ["tcb_info", "qe_identity"])
def test_changed_text_is_refused(name: str) -> None:
    text = getattr(GOOD, name)
    assert collateral_code(bench.altered(GOOD, **{name: text + " "})) == "signature"
    assert collateral_code(bench.altered(GOOD, **{name: text.replace(":20", ":21")})) == "signature"


@pytest.mark.parametrize("name", ["tcb_info_signature", "qe_identity_signature"])
@pytest.mark.parametrize("position", [0, 31, 32, 63])
def test_changed_signature_is_refused(name: str, position: int) -> None:
    broken = bench.flipped(getattr(GOOD, name), position)
    assert collateral_code(bench.altered(GOOD, **{name: broken})) == "signature"
    assert collateral_code(bench.altered(GOOD, **{name: bytes(64)})) == "signature"


def test_texts_do_not_stand_in_for_each_other() -> None:
    swapped = replace(
        GOOD, tcb_info=GOOD.qe_identity, tcb_info_signature=GOOD.qe_identity_signature
    )
    # The same signer signed both; what keeps them apart is dcap-qvl reading the id inside.
    assert collateral_code(swapped) == "accepted"
    assert bench.code_of(bench.raw_quote(), swapped) == "fmspc"


@pytest.mark.parametrize(
    "name", ["tcb_info_issuer_chain", "qe_identity_issuer_chain", "pck_crl_issuer_chain"]
)
def test_every_issuer_chain_must_lead_to_the_root(name: str) -> None:
    signer, root = chains.split_pem(getattr(GOOD, name).encode(), what=name)
    broken_root = bench.flipped(root, len(root) - 5)
    for ders, code in (
        ((bench.flipped(signer, len(signer) - 5), root), "signature"),
        ((signer, broken_root), "root"),
        ((signer, signer), "signature"),
        ((signer, root[:-1]), "certificate"),
        ((root,), "signature"),
        ((signer,), "accepted"),
        ((signer, root, root), "accepted"),
    ):
        pem = chains.encode_pem(ders).decode()
        assert collateral_code(bench.altered(GOOD, **{name: pem})) == code, ders
    assert collateral_code(bench.altered(GOOD, **{name: "nothing"})) == "pem"


def test_platform_key_may_not_speak_about_tcb_levels() -> None:
    # The chain PCK, platform CA, root is perfectly genuine, and dcap-qvl 0.7 alone takes it.
    forged = bench.endorsed(signer="pck")
    assert collateral_code(forged) == "signature"
    assert bench.code_of(bench.raw_quote(), forged) == "signature"


@pytest.mark.parametrize("name", ["root_ca_crl", "pck_crl"])
def test_changed_revocation_list_is_refused(name: str) -> None:
    crl = getattr(GOOD, name)
    assert (
        collateral_code(bench.altered(GOOD, **{name: bench.flipped(crl, len(crl) - 1)}))
        == "signature"
    )
    assert collateral_code(bench.altered(GOOD, **{name: crl[:-1]})) == "malformed"
    assert collateral_code(bench.altered(GOOD, **{name: b""})) == "malformed"
    assert collateral_code(bench.altered(GOOD, **{name: crl + b"\x00"})) == "malformed"


def test_revocation_lists_do_not_stand_in_for_each_other() -> None:
    assert collateral_code(replace(GOOD, root_ca_crl=GOOD.pck_crl)) == "signature"
    assert collateral_code(replace(GOOD, pck_crl=GOOD.root_ca_crl)) == "signature"


def test_revocation_list_of_an_unknown_kind_is_refused() -> None:
    ecdsa_sha256 = bytes.fromhex("06082a8648ce3d040302")
    unknown = GOOD.root_ca_crl.replace(ecdsa_sha256, ecdsa_sha256[:-1] + b"\x7f")
    assert unknown != GOOD.root_ca_crl
    assert collateral_code(replace(GOOD, root_ca_crl=unknown)) == "signature"


@pytest.mark.parametrize(
    ("at", "code"),
    [
        (bench.NOW - DAY - 1, "not_yet_valid"),
        (bench.NOW - DAY, "accepted"),
        (bench.NOW + 7 * 365 * DAY, "accepted"),
        (bench.NOW + 7 * 365 * DAY + 1, "expired"),
    ],
)
def test_issuer_chain_of_the_revocation_list_must_be_in_date(at: int, code: str) -> None:
    assert collateral_code(GOOD, at=at) == code


@pytest.fixture
def signed_by() -> Callable[..., Collateral]:
    """Collateral under `ROOT_KEY` whose documents a signer with the given extensions signed."""

    def build(*extensions: x509.ExtensionType) -> Collateral:
        crl = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(_name("root"))
            .last_update(_DAY_ONE)
            .next_update(_DAY_TWO)
            .sign(ROOT_KEY, hashes.SHA256())
            .public_bytes(serialization.Encoding.DER)
        )
        chain = chains.encode_pem([_certificate("signer", SIGNER_KEY, *extensions)]).decode()
        return replace(
            GOOD,
            pck_crl_issuer_chain="",
            root_ca_crl=crl,
            tcb_info_issuer_chain=chain,
            qe_identity_issuer_chain=chain,
            tcb_info_signature=sign_raw(SIGNER_KEY, GOOD.tcb_info.encode()),
            qe_identity_signature=sign_raw(SIGNER_KEY, GOOD.qe_identity.encode()),
        )

    return build


_DAY_ONE, _DAY_TWO = dt.datetime(2025, 1, 1, tzinfo=dt.UTC), dt.datetime(2025, 1, 2, tzinfo=dt.UTC)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _certificate(
    name: str, key: ec.EllipticCurvePrivateKey, *extensions: x509.ExtensionType
) -> bytes:
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name("root"))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(_DAY_ONE)
        .not_valid_after(_DAY_TWO)
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    return builder.sign(ROOT_KEY, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def own_root() -> Anchor:
    return Anchor(_certificate("root", ROOT_KEY, x509.BasicConstraints(ca=True, path_length=None)))


@pytest.mark.parametrize(
    ("extensions", "code"),
    [
        ((), "accepted"),
        ((x509.BasicConstraints(ca=False, path_length=None),), "accepted"),
        ((x509.BasicConstraints(ca=True, path_length=0),), "signature"),
        (
            (x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.19"), b"\x05"),),
            "certificate",
        ),
    ],
    ids=["no constraints", "leaf", "authority", "unreadable"],
)
def test_documents_are_signed_by_a_leaf_of_the_root(
    signed_by: Callable[..., Collateral],
    extensions: tuple[x509.ExtensionType, ...],
    code: str,
) -> None:
    assert collateral_code(signed_by(*extensions), anchor=own_root()) == code


def test_errors_are_by_whose_fault_it_is() -> None:
    broken = parse_quote(bench.flipped(bench.raw_quote(), BODY_BYTE))
    assert refusal(verify_quote_signatures, broken, ROOT, error=EvidenceError) == "signature"
    empty = replace(bench.quote(), certification_data=b"")
    assert refusal(verify_quote_signatures, empty, ROOT, error=MalformedError) == "pem"
