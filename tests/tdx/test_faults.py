"""Every fault a platform or its endorsements can show, each refused for its own reason.

The simulator makes the fault, the product names it, and a second appraisal that was written
from the specification alone (`second_opinion`) must find the same reason.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from attestation.tdx.anchor import INTEL_ANCHOR
from attestation.tdx.dcap import POLICY_CODES, find_refusals
from attestation.tdx.quote import parse_quote
from gateway.attester.simulated.facts import (
    CPU_SVN,
    DAY,
    SEPT_VE_DISABLE,
    TDX_COMPONENTS,
    SvnLevel,
    TcbLevel,
)
from gateway.attester.simulated.platform import SimulatedPlatform
from tests.tdx import bench
from tests.tdx.second_opinion import appraise

V4, V5 = bench.platform(4), bench.platform(5)
HIGH = bytes((255,)) * 16
HIDDEN_BITS = (16, 18, 19, 20, 21, 22, 27, 30, 31, 62, 63)
RESERVED_BITS = (*range(1, 16), *range(23, 27), *range(32, 62))


def raised(svns: bytes, index: int, by: int = 1) -> bytes:
    return svns[:index] + bytes((svns[index] + by,)) + svns[index + 1 :]


# name: (version, what differs from the healthy platform, seconds from now, code)
Fault = tuple[int, dict[str, Any], int, str]
NAMED_FAULTS: dict[str, Fault] = {
    "debug domain": (4, {"domain": {"td_attributes": SEPT_VE_DISABLE | 1}}, 0, "debug"),
    "SEPT_VE_DISABLE off": (4, {"domain": {"td_attributes": 0}}, 0, "sept_ve"),
    "migratable domain": (
        4,
        {"domain": {"td_attributes": SEPT_VE_DISABLE | 1 << 29}},
        0,
        "migratable",
    ),
    "service domain": (5, {"domain": {"mr_service_td": bytes(47) + b"\x01"}}, 0, "service_td"),
    "service domain extension": (
        4,
        {"domain": {"td_attributes": SEPT_VE_DISABLE | 1 << 17}},
        0,
        "service_td",
    ),
    "PCK revoked": (4, {"endorsements": {"revoked": frozenset({"pck"})}}, 0, "revoked"),
    "platform CA revoked": (
        4,
        {"endorsements": {"revoked": frozenset({"platform_ca"})}},
        0,
        "revoked",
    ),
    "TCB signer revoked": (
        4,
        {"endorsements": {"revoked": frozenset({"tcb_signing"})}},
        0,
        "revoked",
    ),
    "platform revoked": (
        4,
        {"endorsements": {"levels": (TcbLevel(status="Revoked"),)}},
        0,
        "revoked",
    ),
    "TDX module revoked": (
        4,
        {"endorsements": {"module_levels": (SvnLevel(status="Revoked"),)}},
        0,
        "revoked",
    ),
    "quoting enclave revoked": (
        4,
        {"endorsements": {"qe_levels": (SvnLevel(status="Revoked"),)}},
        0,
        "revoked",
    ),
    "TCB info expired": (4, {"endorsements": {"tcb_expires": 9}}, 10, "expired"),
    "QE identity expired": (4, {"endorsements": {"qe_expires": 9}}, 10, "expired"),
    "revocation lists expired": (4, {"endorsements": {"crl_expires": 9}}, 10, "expired"),
    "PCK certificate expired": (4, {"machine": {"pck_not_after": 9}}, 10, "expired"),
    "everything expired": (4, {}, 31 * DAY, "expired"),
    "certificates expired": (4, {}, 8 * 365 * DAY, "expired"),
    "TCB info of the future": (4, {"endorsements": {"tcb_issued": 11}}, 10, "not_yet_valid"),
    "QE identity of the future": (4, {"endorsements": {"qe_issued": 11}}, 10, "not_yet_valid"),
    "PCK certificate of the future": (4, {"machine": {"pck_not_before": 11}}, 10, "not_yet_valid"),
    "before everything": (4, {}, -2 * DAY, "not_yet_valid"),
    "another platform family": (4, {"endorsements": {"fmspc": bytes(6)}}, 0, "fmspc"),
    "another PCE": (4, {"endorsements": {"pce_id": b"\x00\x01"}}, 0, "fmspc"),
    "PCE below every level": (4, {"machine": {"pce_svn": 12}}, 0, "no_tcb_level"),
    "no level at all": (4, {"endorsements": {"levels": (TcbLevel(sgx=HIGH),)}}, 0, "no_tcb_level"),
    "module below every level": (
        4,
        {"machine": {"tee_tcb_svn": bytes((3, 1, 3)) + bytes(13)}},
        0,
        "no_tcb_level",
    ),
    "module of an unlisted version": (
        4,
        {"machine": {"tee_tcb_svn": bytes((6, 2, 3)) + bytes(13)}},
        0,
        "no_tcb_level",
    ),
    "module of another signer": (
        4,
        {"machine": {"mr_signer_seam": bytes(47) + b"\x01"}},
        0,
        "module",
    ),
    "old module of another signer": (
        4,
        {
            "machine": {
                "mr_signer_seam": b"\x01" + bytes(47),
                "tee_tcb_svn": bytes((6, 0, 3)) + bytes(13),
            }
        },
        0,
        "module",
    ),
    "module with attributes": (
        4,
        {"machine": {"seam_attributes": bytes(7) + b"\x80"}},
        0,
        "module",
    ),
    "quoting enclave below every level": (4, {"machine": {"qe_isv_svn": 3}}, 0, "qe"),
    "quoting enclave of another signer": (4, {"machine": {"qe_mr_signer": bytes(32)}}, 0, "qe"),
    "another enclave of the signer": (4, {"machine": {"qe_isv_prod_id": 1}}, 0, "qe"),
    "quoting enclave with MISCSELECT": (
        4,
        {"machine": {"qe_misc_select": b"\x01\x00\x00\x00"}},
        0,
        "qe",
    ),
    "debug quoting enclave": (
        4,
        {"machine": {"qe_attributes": bytes.fromhex("1300000000000000e700000000000000")}},
        0,
        "qe",
    ),
    "no authentication data": (4, {"writing": {"auth_data": b""}}, 0, "qe"),
    "short authentication data": (4, {"writing": {"auth_data": bytes(31)}}, 0, "qe"),
    "long authentication data": (4, {"writing": {"auth_data": bytes(33)}}, 0, "qe"),
}
ATTRIBUTE_FAULTS: dict[str, Fault] = {
    f"reserved attribute bit {bit}": (
        4,
        {"domain": {"td_attributes": SEPT_VE_DISABLE | 1 << bit}},
        0,
        "reserved_bits",
    )
    for bit in RESERVED_BITS
}
SGX_FAULTS: dict[str, Fault] = {
    f"SGX component {index} below every level": (
        4,
        {"endorsements": {"levels": (TcbLevel(sgx=raised(CPU_SVN, index)),)}},
        0,
        "no_tcb_level",
    )
    for index in range(16)
}
TDX_FAULTS: dict[str, Fault] = {
    f"TDX component {index} below every level": (
        4,
        {"endorsements": {"levels": (TcbLevel(tdx=raised(TDX_COMPONENTS, index)),)}},
        0,
        "no_tcb_level",
    )
    for index in range(2, 16)
}
FAULTS = NAMED_FAULTS | ATTRIBUTE_FAULTS | SGX_FAULTS | TDX_FAULTS


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_refused_for_its_own_reason(name: str) -> None:
    version, facts, later, code = FAULTS[name]
    one = bench.changed(bench.platform(version), **facts)
    quote, collateral, at = one.quote(bench.REPORT_DATA), one.collateral(), bench.NOW + later
    assert bench.code_of(quote, collateral, at=at) == code
    found = find_refusals(parse_quote(quote), collateral, at, one.anchor)
    assert code in found
    opinion = appraise(quote, collateral, at)
    assert code in opinion.refusals
    assert found <= opinion.refusals


@pytest.mark.parametrize("version", [4, 5])
def test_healthy_platform_is_genuine(version: int) -> None:
    one = bench.platform(version)
    genuine = bench.verify(one)
    opinion = appraise(one.quote(bench.REPORT_DATA), one.collateral(), bench.NOW)
    assert opinion.refusals == set()
    assert genuine.tcb_status == opinion.status == "UpToDate"
    assert genuine.advisory_ids == ()
    assert find_refusals(genuine.quote, one.collateral(), bench.NOW, one.anchor) == frozenset()


@pytest.mark.parametrize("bit", HIDDEN_BITS)
def test_attribute_that_is_left_to_policy_is_no_fault(bit: int) -> None:
    one = bench.changed(V4, domain={"td_attributes": SEPT_VE_DISABLE | 1 << bit})
    assert bench.verify(one).quote.body.td_attributes >> bit & 1
    assert appraise(one.quote(bench.REPORT_DATA), one.collateral(), bench.NOW).refusals == set()


@pytest.mark.parametrize("bit", range(64))
def test_attributes_read_from_the_bits_agree_with_the_verifier(bit: int) -> None:
    one = bench.changed(V4, domain={"td_attributes": SEPT_VE_DISABLE ^ 1 << bit})
    quote = parse_quote(one.quote(bench.REPORT_DATA))
    code = bench.code_of(quote, one.collateral())
    assert quote.body.refused_attributes == (set() if code == "genuine" else {code})


def test_several_reasons_are_all_found() -> None:
    facts = {"domain": {"td_attributes": 1 | 1 << 29}}
    one = bench.changed(V4, endorsements={"tcb_expires": 9}, **facts)
    quote = parse_quote(one.quote(bench.REPORT_DATA))
    found = find_refusals(quote, one.collateral(), bench.NOW + 10, one.anchor)
    assert found == {"debug", "sept_ve", "migratable", "expired"}


PARTS = ("UpToDate", "OutOfDate")
PLATFORM = (
    "UpToDate",
    "SWHardeningNeeded",
    "ConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded",
    "OutOfDate",
    "OutOfDateConfigurationNeeded",
)


@pytest.mark.parametrize("qe", PARTS)
@pytest.mark.parametrize("module", PARTS)
@pytest.mark.parametrize("status", PLATFORM)
def test_status_is_merged_from_platform_module_and_enclave(
    status: str, module: str, qe: str
) -> None:
    endorsements = {
        "levels": (TcbLevel(status=status, advisories=("INTEL-SA-00001", "INTEL-SA-00002")),),
        "module_levels": (SvnLevel(status=module, advisories=("INTEL-SA-00003",)),),
        "qe_levels": (SvnLevel(status=qe, advisories=("INTEL-SA-00002", "INTEL-SA-00004")),),
    }
    one = bench.changed(V4, endorsements=endorsements)
    genuine = bench.verify(one)
    opinion = appraise(one.quote(bench.REPORT_DATA), one.collateral(), bench.NOW)
    assert genuine.tcb_status == opinion.status
    assert set(genuine.advisory_ids) == opinion.advisories
    assert opinion.refusals == set()


@pytest.mark.parametrize("status", ["Bogus", "TDRelaunchAdvised", "uptodate", ""])
def test_status_that_intel_does_not_issue_is_refused(status: str) -> None:
    one = bench.changed(V4, endorsements={"levels": (TcbLevel(status=status),)})
    assert bench.code_of(one.quote(bench.REPORT_DATA), one.collateral()) == "malformed"


def test_first_level_that_fits_counts() -> None:
    levels = (
        TcbLevel(sgx=HIGH, status="UpToDate"),
        TcbLevel(status="SWHardeningNeeded", date="2024-03-13T00:00:00Z"),
        TcbLevel(sgx=bytes(16), status="OutOfDate"),
    )
    genuine = bench.verify(bench.changed(V4, endorsements={"levels": levels}))
    assert genuine.tcb_status == "SWHardeningNeeded"
    assert genuine.tcb_date == "2024-03-13T00:00:00Z"


def test_module_version_replaces_the_first_two_components() -> None:
    # Intel compares components 0 and 1 only where the module has no version of its own.
    machine = {"tee_tcb_svn": bytes((4, 1, 3)) + bytes(13)}
    assert TDX_COMPONENTS[0] > 4
    assert bench.verify(bench.changed(V4, machine=machine)).tcb_status == "UpToDate"
    machine = {"tee_tcb_svn": bytes((4, 0, 3)) + bytes(13)}
    one = bench.changed(V4, machine=machine)
    assert bench.code_of(one.quote(bench.REPORT_DATA), one.collateral()) == "no_tcb_level"


def test_domain_that_runs_on_an_old_module_is_advised_to_relaunch() -> None:
    machine = {"tee_tcb_svn": bytes((6, 1, 2)) + bytes(13)}
    old = TcbLevel(tdx=bytes((5, 0, 2)) + bytes(13), status="OutOfDate")
    one = bench.changed(V5, machine=machine, endorsements={"levels": (TcbLevel(), old)})
    assert bench.verify(one).tcb_status == "TDRelaunchAdvised"
    same = bench.changed(one, machine={"tee_tcb_svn2": machine["tee_tcb_svn"]})
    assert bench.verify(same).tcb_status == "OutOfDate"


@pytest.mark.parametrize("crl_extensions", [True, False])
def test_revocation_list_without_its_extensions_is_refused(crl_extensions: bool) -> None:
    one = bench.changed(V4, endorsements={"crl_extensions": crl_extensions})
    code = bench.code_of(one.quote(bench.REPORT_DATA), one.collateral())
    assert code == ("genuine" if crl_extensions else "malformed")


@pytest.mark.parametrize(("name", "value"), [("tcb_id", "SGX"), ("qe_id", "QE")])
def test_collateral_for_another_tee_is_refused(name: str, value: str) -> None:
    one = bench.changed(V4, endorsements={name: value})
    code = bench.code_of(one.quote(bench.REPORT_DATA), one.collateral())
    assert code == "malformed"


def test_simulated_quote_is_not_genuine_under_intels_root() -> None:
    code = bench.code_of(bench.raw_quote(), bench.collateral(), anchor=INTEL_ANCHOR)
    assert code == "root"


def test_collateral_of_another_root_is_refused() -> None:
    other = SimulatedPlatform(now=bench.NOW, seed=b"other")
    assert bench.code_of(bench.raw_quote(), other.collateral()) == "root"
    own, foreign = bench.collateral(), other.collateral()
    mixed = replace(own, root_ca_crl=foreign.root_ca_crl)
    assert bench.code_of(bench.raw_quote(), mixed) == "signature"


def test_missing_issuer_chain_of_the_revocation_list_is_no_fault() -> None:
    one = bench.changed(V4, endorsements={"crl_issuer_chain": False})
    assert one.collateral().pck_crl_issuer_chain == ""
    assert bench.verify(one).tcb_status == "UpToDate"


def test_single_package_platform_is_genuine_without_an_instance() -> None:
    genuine = bench.verify(bench.changed(V4, machine={"single_package": True}))
    assert genuine.piid is None


def test_forged_quote_is_refused_as_forged_whatever_else_is_wrong() -> None:
    one = bench.changed(V4, domain={"td_attributes": 1}, endorsements={"tcb_expires": 9})
    forged = bench.flipped(one.quote(bench.REPORT_DATA), 300)
    for at in (bench.NOW, bench.NOW + 10):
        assert bench.code_of(forged, one.collateral(), at=at) == "signature"
    assert "signature" not in POLICY_CODES


def test_forged_collateral_is_refused_as_forged_even_when_it_has_expired() -> None:
    collateral = bench.collateral()
    forged = replace(collateral, tcb_info=collateral.tcb_info.replace("UpToDate", "OutOfDate"))
    at = bench.NOW + 31 * DAY
    assert bench.code_of(bench.raw_quote(), collateral, at=at) == "expired"
    assert bench.code_of(bench.raw_quote(), forged, at=at) == "signature"


def test_other_half_of_a_signature_pair_is_as_genuine() -> None:
    # (r, n - s) verifies wherever (r, s) does, which is why a quote is named by its signed
    # region: the two have one digest.
    one = bench.changed(V4, writing={"complement_s": True})
    assert one.quote(bench.REPORT_DATA) != bench.raw_quote()
    assert bench.verify(one).quote.digest == bench.quote().digest


def test_genuine_quote_carries_what_policy_needs() -> None:
    machine = {"fmspc": b"fmspc!", "ppid": bytes(range(16)), "piid": bytes(range(1, 17))}
    endorsements = {
        "fmspc": b"fmspc!",
        "evaluation_number": 21,
        "qe_evaluation_number": 19,
        "tcb_issued": -50,
        "qe_issued": -40,
        "tcb_expires": 60,
        "qe_expires": 70,
        "crl_expires": 80,
    }
    genuine = bench.verify(bench.changed(V5, machine=machine, endorsements=endorsements))
    assert (genuine.fmspc, genuine.ppid) == (machine["fmspc"], machine["ppid"])
    assert genuine.piid == machine["piid"]
    assert genuine.tcb_evaluation_number == 19
    assert genuine.tcb_date == TcbLevel().date
    assert genuine.holds.issued == bench.NOW - 40
    assert genuine.holds.until == bench.NOW + 60
    assert genuine.trust_domain == "simulated"


@pytest.mark.parametrize(
    "endorsements",
    [
        {"evaluation_number": 5, "qe_evaluation_number": 6},
        {"evaluation_number": 6, "qe_evaluation_number": 5},
    ],
)
def test_lower_evaluation_number_counts(endorsements: dict[str, int]) -> None:
    genuine = bench.verify(bench.changed(V4, endorsements=endorsements))
    assert genuine.tcb_evaluation_number == 5


@pytest.mark.parametrize("name", ["tcb", "qe", "crl"])
def test_earliest_expiry_bounds_the_collateral(name: str) -> None:
    one = bench.changed(V4, endorsements={f"{name}_expires": 33})
    # A list no longer holds at its nextUpdate itself.
    assert bench.verify(one).holds.until == bench.NOW + (32 if name == "crl" else 33)
    assert bench.verify(one, at=bench.NOW + 32).tcb_status == "UpToDate"
    code = bench.code_of(one.quote(bench.REPORT_DATA), one.collateral(), at=bench.NOW + 34)
    assert code == "expired"
