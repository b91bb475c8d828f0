"""Faults of platform, endorsements and trust domain, each refused by its own check."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest

from attestation.encoding.instants import instant
from attestation.errors import UsageError
from attestation.result import AttestationResult, Status, Verdict
from attestation.tdx.anchor import INTEL_ANCHOR
from attestation.tdx.codes import POLICY_CODES
from attestation.verifier import quotes
from gateway.attester.simulated.facts import (
    DAY,
    Domain,
    Endorsements,
    Machine,
    SvnLevel,
    TcbLevel,
    Writing,
)
from gateway.attester.simulated.platform import SimulatedPlatform
from tests.support.bundles import NOW, Gateway, failed, open_checks, the_check

PLATFORM = SimulatedPlatform(now=NOW, seed=b"platform")
ROOT = PLATFORM.anchor
SEVEN = bytes([7]) * 48


def gateway(**facts: Any) -> Gateway:
    made = Gateway(platform=PLATFORM.but(**facts))
    made.plain()
    return made


def refused(result: AttestationResult, verdict: Verdict, id_: str) -> None:
    assert result.verdict is verdict
    assert failed(result) == {id_}


HEALTHY = gateway()


def test_healthy_platform_is_simulated_at_best() -> None:
    result = HEALTHY.verify()
    assert result.verdict is Verdict.SIMULATED
    assert result.trust_domains == {"simulated"}
    assert not failed(result)


@pytest.mark.parametrize("version", [4, 5])
def test_both_quote_versions_are_verified(version: int) -> None:
    made = Gateway(version=version)
    made.plain()
    assert made.verify().verdict is Verdict.SIMULATED


@pytest.mark.parametrize(
    ("facts", "id_"),
    [
        ({"domain": Domain(td_attributes=1 << 28 | 1)}, "TD-ATTRIBUTES"),
        ({"domain": Domain(td_attributes=0)}, "TD-ATTRIBUTES"),
        ({"domain": Domain(td_attributes=1 << 28 | 1 << 29)}, "TD-ATTRIBUTES"),
        ({"domain": Domain(td_attributes=1 << 28 | 1 << 8)}, "TD-ATTRIBUTES"),
        ({"domain": Domain(td_attributes=1 << 28 | 1 << 63)}, "TD-ATTRIBUTES"),
        ({"domain": Domain(td_attributes=1 << 28 | 1 << 30)}, "TD-ATTRIBUTES"),
        ({"domain": Domain(xfam=0xE7)}, "TD-ATTRIBUTES"),
        ({"machine": Machine(seam_attributes=b"\x01" + bytes(7))}, "QUOTE-GENUINE"),
        ({"machine": Machine(pce_svn=1)}, "TCB-STATUS"),
        ({"endorsements": Endorsements(tcb_expires=-1, tcb_issued=-2)}, "COLLATERAL-FRESH"),
        ({"endorsements": Endorsements(qe_expires=-1, qe_issued=-2)}, "COLLATERAL-FRESH"),
        ({"endorsements": Endorsements(crl_expires=-1, crl_issued=-2)}, "COLLATERAL-FRESH"),
        ({"endorsements": Endorsements(tcb_issued=DAY)}, "COLLATERAL-FRESH"),
        ({"endorsements": Endorsements(revoked=frozenset({"pck"}))}, "QUOTE-GENUINE"),
        ({"endorsements": Endorsements(revoked=frozenset({"tcb_signing"}))}, "QUOTE-GENUINE"),
        ({"endorsements": Endorsements(signer="pck")}, "QUOTE-GENUINE"),
        ({"endorsements": Endorsements(fmspc=SEVEN[:6])}, "QUOTE-GENUINE"),
    ],
)
def test_fault_fails_the_check_of_its_matter(facts: dict[str, Any], id_: str) -> None:
    made = gateway(**facts)
    verdict = Verdict.REJECTED if id_ == "QUOTE-GENUINE" else Verdict.NOT_ACCEPTED
    result = made.verify(policy=HEALTHY.policy())
    refused(result, verdict, id_)
    check = the_check(result, id_)
    assert check.observed
    assert check.reason
    if verdict is Verdict.NOT_ACCEPTED:
        assert check.expected
        assert check.hint
        assert check.reason != "the quote does not verify"


def test_every_code_that_is_no_forgery_has_a_check_and_words_of_its_own() -> None:
    assert quotes.MATTERS.keys() == POLICY_CODES
    assert {id_ for id_, _, _ in quotes.MATTERS.values()} == {
        "COLLATERAL-FRESH", "TCB-STATUS", "TD-ATTRIBUTES",
    }  # fmt: skip
    reasons = [reason for _, reason, _ in quotes.MATTERS.values()]
    assert len(set(reasons)) == len(reasons)


def test_service_domain_is_refused() -> None:
    made = Gateway(
        platform=PLATFORM.but(domain=Domain(mr_service_td=SEVEN), writing=Writing(version=5))
    )
    made.plain()
    refused(made.verify(), Verdict.NOT_ACCEPTED, "TD-ATTRIBUTES")


def test_refusal_on_time_leaves_genuine_open_and_says_where_to_look() -> None:
    result = HEALTHY.verify(at=NOW + 60 * DAY)
    refused(result, Verdict.NOT_ACCEPTED, "COLLATERAL-FRESH")
    genuine = the_check(result, "QUOTE-GENUINE")
    assert genuine.status is Status.SKIP
    assert "every signature holds" in genuine.reason
    assert "COLLATERAL-FRESH" in genuine.reason
    assert {"MEASUREMENTS", "EVENT-LOG", "TCB-STATUS"} <= open_checks(result)


def test_no_level_shows_the_hint_of_the_quote_verifier() -> None:
    check = the_check(gateway(machine=Machine(pce_svn=1)).verify(), "TCB-STATUS")
    assert check.hint
    assert check.observed


STATUSES = [
    (Endorsements(levels=(TcbLevel(status="SWHardeningNeeded"),)), "SWHardeningNeeded"),
    (Endorsements(levels=(TcbLevel(status="ConfigurationNeeded"),)), "ConfigurationNeeded"),
    (Endorsements(levels=(TcbLevel(status="OutOfDate"),)), "OutOfDate"),
    (Endorsements(module_levels=(SvnLevel(status="OutOfDate"),)), "OutOfDate"),
    (Endorsements(qe_levels=(SvnLevel(status="OutOfDate"),)), "OutOfDate"),
]


@pytest.mark.parametrize(("endorsements", "status"), STATUSES)
def test_status_is_accepted_only_if_listed(endorsements: Endorsements, status: str) -> None:
    made = gateway(endorsements=endorsements)
    result = made.verify()
    refused(result, Verdict.NOT_ACCEPTED, "TCB-STATUS")
    assert status in the_check(result, "TCB-STATUS").reason
    listed = f'tcb_status = [{{ status = "{status}", until = {NOW + 61} }}]'
    assert made.verify(policy=made.policy(tdx=listed)).verdict is Verdict.SIMULATED


def test_status_is_accepted_until_the_instant_it_ends() -> None:
    made = gateway(endorsements=Endorsements(levels=(TcbLevel(status="OutOfDate"),)))
    policy = made.policy(tdx=f'tcb_status = [{{ status = "OutOfDate", until = {NOW + 60} }}]')
    assert made.verify(policy=policy, at=NOW + 59).verdict is Verdict.SIMULATED
    result = made.verify(policy=policy, at=NOW + 60)
    refused(result, Verdict.NOT_ACCEPTED, "TCB-STATUS")
    check = the_check(result, "TCB-STATUS")
    assert "run out" in check.reason
    assert check.expected == f"OutOfDate before {instant(NOW + 60)}"


def test_current_platform_is_refused_by_a_policy_that_wants_another_status() -> None:
    policy = HEALTHY.policy(tdx='tcb_status = ["SWHardeningNeeded"]')
    refused(HEALTHY.verify(policy=policy), Verdict.NOT_ACCEPTED, "TCB-STATUS")


def test_advisories_are_accepted_only_by_name_and_until_their_end() -> None:
    level = TcbLevel(advisories=("INTEL-SA-00001", "INTEL-SA-00002"))
    made = gateway(endorsements=Endorsements(levels=(level,)))
    result = made.verify()
    refused(result, Verdict.NOT_ACCEPTED, "TCB-ADVISORIES")
    assert the_check(result, "TCB-ADVISORIES").observed == "INTEL-SA-00001, INTEL-SA-00002"
    one = f'{{ id = "INTEL-SA-00001", until = {NOW + 100} }}'
    two = f'{{ id = "INTEL-SA-00002", until = {NOW + 60} }}'
    result = made.verify(policy=made.policy(tdx=f"advisories = [{one}]"))
    assert the_check(result, "TCB-ADVISORIES").observed == "INTEL-SA-00002"
    policy = made.policy(tdx=f"advisories = [{one}, {two}]")
    assert made.verify(policy=policy, at=NOW + 59).verdict is Verdict.SIMULATED
    refused(made.verify(policy=policy, at=NOW + 60), Verdict.NOT_ACCEPTED, "TCB-ADVISORIES")


def test_evaluation_number_below_the_policys_is_refused() -> None:
    made = gateway(endorsements=Endorsements(evaluation_number=20, qe_evaluation_number=19))
    policy = made.policy(tdx="min_tcb_evaluation_number = 19")
    assert made.verify(policy=policy).verdict is Verdict.SIMULATED
    policy = made.policy(tdx="min_tcb_evaluation_number = 20")
    refused(made.verify(policy=policy), Verdict.NOT_ACCEPTED, "COLLATERAL-FRESH")


def test_endorsements_older_than_the_policy_allows_are_refused() -> None:
    policy = HEALTHY.policy(more="[endorsements]\nmax_age_days = 1")
    issued = NOW - 3600
    assert HEALTHY.verify(policy=policy, at=issued + DAY).verdict is Verdict.SIMULATED
    result = HEALTHY.verify(policy=policy, at=issued + DAY + 1)
    refused(result, Verdict.NOT_ACCEPTED, "COLLATERAL-FRESH")


def test_attributes_can_be_compared_under_a_mask_and_what_it_lets_through_is_named() -> None:
    made = gateway(domain=Domain(td_attributes=1 << 28 | 1 << 30 | 1 << 63))
    masked = "attributes = { value = 0x10000000, mask = 0x10000001 }"
    result = made.verify(policy=made.policy(tdx=masked))
    assert result.verdict is Verdict.SIMULATED
    check = the_check(result, "TD-ATTRIBUTES")
    assert check.reason == "no debug; unusual, and accepted by the policy: PKS, PERFMON"
    assert "TDATTRIBUTES 0x8000000050000000 (PKS, PERFMON), XFAM" in check.observed
    usual = the_check(HEALTHY.verify(), "TD-ATTRIBUTES")
    assert usual.reason == "no debug, nothing unusual"
    assert usual.observed.startswith("TDATTRIBUTES 0x10000000, XFAM")
    late = the_check(HEALTHY.verify(at=NOW + 31 * DAY), "COLLATERAL-FRESH")
    assert "TDATTRIBUTES" not in late.observed


@pytest.mark.parametrize(
    ("word", "named"),
    [
        (1 << 28 | 1, "0x10000001 (DEBUG)"),
        (0, "0x0 (SEPT_VE_DISABLE off)"),
        (1 << 28 | 1 << 29, "0x30000000 (MIGRATABLE)"),
        (1 << 28 | 1 << 30 | 1 << 31, "0xd0000000 (PKS, KL)"),
        (1 << 28 | 1 << 16 | 1 << 27, "0x18010000 (bit 16, LASS)"),
    ],
)
def test_refused_attributes_are_named(word: int, named: str) -> None:
    result = gateway(domain=Domain(td_attributes=word)).verify()
    refused(result, Verdict.NOT_ACCEPTED, "TD-ATTRIBUTES")
    assert the_check(result, "TD-ATTRIBUTES").observed.endswith(named)


def test_xfam_on_the_list_is_accepted() -> None:
    made = gateway(domain=Domain(xfam=0xE7))
    assert made.verify(policy=made.policy(tdx="xfam = [0xE7]")).verdict is Verdict.SIMULATED
    result = made.verify(policy=made.policy(tdx="xfam = [0xE6, 0x602e7]"))
    refused(result, Verdict.NOT_ACCEPTED, "TD-ATTRIBUTES")
    assert "[tdx] xfam" in the_check(result, "TD-ATTRIBUTES").hint


def test_module_off_the_list_is_refused() -> None:
    listed = f'mrseam = ["{Machine().mr_seam.hex()}"]'
    assert HEALTHY.verify(policy=HEALTHY.policy(tdx=listed)).verdict is Verdict.SIMULATED
    other = f'mrseam = ["{SEVEN.hex()}"]'
    result = HEALTHY.verify(policy=HEALTHY.policy(tdx=other))
    refused(result, Verdict.NOT_ACCEPTED, "TDX-MODULE")
    assert "[tdx] mrseam" in the_check(result, "TDX-MODULE").hint


@pytest.mark.parametrize(
    "machine",
    [
        Machine(mr_signer_seam=SEVEN),
        Machine(seam_attributes=b"\x01" + bytes(7)),
    ],
)
def test_module_of_another_signer_is_refused_even_if_endorsed(machine: Machine) -> None:
    endorsements = Endorsements(
        module_mr_signer=machine.mr_signer_seam, module_attributes=machine.seam_attributes
    )
    made = gateway(machine=machine, endorsements=endorsements)
    result = made.verify()
    refused(result, Verdict.NOT_ACCEPTED, "TDX-MODULE")
    assert the_check(result, "TDX-MODULE").hint


def ppid_of(made: Gateway) -> dict[str, str]:
    quotes = cast("list[dict[str, str]]", made.verify().facts["quotes"])
    assert len(quotes) == 1
    return quotes[0]


@pytest.mark.parametrize("name", ["ppid", "piid", "fmspc"])
def test_machine_off_the_list_is_refused(name: str) -> None:
    value = ppid_of(HEALTHY)[name]
    other = "00" * (len(value) // 2)
    listed = HEALTHY.policy(more=f'[platform]\n{name} = ["{other}", "{value}"]')
    result = HEALTHY.verify(policy=listed)
    assert result.verdict is Verdict.SIMULATED
    assert the_check(result, "PLATFORM").status is Status.PASS
    unlisted = HEALTHY.policy(more=f'[platform]\n{name} = ["{other}"]')
    refused(HEALTHY.verify(policy=unlisted), Verdict.NOT_ACCEPTED, "PLATFORM")


def test_every_list_must_name_the_machine() -> None:
    ppid = ppid_of(HEALTHY)["ppid"]
    policy = HEALTHY.policy(more=f'[platform]\nppid = ["{ppid}"]\nfmspc = ["000000000000"]')
    refused(HEALTHY.verify(policy=policy), Verdict.NOT_ACCEPTED, "PLATFORM")


def test_machine_without_the_listed_identity_is_refused() -> None:
    made = gateway(machine=Machine(single_package=True))
    policy = made.policy(more=f'[platform]\npiid = ["{"00" * 16}"]')
    refused(made.verify(policy=policy), Verdict.NOT_ACCEPTED, "PLATFORM")
    assert ppid_of(made)["piid"] is None


def test_simulated_evidence_without_its_root_is_rejected_with_a_hint() -> None:
    result = HEALTHY.verify(anchors=[INTEL_ANCHOR])
    refused(result, Verdict.REJECTED, "QUOTE-GENUINE")
    assert "--root" in the_check(result, "QUOTE-GENUINE").hint
    assert result.trust_domains == frozenset()


def test_another_root_than_the_evidences_own_is_called_that() -> None:
    other = SimulatedPlatform(now=NOW, seed=b"another platform").anchor
    check = the_check(HEALTHY.verify(anchors=[other]), "QUOTE-GENUINE")
    assert check.expected == "three certificates, the last of them the simulated root given"
    assert check.hint.startswith("another root than the one given")


def test_list_that_could_not_be_applied_is_not_called_absent() -> None:
    policy = HEALTHY.policy(more='[platform]\nfmspc = ["fffefd000000"]')
    notes = HEALTHY.verify(policy=policy, anchors=[INTEL_ANCHOR]).not_proved
    (note,) = [note for note in notes if note.startswith("which machine")]
    assert "could not be applied" in note


def test_the_right_root_is_found_among_several() -> None:
    other = SimulatedPlatform(now=NOW, seed=b"other").anchor
    assert HEALTHY.verify(anchors=[INTEL_ANCHOR, other, ROOT]).verdict is Verdict.SIMULATED
    refused(HEALTHY.verify(anchors=[INTEL_ANCHOR, other]), Verdict.REJECTED, "QUOTE-GENUINE")


def test_root_of_the_same_name_and_another_key_is_rejected() -> None:
    other = SimulatedPlatform(now=NOW, seed=b"other").anchor
    assert other.certificate.subject == ROOT.certificate.subject
    refused(HEALTHY.verify(anchors=[other]), Verdict.REJECTED, "QUOTE-GENUINE")


def test_verification_without_any_root_is_a_mistake() -> None:
    with pytest.raises(UsageError, match="trust anchor"):
        HEALTHY.verify(anchors=[])


@pytest.mark.parametrize("at", [-1, 253_402_300_800])
def test_instant_outside_the_calendar_is_a_mistake(at: int) -> None:
    with pytest.raises(UsageError):
        HEALTHY.verify(at=at)


def test_missing_endorsements_are_incomplete_with_a_hint() -> None:
    for collateral in (HEALTHY.evidence.collateral, None):
        boot = replace(HEALTHY.evidence, collateral=collateral)
        result = HEALTHY.verify(bundle=HEALTHY.bundle(boots=[boot], collateral=[]))
        assert result.verdict is Verdict.INCOMPLETE
        assert not failed(result)
        assert "--endorsements" in the_check(result, "QUOTE-GENUINE").hint
        assert {"QUOTE-GENUINE", "MEASUREMENTS", "EVENT-LOG"} <= open_checks(result)


def test_collateral_of_another_maker_is_rejected() -> None:
    other = SimulatedPlatform(now=NOW, seed=b"other").collateral()
    boot = replace(HEALTHY.evidence, collateral=other.digest)
    result = HEALTHY.verify(bundle=HEALTHY.bundle(boots=[boot], collateral=[other]))
    refused(result, Verdict.REJECTED, "QUOTE-GENUINE")


@pytest.mark.parametrize(
    "writing",
    [
        Writing(padding=70),
        Writing(outer_type=5),
        Writing(final_nul=True),
    ],
)
def test_quote_in_another_form_is_malformed(writing: Writing) -> None:
    made = gateway()
    report_data = made.evidence.statement.report_data
    raw = PLATFORM.but(writing=writing).quote(report_data)
    boot = replace(made.evidence, quote=raw)
    result = made.verify(bundle=made.bundle(boots=[boot]))
    assert result.verdict is Verdict.MALFORMED
    assert "QUOTE-FORMAT" in failed(result)
    assert the_check(result, "QUOTE-FORMAT").hint


def test_quote_that_does_not_parse_is_malformed() -> None:
    boot = replace(HEALTHY.evidence, quote=b"quote")
    result = HEALTHY.verify(bundle=HEALTHY.bundle(boots=[boot]))
    assert result.verdict is Verdict.MALFORMED
    assert failed(result) == {"QUOTE-FORMAT"}
    assert the_check(result, "RECEIPT-BINDING").status is Status.SKIP


def test_quote_without_certificates_is_malformed() -> None:
    quote = HEALTHY.evidence.quote.replace(b"CERTIFICATE", b"CERTIFICATX")
    boot = replace(HEALTHY.evidence, quote=quote)
    result = HEALTHY.verify(bundle=HEALTHY.bundle(boots=[boot]))
    assert result.verdict is Verdict.MALFORMED


def test_forged_signature_of_a_debug_domain_is_rejected_not_merely_unaccepted() -> None:
    made = gateway(domain=Domain(td_attributes=1 << 28 | 1))
    quote = bytearray(made.evidence.quote)
    quote[640] ^= 1
    boot = replace(made.evidence, quote=bytes(quote))
    result = made.verify(bundle=made.bundle(boots=[boot]))
    assert result.verdict is Verdict.REJECTED
    assert "QUOTE-GENUINE" in failed(result)
