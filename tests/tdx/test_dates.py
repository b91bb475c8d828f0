"""The stated range is the range: a quote verifies at both its ends and at neither neighbour."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.errors import EvidenceError
from attestation.tdx.anchor import Anchor
from attestation.tdx.chain import encode_pem, split_pem
from attestation.tdx.collateral import Collateral
from attestation.tdx.dates import Part, collateral_parts, require_in_date, shared
from attestation.tdx.dcap import verify_quote
from attestation.tdx.quote import Quote, parse_quote
from gateway.attester.simulated.pki import der_bytes
from gateway.attester.simulated.platform import SimulatedPlatform
from tests.refusals import refusal
from tests.tdx import bench

NOW = bench.NOW
Evidence = tuple[Quote, Collateral, Anchor]


def evidence(one: SimulatedPlatform) -> Evidence:
    return parse_quote(one.quote(bench.REPORT_DATA)), one.collateral(), one.anchor


def with_text(name: str) -> Callable[[int, int], Evidence]:
    def make(first: int, last: int) -> Evidence:
        dates = {f"{name}_issued": first, f"{name}_expires": last}
        return evidence(bench.changed(bench.platform(), endorsements=dates))

    return make


def with_list(name: str) -> Callable[[int, int], Evidence]:
    """Only one of the two lists has these dates; it holds to the second before nextUpdate."""

    def make(first: int, last: int) -> Evidence:
        quote, whole, anchor = evidence(bench.platform())
        dated = bench.endorsed(crl_issued=first, crl_expires=last + 1)
        return quote, replace(whole, **{name: getattr(dated, name)}), anchor

    return make


def with_certificate(name: str, key: str) -> Callable[[int, int], Evidence]:
    def make(first: int, last: int) -> Evidence:
        one = bench.changed(bench.platform())
        pki = one._pki
        redated = dated_again(getattr(pki, name), getattr(pki, key), first, last)
        setattr(pki, name, redated)
        if name == "root":
            one.anchor = Anchor(der_bytes(redated))
        return evidence(one)

    return make


def dated_again(old: x509.Certificate, key: object, first: int, last: int) -> x509.Certificate:
    builder = x509.CertificateBuilder(
        issuer_name=old.issuer,
        subject_name=old.subject,
        public_key=old.public_key(),
        serial_number=old.serial_number,
        not_valid_before=dt.datetime.fromtimestamp(NOW + first, dt.UTC),
        not_valid_after=dt.datetime.fromtimestamp(NOW + last, dt.UTC),
        extensions=list(old.extensions),
    )
    return builder.sign(key, hashes.SHA256())  # type: ignore[arg-type]


NARROWEST = {
    "TCB info": with_text("tcb"),
    "QE identity": with_text("qe"),
    "PCK CRL": with_list("pck_crl"),
    "root CRL": with_list("root_ca_crl"),
    "TCB info signer, QE identity signer": with_certificate("tcb_signing", "root_key"),
    "PCK CRL issuer, CA over the PCK certificate": with_certificate("platform_ca", "root_key"),
    "PCK certificate": with_certificate("pck", "platform_key"),
    "root CA": with_certificate("root", "root_key"),
}


@pytest.mark.parametrize("name", NARROWEST)
@settings(max_examples=8)
@given(first=st.integers(-1800, 0), last=st.integers(0, 1800))
def test_stated_range_is_the_range_in_which_a_quote_verifies(
    name: str, first: int, last: int
) -> None:
    quote, collateral, anchor = NARROWEST[name](first, last)
    genuine = verify_quote(quote, collateral, NOW, anchor)
    assert genuine.holds == Part(name=name, issued=NOW + first, until=NOW + last)
    for at, code in (
        (NOW + first - 1, "not_yet_valid"),
        (NOW + first, "genuine"),
        (NOW + last, "genuine"),
        (NOW + last + 1, "expired"),
    ):
        assert bench.code_of(quote, collateral, at=at, anchor=anchor) == code


@given(
    st.fixed_dictionaries(
        {
            "tcb_issued": st.integers(-1800, 0),
            "qe_issued": st.integers(-1800, 0),
            "crl_issued": st.integers(-1800, 0),
            "tcb_expires": st.integers(1, 1800),
            "qe_expires": st.integers(1, 1800),
            "crl_expires": st.integers(1, 1800),
        }
    )
)
@settings(max_examples=20)
def test_range_of_several_dated_parts_is_what_they_share(dates: dict[str, int]) -> None:
    quote, collateral, anchor = evidence(bench.changed(bench.platform(), endorsements=dict(dates)))
    held = verify_quote(quote, collateral, NOW, anchor).holds
    for at, code in (
        (held.issued - 1, "not_yet_valid"),
        (held.issued, "genuine"),
        (held.until, "genuine"),
        (held.until + 1, "expired"),
    ):
        assert bench.code_of(quote, collateral, at=at, anchor=anchor) == code


def test_list_from_the_future_is_refused_by_its_name() -> None:
    quote, collateral, anchor = with_list("root_ca_crl")(60, 1800)
    with pytest.raises(EvidenceError, match="root CRL does not hold yet") as caught:
        verify_quote(quote, collateral, NOW, anchor)
    assert caught.value.code == "not_yet_valid"
    assert caught.value.observed.startswith("root CRL, good from ")


def test_part_that_ends_first_gives_its_name_and_several_give_all() -> None:
    one = Part(name="a", issued=1, until=9)
    two = Part(name="b", issued=3, until=7)
    assert shared([one, two]) == Part(name="b", issued=3, until=7)
    also = replace(two, name="c", issued=0)
    assert shared([two, one, also, two]) == Part(name="b, c", issued=3, until=7)


def test_every_part_has_to_be_in_date() -> None:
    parts = [Part(name="a", issued=1, until=9), Part(name="b", issued=3, until=7)]
    for at in (3, 7):
        require_in_date(parts, at)
    for at, code in ((2, "not_yet_valid"), (8, "expired")):
        assert refusal(require_in_date, parts, at, error=EvidenceError) == code


def test_certificates_between_issuer_and_root_are_parts_too() -> None:
    good = bench.collateral()
    longer = replace(good, tcb_info_issuer_chain=bench.platform()._pki.pck_chain().decode())
    names = [part.name for part in collateral_parts(longer)]
    assert names[4:] == [
        "TCB info signer",
        "CA over the TCB info signer",
        "QE identity signer",
        "PCK CRL issuer",
        "root CA",
    ]


def test_certificate_whose_names_cannot_be_read_is_malformed() -> None:
    chain = split_pem(bench.collateral().tcb_info_issuer_chain.encode(), what="the chain")
    broken = chain[0].replace(b"Simulated SGX Root CA", b"Simulated SGX Root \xff\xfe")
    assert broken != chain[0]
    text = encode_pem([broken, chain[1]]).decode()
    changed = replace(bench.collateral(), tcb_info_issuer_chain=text)
    assert refusal(collateral_parts, changed) == "certificate"
