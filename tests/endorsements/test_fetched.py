"""What a service answered: malformed, of another, changed or out of date, and refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from attestation.errors import (
    AttestationError,
    EvidenceError,
    MalformedError,
)
from attestation.tdx.anchor import INTEL_ANCHOR
from attestation.tdx.collateral import Collateral
from gateway.attester.simulated.facts import DAY, Endorsements, Machine
from gateway.attester.simulated.platform import SimulatedPlatform
from gateway.endorsements.service import fetch_endorsements
from gateway.endorsements.transfer import Transfer
from tests.endorsements import pcs
from tests.endorsements.fetching import GOOD, NOW, PLATFORM, WANTED, Steps, fetch, run
from tests.endorsements.pcs import PCK_CRL, QE, ROOT_CRL, TCB, PcsDouble, serving
from tests.refusals import refusal

MALFORMED: list[tuple[str, Any]] = [
    (TCB, pcs.body(b"")),
    (TCB, pcs.body(b"[]")),
    (TCB, pcs.body(b"<html>busy</html>")),
    (TCB, pcs.edited(lambda data: data.replace(b'"signature"', b'"Signature"'))),
    (TCB, pcs.edited(lambda data: data.replace(b'"tcbInfo"', b'"enclaveIdentity"'))),
    (TCB, pcs.edited(lambda data: data.replace(b'{"tcbInfo":', b'{"tcbInfo":1,"tcbInfo":'))),
    (TCB, pcs.edited(lambda data: data[:-3] + b'"}')),
    (TCB, pcs.edited(lambda data: data[:-2] + b'",\x00}')),
    (TCB, pcs.edited(lambda data: data[:-1] + b',"more":1}')),
    (TCB, pcs.body(b'{"tcbInfo":"{}","signature":"' + b"00" * 64 + b'"}')),
    (QE, pcs.body(b'{"enclaveIdentity":{},"signature":"' + b"00" * 64 + b'"}')),
    (QE, pcs.without_headers),
    (TCB, pcs.without_headers),
    (PCK_CRL, pcs.without_headers),
    (PCK_CRL, pcs.header("SGX-PCK-CRL-Issuer-Chain", "")),
    (PCK_CRL, pcs.header("SGX-PCK-CRL-Issuer-Chain", "%00%ff")),
    (PCK_CRL, pcs.header("SGX-PCK-CRL-Issuer-Chain", "A" * 40_000)),
    (PCK_CRL, pcs.body(b"-----BEGIN X509 CRL-----\n")),
    (PCK_CRL, pcs.edited(lambda data: data[:-9])),
    (PCK_CRL, pcs.body(b"30")),
    (PCK_CRL, pcs.body(b"ff" * 40)),
    (ROOT_CRL, pcs.body(b"")),
    (ROOT_CRL, pcs.body(b"Not Found")),
]


@pytest.mark.parametrize(("document", "fault"), MALFORMED)
def test_answer_that_is_none_is_malformed(double: PcsDouble, document: str, fault: Any) -> None:
    double.fail(document, fault)
    assert refusal(fetch, double, error=MalformedError)


def other_fmspc() -> Collateral:
    return SimulatedPlatform(
        now=NOW,
        seed=b"fetched",
        machine=Machine(fmspc=b"\xff" * 6),
        endorsements=Endorsements(fmspc=b"\xff" * 6),
    ).collateral()


def swapped(name: str, other: Collateral, document: str) -> pcs.Fault:
    chain = pcs.honest(other, document, hexadecimal=False).headers
    return lambda reply: dataclasses.replace(reply, headers={name: next(iter(chain.values()))})


STRANGER = SimulatedPlatform(now=NOW, seed=b"stranger").collateral()
REFUSED: list[tuple[str, Any, set[str]]] = [
    # The answer for another platform, rightly signed.
    (TCB, lambda _: pcs.honest(other_fmspc(), TCB, hexadecimal=False), {"fmspc"}),
    # One byte of a signed text.
    (TCB, pcs.edited(lambda data: data.replace(b'"tcbType":0', b'"tcbType":1')), {"signature"}),
    (QE, pcs.edited(lambda data: data.replace(b'"isvprodid":2', b'"isvprodid":3')), {"signature"}),
    # The same value, written anew: that is not the text that was signed.
    (
        TCB,
        pcs.edited(lambda data: json.dumps(json.loads(data)).encode()),
        {"signature"},
    ),
    # Issuers of another text, of another root.
    (
        TCB,
        pcs.header("TCB-Info-Issuer-Chain", quote(GOOD.pck_crl_issuer_chain)),
        {"signature"},
    ),
    (
        PCK_CRL,
        pcs.header("SGX-PCK-CRL-Issuer-Chain", quote(GOOD.tcb_info_issuer_chain)),
        {"signature"},
    ),
    (TCB, swapped("TCB-Info-Issuer-Chain", STRANGER, TCB), {"root"}),
    (QE, lambda _: pcs.honest(STRANGER, QE, hexadecimal=False), {"root"}),
    (PCK_CRL, lambda _: pcs.honest(STRANGER, PCK_CRL, hexadecimal=False), {"root"}),
    (ROOT_CRL, lambda _: pcs.honest(STRANGER, ROOT_CRL, hexadecimal=False), {"signature"}),
    # The lists in each other's place.
    (ROOT_CRL, pcs.body(GOOD.pck_crl), {"signature"}),
]


@pytest.mark.parametrize(("document", "fault", "codes"), REFUSED)
def test_answer_that_does_not_verify_is_refused_and_not_stored(
    double: PcsDouble, tmp_path: Path, document: str, fault: Any, codes: set[str]
) -> None:
    double.fail(document, fault)
    assert refusal(fetch, double, error=EvidenceError) in codes
    assert run(double, tmp_path / "store") == 10
    assert not (tmp_path / "store").exists()


def test_revocation_list_of_the_other_authority_is_refused(double: PcsDouble) -> None:
    # The double has no such list; a service that ignores `ca` gives the one it has.
    double.fail(PCK_CRL, lambda _: pcs.honest(GOOD, PCK_CRL, hexadecimal=False))
    assert refusal(fetch, double, ca="processor", error=EvidenceError) == "fmspc"


@pytest.mark.parametrize(
    ("facts", "code"),
    [
        ({"tcb_expires": -1}, "expired"),
        ({"qe_expires": -1}, "expired"),
        ({"crl_expires": -1}, "expired"),
        ({"tcb_issued": 60}, "not_yet_valid"),
        ({"revoked": frozenset({"tcb_signing"})}, "revoked"),
    ],
)
def test_set_out_of_date_or_revoked_is_refused(facts: dict[str, Any], code: str) -> None:
    late = PLATFORM.but(endorsements=Endorsements(**facts)).collateral()
    with serving(late) as double:
        assert refusal(fetch, double, error=EvidenceError) == code


def test_simulated_set_is_refused_where_intels_root_is_asked_for(double: PcsDouble) -> None:
    source = Transfer(Steps().patience())
    with pytest.raises(AttestationError) as caught:
        fetch_endorsements(double.pcs, WANTED, source, INTEL_ANCHOR, NOW)
    assert caught.value.code == "root"


def test_dates_of_the_platform_do_not_matter_to_a_fetch() -> None:
    # A platform whose own certificate has ended is a matter for who judges its quotes.
    ended = SimulatedPlatform(now=NOW, seed=b"fetched", machine=Machine(pck_not_after=-DAY // 2))
    with serving(ended.collateral()) as double:
        assert fetch(double) == ended.collateral()
