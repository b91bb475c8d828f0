"""What a set of endorsements says of itself, and when it counts as genuine and in date."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import EvidenceError, MalformedError
from attestation.tdx.anchor import INTEL_ANCHOR
from attestation.tdx.collateral import (
    Collateral,
    encode_dcap_collateral,
    parse_dcap_collateral,
)
from attestation.tdx.dates import DAY_SECONDS, Part, State
from attestation.tdx.endorsements import (
    Platform,
    ca_of,
    in_order,
    parse_endorsements,
    platform_of,
    verify_endorsements,
    verify_own_root,
)
from attestation.tdx.quote import parse_quote
from gateway.attester.simulated.facts import DAY, Endorsements
from tests import vectors_path
from tests.refusals import refusal
from tests.tdx import bench

NOW = bench.NOW
GOOD = bench.collateral()
ANCHOR = bench.platform().anchor


def issued(**changes: Any) -> Collateral:
    """A genuine set of the bench's platform with other facts in it."""
    return bench.platform().but(endorsements=Endorsements(**changes)).collateral()


def rewritten(field: str, **changes: Any) -> Collateral:
    """The healthy set with one text changed after it was signed."""
    text = json.dumps({**json.loads(getattr(GOOD, field)), **changes})
    return changed(**{field: text})


def changed(**changes: Any) -> Collateral:
    return dataclasses.replace(GOOD, **changes)


def crl(*, until: bool = True, issuer: str = "Simulated SGX PCK Platform CA") -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)])
    old = x509.load_der_x509_crl(GOOD.pck_crl)
    builder = x509.CertificateRevocationListBuilder().issuer_name(name)
    builder = builder.last_update(old.last_update_utc).next_update(old.next_update_utc)  # type: ignore[arg-type]
    made = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    data = made.public_bytes(serialization.Encoding.DER)
    if until:
        return data
    # nextUpdate (UTCTime, 15 bytes with its header) taken out, lengths of both frames corrected.
    stamp = b"\x17\x0d" + old.next_update_utc.strftime("%y%m%d%H%M%SZ").encode()  # type: ignore[union-attr]
    at = data.index(stamp)
    return _shorter(data, at, len(stamp))


def _shorter(data: bytes, at: int, count: int) -> bytes:
    """Cut `count` bytes at `at` out of SEQUENCE { SEQUENCE { … } … } with lengths below 64 KiB."""
    whole = bytearray(data)
    for start in (0, 2 + (whole[1] & 0x7F if whole[1] & 0x80 else 0)):
        size = whole[start + 1] & 0x7F if whole[start + 1] & 0x80 else 0
        place = slice(start + 2, start + 2 + size) if size else slice(start + 1, start + 2)
        length = int.from_bytes(whole[place], "big") - count
        whole[place] = length.to_bytes(max(size, 1), "big")
    return bytes(whole[:at] + whole[at + count :])


def test_numbers_dates_and_names_are_read() -> None:
    one = parse_endorsements(issued(evaluation_number=21, qe_evaluation_number=19))
    assert (one.tcb_number, one.qe_number, one.number) == (21, 19, 19)
    assert (one.fmspc, one.pce_id, one.ca) == (
        bench.platform().machine.fmspc.hex(),
        "0000",
        "platform",
    )
    assert [part.name for part in one.parts] == [
        "TCB info",
        "QE identity",
        "PCK CRL",
        "root CRL",
        "TCB info signer",
        "QE identity signer",
        "PCK CRL issuer",
        "root CA",
    ]
    assert one.issued == NOW - 3600
    assert one.whole == Part(name="PCK CRL, root CRL", issued=NOW - 3600, until=NOW + 30 * DAY - 1)
    assert one.tcb_date == max(level["tcbDate"] for level in json.loads(GOOD.tcb_info)["tcbLevels"])


def test_set_holds_from_its_last_issue_to_its_first_expiry() -> None:
    one = parse_endorsements(issued(tcb_issued=-7, qe_expires=9 * DAY))
    assert (one.whole.issued, one.whole.until) == (NOW - 7, NOW + 9 * DAY)


def test_set_without_an_issuer_of_the_revocation_list_has_one_part_less() -> None:
    one = parse_endorsements(issued(crl_issuer_chain=False))
    assert "PCK CRL issuer" not in [part.name for part in one.parts]


def test_tcb_info_without_levels_has_no_date() -> None:
    assert parse_endorsements(issued(levels=())).tcb_date == "none"


def test_state_is_told_by_both_ends_included() -> None:
    part = Part(name="x", issued=100, until=200)
    shown = [part.state(at, soon=50) for at in (99, 100, 150, 151, 200, 201)]
    assert shown == [
        State.NOT_YET, State.OK, State.OK, State.SOON, State.SOON, State.EXPIRED,
    ]  # fmt: skip
    assert Part(name="x", issued=0, until=8 * DAY_SECONDS).state(0) is State.OK
    assert Part(name="x", issued=0, until=7 * DAY_SECONDS - 1).state(0) is State.SOON


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("tcb_info", {"id": "SGX"}),
        ("tcb_info", {"version": 2}),
        ("tcb_info", {"fmspc": "00"}),
        ("tcb_info", {"pceId": "zzzz"}),
        ("tcb_info", {"tcbEvaluationDataNumber": "17"}),
        ("tcb_info", {"tcbLevels": [{"tcbDate": "yesterday"}]}),
        ("tcb_info", {"tcbLevels": [1]}),
        ("tcb_info", {"nextUpdate": "2026-02-30T00:00:00Z"}),
        ("tcb_info", {"issueDate": "2026-02-03"}),
        ("qe_identity", {"id": "QE"}),
        ("qe_identity", {"version": 3}),
        ("qe_identity", {"nextUpdate": 5}),
    ],
)
def test_text_that_says_something_else_is_malformed(field: str, changes: dict[str, Any]) -> None:
    assert refusal(parse_endorsements, rewritten(field, **changes))


def test_revocation_list_that_is_none_is_malformed() -> None:
    for field in ("pck_crl", "root_ca_crl"):
        broken = changed(**{field: b"0\x00"})
        assert refusal(parse_endorsements, broken) == "crl"


def test_revocation_list_without_an_end_is_malformed() -> None:
    broken = dataclasses.replace(GOOD, pck_crl=crl(until=False))
    assert refusal(parse_endorsements, broken) == "crl"


@pytest.mark.parametrize(
    ("issuer", "ca"),
    [
        ("Intel SGX PCK Processor CA", "processor"),
        ("Intel SGX PCK Platform CA", "platform"),
    ],
)
def test_both_certifying_authorities_are_told_apart(issuer: str, ca: str) -> None:
    assert ca_of(x509.load_der_x509_crl(crl(issuer=issuer))) == ca


def test_revocation_list_of_another_issuer_is_malformed() -> None:
    broken = dataclasses.replace(GOOD, pck_crl=crl(issuer="SGX Root CA"))
    assert refusal(parse_endorsements, broken) == "ca"


def test_issuer_whose_name_cannot_be_read_is_malformed() -> None:
    data = crl().replace(b"Simulated SGX PCK", b"Simulated\xff\xfe\xffSGX PCK"[:17])
    assert refusal(ca_of, x509.load_der_x509_crl(data)) == "ca"


def test_genuine_set_in_date_is_accepted_to_the_second() -> None:
    one = verify_endorsements(GOOD, ANCHOR, NOW)
    assert one == parse_endorsements(GOOD)
    for at in (one.whole.issued, one.whole.until):
        verify_endorsements(GOOD, ANCHOR, at)
    for at, code in ((one.whole.issued - 1, "not_yet_valid"), (one.whole.until + 1, "expired")):
        assert refusal(verify_endorsements, GOOD, ANCHOR, at, error=EvidenceError) == code


def test_set_under_another_root_is_refused() -> None:
    seen = refusal(verify_endorsements, GOOD, INTEL_ANCHOR, NOW, error=EvidenceError)
    assert seen == "root"


@pytest.mark.parametrize("field", ["tcb_info_signature", "qe_identity_signature"])
def test_forged_signature_is_refused(field: str) -> None:
    forged = changed(**{field: bytes(63) + b"\x01"})
    assert refusal(verify_endorsements, forged, ANCHOR, NOW, error=EvidenceError) == "signature"
    with pytest.raises(EvidenceError):
        verify_own_root(parse_endorsements(forged))


@pytest.mark.parametrize("field", ["pck_crl", "root_ca_crl"])
def test_forged_revocation_list_is_refused(field: str) -> None:
    data = bytearray(getattr(GOOD, field))
    data[-1] ^= 1
    forged = changed(**{field: bytes(data)})
    assert refusal(verify_endorsements, forged, ANCHOR, NOW, error=EvidenceError) == "signature"


@pytest.mark.parametrize("name", ["tcb_signing", "platform_ca"])
def test_set_by_a_revoked_issuer_is_refused(name: str) -> None:
    revoked = issued(revoked=frozenset({name}))
    assert refusal(verify_endorsements, revoked, ANCHOR, NOW, error=EvidenceError) == "revoked"


def test_set_that_revokes_a_platform_is_accepted() -> None:
    verify_endorsements(issued(revoked=frozenset({"pck"})), ANCHOR, NOW)


def test_issuer_chain_in_another_form_is_malformed() -> None:
    loose = dataclasses.replace(GOOD, tcb_info_issuer_chain=GOOD.tcb_info_issuer_chain + "\n")
    assert refusal(verify_endorsements, loose, ANCHOR, NOW) == "not_canonical"


def test_root_of_its_own_makes_a_set_simulated_whatever_the_time() -> None:
    assert verify_own_root(parse_endorsements(GOOD)) == ANCHOR
    assert verify_own_root(parse_endorsements(issued(tcb_expires=-1800))) == ANCHOR
    assert ANCHOR.trust_domain == "simulated"


def test_sets_in_date_come_first_and_then_the_newest() -> None:
    old = parse_endorsements(issued(evaluation_number=19, tcb_issued=-40))
    new = parse_endorsements(issued(evaluation_number=20, tcb_issued=-50))
    later = parse_endorsements(
        issued(evaluation_number=20, tcb_issued=-30, qe_issued=-30, crl_issued=-30)
    )
    gone = parse_endorsements(issued(evaluation_number=21, qe_evaluation_number=21, tcb_expires=-5))
    assert in_order([gone, old, later, new], NOW) == [later, new, old, gone]
    assert in_order([gone, new], NOW - 20) == [gone, new]


def test_quote_says_what_endorsements_it_needs() -> None:
    platform = platform_of(bench.quote())
    one = parse_endorsements(GOOD)
    assert platform == Platform(fmspc=one.fmspc, pce_id="0000", ca="platform")
    assert one.is_for(platform)
    for change in ({"fmspc": "00" * 6}, {"pce_id": "0001"}, {"ca": "processor"}):
        assert not one.is_for(dataclasses.replace(platform, **change))


def test_quote_without_a_platform_certificate_needs_none() -> None:
    bare = bench.raw_quote().replace(b"CERTIFICATE", b"CERTIFICATX")
    assert refusal(platform_of, parse_quote(bare)) == "pck"


def test_file_of_a_set_is_read_back_byte_for_byte() -> None:
    data = encode_dcap_collateral(GOOD)
    assert parse_dcap_collateral(data) == GOOD
    assert encode_dcap_collateral(parse_dcap_collateral(data)) == data
    assert set(json.loads(data)) == {field.name for field in dataclasses.fields(Collateral)}


@given(
    st.sampled_from(dataclasses.fields(Collateral)), st.integers(min_value=0), st.integers(1, 255)
)
def test_every_changed_byte_of_a_set_is_refused(
    field: dataclasses.Field[Any], place: int, change: int
) -> None:
    held = getattr(GOOD, field.name)
    data = bytearray(held if isinstance(held, bytes) else held.encode())
    data[place % len(data)] ^= change
    try:
        value = bytes(data) if isinstance(held, bytes) else bytes(data).decode()
    except UnicodeDecodeError:
        return
    with pytest.raises((EvidenceError, MalformedError)):
        verify_endorsements(changed(**{field.name: value}), ANCHOR, NOW)


def test_real_sets_are_intels_and_hold_when_their_manifest_says() -> None:
    folder = vectors_path.need("tdx")
    entries = json.loads((folder / "_collateral" / "manifest.json").read_bytes())["entries"]
    for entry in entries:
        one = parse_endorsements(parse_dcap_collateral((folder / entry["file"]).read_bytes()))
        assert one.fmspc == entry["fmspc"]
        assert (one.tcb_number, one.qe_number) == (entry["tcb_eval"], entry["qe_eval"])
        # The manifest gives a list's nextUpdate, at which it no longer holds.
        until = entry["valid_until"] - one.whole.name.endswith("CRL")
        assert (one.whole.issued, one.whole.until) == (entry["valid_from"], until)
        assert verify_own_root(one).trust_domain == "intel"
        verify_endorsements(one.collateral, INTEL_ANCHOR, one.whole.until)
    assert entries
