"""The pipeline as a whole: floors, uncovered material, quotes and boots by themselves."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from attestation.bundle import Bundle, parse_bundle
from attestation.checks import CHECKS, FLOOR
from attestation.encoding.digest import Digest
from attestation.errors import MalformedError
from attestation.policy import NO_POLICY, parse_policy
from attestation.policy.model import SignedBy
from attestation.report import show_bundle
from attestation.result import Status, Verdict
from attestation.tdx.anchor import INTEL_ANCHOR
from attestation.tdx.dcap import GenuineQuote, verify_quote
from attestation.tdx.quote import parse_quote
from attestation.verifier import (
    Contents,
    malformed_result,
    quotes,
    verify,
    verify_boots,
    verify_raw_quote,
)
from attestation.verifier.domain import check_attributes
from attestation.verifier.ledger import Ledger
from attestation.verifier.words import short
from gateway.attester.simulated.facts import Domain, Writing
from tests.support.bundles import NOW, Gateway, failed, open_checks, the_check

HEALTHY = Gateway()
HEALTHY.plain()
HEALTHY.stream()


def test_every_required_check_is_made_or_named_as_open() -> None:
    result = HEALTHY.verify()
    made = {check.id for check in result.checks}
    assert made >= FLOOR
    assert all(check.id in CHECKS for check in result.checks)
    assert all(check.reason for check in result.checks)


def test_empty_bundle_is_incomplete_in_every_required_check() -> None:
    result = verify(Bundle(), HEALTHY.policy(log=""), NOW, [HEALTHY.anchor], {})
    assert result.verdict is Verdict.INCOMPLETE
    assert open_checks(result) == FLOOR - {"BUNDLE"}
    assert the_check(result, "BUNDLE").reason == "canonical, nothing unknown: empty"


def test_boots_without_receipts_are_incomplete() -> None:
    result = HEALTHY.verify(bundle=HEALTHY.bundle(receipts=[]), contents={})
    assert open_checks(result) == {
        "RECEIPT-FORMAT",
        "RECEIPT-SIGNATURE",
        "RECEIPT-BINDING",
        "EQUIVOCATION",
    }


def test_boot_that_no_receipt_names_is_checked_too() -> None:
    other = Gateway(seed="b")
    bundle = HEALTHY.bundle(
        boots=[HEALTHY.evidence, replace(other.evidence, collateral=None)],
    )
    result = HEALTHY.verify(bundle=bundle)
    assert result.verdict is Verdict.REJECTED
    assert "QUOTE-GENUINE" in failed(result)


def test_result_names_the_attempt_that_a_receipt_repeats() -> None:
    made = Gateway()
    made.plain()
    attempt = made.exchanged[0].item.receipt.digest
    made.plain(context={"repeats": attempt})
    result = made.verify()
    facts: Any = result.facts["receipts"]
    assert [one["retry_of"] for one in facts] == [None, attempt.hex]
    formats = [check.observed for check in result.checks if check.id == "RECEIPT-FORMAT"]
    assert formats == ["end complete", f"end complete; retry of {attempt.hex}"]
    shown = show_bundle(made.bundle())["receipts"]
    assert [receipt["retry_of"] for receipt in shown] == [None, attempt.hex]


@pytest.mark.parametrize("id_", ["WITNESS", "EPOCH-CHAIN", "LINEAGE-EDGES", "GPU-GENUINE"])
def test_check_that_a_policy_requires_and_nobody_makes_is_open(id_: str) -> None:
    policy = HEALTHY.policy(more=f'[require]\nchecks = ["{id_}"]')
    result = HEALTHY.verify(policy=policy)
    assert result.verdict is Verdict.INCOMPLETE
    assert open_checks(result) == {id_}


@pytest.mark.parametrize(
    ("more", "ids"),
    [
        ("[gpu]\nrequired = true", {"GPU-GENUINE", "GPU-MEASUREMENTS", "GPU-BINDING"}),
        ("[lineage]\nrequire_complete = true", {"LINEAGE-COMPLETE"}),
    ],
)
def test_tables_that_ask_for_later_checks_are_never_ignored(more: str, ids: set[str]) -> None:
    assert open_checks(HEALTHY.verify(policy=HEALTHY.policy(more=more))) == ids


def test_task_records_are_named_as_unchecked() -> None:
    token = HEALTHY.exchanged[0].item.receipt.token
    result = HEALTHY.verify(bundle=HEALTHY.bundle(tasks=[token]))
    assert open_checks(result) == {"LINEAGE-COMPLETE"}


def test_gpu_evidence_is_named_as_unchecked() -> None:
    boot = replace(HEALTHY.evidence, gpu=({"evidence": "x"},))
    result = HEALTHY.verify(bundle=HEALTHY.bundle(boots=[boot]))
    assert open_checks(result) == {"GPU-GENUINE", "GPU-MEASUREMENTS", "GPU-BINDING"}


def test_gpu_evidence_that_the_statement_names_and_the_file_lacks_is_open() -> None:
    digest = HEALTHY.keyset.digest
    made = Gateway(statement_changes={"gpu_digest": digest})
    made.plain(context={"gpu_evidence": digest})
    result = made.verify()
    assert not failed(result)
    assert open_checks(result) == {"GPU-GENUINE", "GPU-MEASUREMENTS", "GPU-BINDING"}


def test_bodies_of_a_receipt_that_is_not_in_the_file_are_open() -> None:
    contents = HEALTHY.contents() | {"0" * 32: Contents()}
    result = HEALTHY.verify(contents=contents)
    assert result.verdict is Verdict.INCOMPLETE
    assert open_checks(result) == {"RECEIPT-FORMAT"}
    assert "inspect" in the_check(result, "RECEIPT-FORMAT", number=2).hint


def test_contents_of_the_file_are_counted() -> None:
    assert the_check(HEALTHY.verify(), "BUNDLE").reason == (
        "canonical, nothing unknown: 1 boot, 1 collateral set, 2 receipts"
    )


def test_facts_are_plain_json() -> None:
    facts = json.loads(json.dumps(HEALTHY.verify().facts))
    (quote,) = facts["quotes"]
    assert quote["bootseed"] == HEALTHY.bootseed.hex()
    assert quote["trust_domain"] == "simulated"
    assert quote["genuine"] is True
    assert [receipt["index"] for receipt in facts["receipts"]] == [1, 2]
    assert HEALTHY.verify(anchors=[INTEL_ANCHOR]).facts["quotes"] == [
        {
            "bootseed": HEALTHY.bootseed.hex(),
            "quote_digest": HEALTHY.quote_digest.hex,
            "version": 4,
            "genuine": False,
        }
    ]


def test_policy_digest_and_instant_are_in_the_result() -> None:
    result = HEALTHY.verify(at=NOW + 61)
    assert result.at == NOW + 61
    assert result.policy_digest == HEALTHY.policy().digest


def test_simulated_evidence_says_so_first() -> None:
    assert "SIMULATED" in HEALTHY.verify().not_proved[0]


def test_missing_policy_is_said() -> None:
    notes = HEALTHY.verify(policy=None).not_proved
    assert any("which software is wanted" in note for note in notes)


def test_machine_on_a_list_needs_no_note() -> None:
    noted = "which machine"
    assert any(noted in note for note in HEALTHY.verify().not_proved)
    policy = HEALTHY.policy(more='[platform]\nfmspc = ["fffefd000000"]')
    assert not any(noted in note for note in HEALTHY.verify(policy=policy).not_proved)


def test_receipt_time_never_moves_the_instant() -> None:
    made = Gateway(not_after=NOW * 2)
    made.plain(context={"issued_at": NOW + 90 * 86_400})
    assert made.verify().verdict is Verdict.SIMULATED
    assert made.verify(at=NOW + 90 * 86_400).verdict is Verdict.NOT_ACCEPTED


def test_malformed_file_has_a_result_too() -> None:
    with pytest.raises(MalformedError) as caught:
        parse_bundle(b"{}")
    result = malformed_result(caught.value, HEALTHY.policy(), NOW)
    assert result.verdict is Verdict.MALFORMED
    assert failed(result) == {"BUNDLE"}
    assert result.policy_digest == HEALTHY.policy().digest
    assert malformed_result(caught.value, None, NOW).policy_digest is None
    assert malformed_result(caught.value, None, NOW).policy_signers == ()
    by = SignedBy(signer="reviewer", version="1", digest=Digest.of(b"policy"))
    signed = replace(HEALTHY.policy(), signatures=(by,))
    assert malformed_result(caught.value, signed, NOW).policy_signers == ("reviewer",)


# Boots by themselves


def test_boots_can_be_appraised_before_there_is_a_receipt() -> None:
    bundle = HEALTHY.bundle(receipts=[])
    result = verify_boots(bundle, HEALTHY.policy(log=""), NOW, [HEALTHY.anchor])
    assert result.verdict is Verdict.SIMULATED
    made = {check.id for check in result.checks}
    assert {"QUOTE-GENUINE", "KEYSET", "BOOT-STATEMENT", "EVENT-LOG"} <= made
    assert not any(id_.startswith("RECEIPT") for id_ in made)
    assert not any("content" in note for note in result.not_proved)


def test_boots_are_held_to_the_same_checks() -> None:
    bundle = HEALTHY.bundle(receipts=[])
    policy = HEALTHY.policy(mrtd=f'"{"00" * 48}"')
    assert verify_boots(bundle, policy, NOW, [HEALTHY.anchor]).verdict is Verdict.NOT_ACCEPTED
    assert verify_boots(bundle, None, NOW, [HEALTHY.anchor]).verdict is Verdict.INCOMPLETE
    assert verify_boots(bundle, policy, NOW, [INTEL_ANCHOR]).verdict is Verdict.REJECTED
    assert verify_boots(Bundle(), policy, NOW, [INTEL_ANCHOR]).verdict is Verdict.INCOMPLETE


def test_boots_by_themselves_leave_open_what_a_policy_requires_and_nobody_checks() -> None:
    policy = HEALTHY.policy(more="[gpu]\nrequired = true")
    result = verify_boots(HEALTHY.bundle(receipts=[]), policy, NOW, [HEALTHY.anchor])
    assert open_checks(result) == {"GPU-GENUINE", "GPU-MEASUREMENTS", "GPU-BINDING"}


# A quote by itself


def raw_quote(**writing: int) -> bytes:
    made = HEALTHY.machine.but(writing=Writing(**writing))  # type: ignore[arg-type]
    return made.quote(bytes(64), domain=Domain())


PINNED = {"rtmr3": f'"{"00" * 48}"'}
COLLATERAL = HEALTHY.machine.collateral()


@pytest.mark.parametrize("writing", [{}, {"padding": 70}, {"version": 5}])
def test_raw_quote_is_appraised_in_any_form(writing: dict[str, int]) -> None:
    result = verify_raw_quote(
        raw_quote(**writing), COLLATERAL, HEALTHY.policy(**PINNED), NOW, [HEALTHY.anchor]
    )
    assert result.verdict is Verdict.SIMULATED
    assert "REPORTDATA" in " ".join(result.not_proved)
    assert not any("receipt times" in note for note in result.not_proved)


def test_raw_quote_needs_a_pinned_register_or_a_log() -> None:
    result = verify_raw_quote(raw_quote(), COLLATERAL, HEALTHY.policy(), NOW, [HEALTHY.anchor])
    assert result.verdict is Verdict.INCOMPLETE
    assert open_checks(result) == {"EVENT-LOG"}
    assert "carries no event log" in the_check(result, "EVENT-LOG").reason


@pytest.mark.parametrize(
    "pin",
    [
        {"config_digest": f'"{"00" * 32}"'},
        {"origin": '"gateway.example"'},
        {"image": '"x"'},
        {"model": f'"{"00" * 32}"'},
    ],
)
def test_raw_quote_cannot_meet_pins_of_the_statement(pin: dict[str, str]) -> None:
    policy = HEALTHY.policy(**PINNED | pin)
    result = verify_raw_quote(raw_quote(), COLLATERAL, policy, NOW, [HEALTHY.anchor])
    assert result.verdict is Verdict.INCOMPLETE
    assert "MEASUREMENTS" in open_checks(result)
    assert 'match "simulated", which also pins' in the_check(result, "MEASUREMENTS").reason
    assert not failed(result)


def test_raw_quote_meets_the_tuple_that_pins_no_statement() -> None:
    pinned = HEALTHY.policy_toml(**PINNED, origin='"x"')
    plain = HEALTHY.policy_toml(**PINNED, name='"plain"')
    text = pinned + plain[plain.index("[[reference_values]]") :]
    result = verify_raw_quote(
        raw_quote(), COLLATERAL, parse_policy(text.encode()), NOW, [HEALTHY.anchor]
    )
    assert result.verdict is Verdict.SIMULATED


def test_raw_quote_does_not_borrow_from_a_tuple_that_it_cannot_show_to_be_met() -> None:
    pinned = HEALTHY.policy_toml(**PINNED, origin='"x"')
    plain = HEALTHY.policy_toml(name='"plain"')
    text = pinned + plain[plain.index("[[reference_values]]") :]
    result = verify_raw_quote(
        raw_quote(), COLLATERAL, parse_policy(text.encode()), NOW, [HEALTHY.anchor]
    )
    assert result.verdict is Verdict.INCOMPLETE
    assert open_checks(result) == {"EVENT-LOG"}
    assert the_check(result, "MEASUREMENTS").reason == 'matches "plain"'


@pytest.mark.parametrize("key", ["mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3", "mrconfigid"])
def test_raw_quote_with_another_measurement_is_not_accepted(key: str) -> None:
    policy = HEALTHY.policy(**PINNED | {key: f'"{"01" * 48}"'})
    result = verify_raw_quote(raw_quote(), COLLATERAL, policy, NOW, [HEALTHY.anchor])
    assert result.verdict is Verdict.NOT_ACCEPTED
    assert "MEASUREMENTS" in failed(result)


def test_raw_quote_without_endorsements_is_incomplete() -> None:
    result = verify_raw_quote(raw_quote(), None, HEALTHY.policy(**PINNED), NOW, [HEALTHY.anchor])
    assert result.verdict is Verdict.INCOMPLETE
    assert result.facts["quotes"]


def test_raw_quote_under_another_root_is_rejected() -> None:
    result = verify_raw_quote(raw_quote(), COLLATERAL, HEALTHY.policy(), NOW, [INTEL_ANCHOR])
    assert result.verdict is Verdict.REJECTED
    assert "--root" in the_check(result, "QUOTE-GENUINE").hint


def test_what_is_no_quote_is_malformed() -> None:
    result = verify_raw_quote(b"no quote", COLLATERAL, HEALTHY.policy(), NOW, [HEALTHY.anchor])
    assert result.verdict is Verdict.MALFORMED
    assert failed(result) == {"QUOTE-FORMAT"}
    assert result.facts["quotes"] == []
    assert the_check(result, "QUOTE-GENUINE").status is Status.SKIP


def test_quote_without_certificates_is_rejected() -> None:
    quote = raw_quote().replace(b"CERTIFICATE", b"CERTIFICATX")
    result = verify_raw_quote(quote, COLLATERAL, HEALTHY.policy(), NOW, [HEALTHY.anchor])
    assert result.verdict is Verdict.REJECTED


# Words


def test_values_are_written_short() -> None:
    assert short(bytes(48)) == "all zero"
    assert short(b"\x01\x02") == "0102"
    assert short(b"\xab" * 8) == "ab" * 8
    assert short(b"\xab" * 9) == "ab" * 8 + "…"


# What only hardware, or a verifier without its own refusals, would show


def test_the_same_evidence_under_intels_key_would_be_accepted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def as_if_by_intel(*args: Any) -> GenuineQuote:
        return replace(verify_quote(*args), trust_domain="intel")

    monkeypatch.setattr(quotes, "verify_quote", as_if_by_intel)
    result = HEALTHY.verify()
    assert result.verdict is Verdict.ACCEPTED
    assert "Intel's root" in the_check(result, "QUOTE-GENUINE").reason
    result.require_accepted()


def test_service_domain_is_refused_even_if_the_quote_verifier_let_it_pass() -> None:
    body = parse_quote(HEALTHY.evidence.quote).body
    ledger = Ledger(frozenset())
    check_attributes(replace(body, mr_service_td=b"\x01" * 48), NO_POLICY, ledger.about("boot"))
    check_attributes(replace(body, mr_service_td=bytes(48)), NO_POLICY, ledger.about("boot"))
    assert [check.verdict for check in ledger.checks] == [Verdict.NOT_ACCEPTED, Verdict.ACCEPTED]
