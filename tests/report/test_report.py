from __future__ import annotations

import json
from dataclasses import replace

import pytest

from attestation.bundle import Bundle
from attestation.receipt.commitments import Openings
from attestation.report import (
    RESULT_SCHEMA,
    RESULTS_SCHEMA,
    document,
    documents,
    render_text,
    show_bundle,
    show_openings,
    show_quote,
)
from attestation.result import AttestationResult, Check, Status, Verdict
from attestation.tdx.anchor import INTEL_ANCHOR
from attestation.tdx.quote import parse_quote
from gateway.attester.simulated.facts import Machine
from tests.support.bundles import NOW, Gateway
from tests.support.epochs import EpochLog

GATEWAY = Gateway()
GATEWAY.plain()
GATEWAY.stream()
RESULT = GATEWAY.verify()
REJECTED = GATEWAY.verify(anchors=[INTEL_ANCHOR])


def lines_with(text: str, id_: str) -> list[str]:
    return [line for line in text.splitlines() if f" {id_} " in line or f" {id_}:" in line]


# Text


def test_every_check_has_a_line_with_mark_title_and_reason() -> None:
    text = render_text(RESULT, name="bundle.json")
    assert text.startswith("bundle.json\n")
    for check in RESULT.checks:
        if check.status is Status.PASS:
            assert f"✓ {check.id:<18}{check.title}: {check.reason}" in text
    assert len(lines_with(text, "RECEIPT-SIGNATURE")) == 2


def test_failure_shows_expected_seen_and_hint() -> None:
    text = render_text(REJECTED, name="bundle.json")
    (failure,) = [line for line in text.splitlines() if "✗" in line]
    assert "QUOTE-GENUINE" in failure
    after = text[text.index(failure) :].splitlines()
    assert after[1].startswith("        expected ")
    assert after[2].startswith("        seen     ")
    assert after[3].startswith("        hint     ")


def test_text_ends_with_what_is_not_proved_and_the_verdict() -> None:
    text = render_text(RESULT, name="x")
    closing = text[text.index("What this does not prove") :]
    assert "SIMULATED; it can" in closing
    assert f"policy {RESULT.policy_digest.hex}" in closing  # type: ignore[union-attr]
    assert "verified as of 2026-09-21T14:14:20Z" in closing
    assert closing.rstrip().endswith(
        "SIMULATED (exit 15): all checks pass, on simulated evidence that proves nothing about "
        "hardware"
    )


def test_refusal_names_the_checks_it_follows_from() -> None:
    boot = GATEWAY.evidence.statement.bootseed.hex()[:16]
    assert render_text(REJECTED, name="x").endswith(
        "REJECTED (exit 10): the evidence, a signature or a binding is wrong\n"
        f"because of QUOTE-GENUINE (boot {boot})\n"
    )
    incomplete = GATEWAY.verify(policy=GATEWAY.policy(log=""))
    assert (
        "because of LOG-INCLUSION (2 times), LOG-CHECKPOINT (2 times), EPOCH-QUOTE (2 times)"
        in render_text(incomplete, name="x")
    )


def test_skips_of_one_reason_share_a_line() -> None:
    text = render_text(REJECTED, name="x")
    (line,) = [line for line in text.splitlines() if "COLLATERAL-FRESH" in line]
    assert line.strip().startswith("- COLLATERAL-FRESH, TCB-STATUS, ")
    lone = GATEWAY.verify(bundle=Bundle(receipts=GATEWAY.bundle().receipts), contents={})
    shared = render_text(lone, name="x")
    assert "- RECEIPT-SIGNATURE, RECEIPT-BINDING: the evidence of boot" in shared
    after = shared[shared.index("- RECEIPT-SIGNATURE, RECEIPT-BINDING") :].splitlines()
    assert any(line.startswith("        hint") for line in after[:3])


def test_missing_policy_is_said_in_the_closing_part() -> None:
    assert "policy none was given" in render_text(GATEWAY.verify(policy=None), name="x")


def many() -> Gateway:
    made = Gateway()
    for number in range(6):
        made.plain(request=b"%d" % number)
    return made


def test_many_receipts_with_nothing_wrong_are_summed_up() -> None:
    made = many()
    text = render_text(made.verify(), name="x")
    assert "6 receipts with nothing wrong" in text
    assert len(lines_with(text, "RECEIPT-SIGNATURE")) == 1
    assert "6 of 6" in lines_with(text, "RECEIPT-SIGNATURE")[0]


def test_receipts_with_something_wrong_are_shown_one_by_one() -> None:
    made = many()
    contents = made.contents()
    jti = made.exchanged[3].jti
    contents[jti] = made.exchanged[3].contents(request=b"other")
    text = render_text(made.verify(contents=contents), name="x")
    assert f"  receipt {jti}\n" in text
    assert "5 receipts with nothing wrong" in text
    other = made.exchanged[0].jti
    assert other not in text


def quoted(rounds: int) -> EpochLog:
    log = EpochLog(Gateway())
    for _ in range(rounds):
        log.serve()
        log.quote_epoch()
    return log


def test_many_epochs_with_nothing_wrong_are_summed_up() -> None:
    log = quoted(6)
    text = render_text(log.verify(), name="x")
    assert "6 epochs with nothing wrong" in text
    assert "6 receipts with nothing wrong" in text
    assert "  epochs of boot " in text
    assert "  log of boot " in text
    epochs = [*log.epochs[:2], replace(log.epochs[2], collateral=None), *log.epochs[3:]]
    text = render_text(log.verify(epochs=epochs), name="x")
    assert "5 epochs with nothing wrong" in text
    assert "  epoch 2 of boot " in text


def test_few_epochs_are_shown_one_by_one() -> None:
    text = render_text(quoted(4).verify(), name="x")
    assert all(f"  epoch {number} of boot " in text for number in range(4))


def test_epochs_are_shown_with_counters_checkpoint_and_quote() -> None:
    log = quoted(1)
    (shown,) = show_bundle(log.bundle())["epochs"]
    assert shown["statement"]["completed"] == 1
    assert shown["statement_digest"] == log.epochs[0].statement.digest.hex
    assert shown["checkpoint"] == log.epochs[0].checkpoint
    assert shown["quote"]["report_data"].startswith(shown["statement_digest"])
    assert shown["collateral"] == log.made.machine.collateral().digest.hex
    broken = replace(log.epochs[0], quote=b"x", collateral=None)
    (shown,) = show_bundle(Bundle(epochs=(broken,)))["epochs"]
    assert "malformed" in shown["quote"]
    assert shown["collateral"] is None


def plain_result(*checks: Check) -> AttestationResult:
    return AttestationResult(
        checks=checks,
        at=0,
        policy_digest=None,
        trust_domains=frozenset({"intel"}),
        not_proved=("x" * 200,),
    )


@pytest.mark.parametrize("verdict", list(Verdict))
def test_every_verdict_has_its_words(verdict: Verdict) -> None:
    status = Status.PASS if verdict is Verdict.ACCEPTED else Status.FAIL
    fault = None if verdict is Verdict.ACCEPTED else verdict
    check = Check(id="KEYSET", subject="boot", status=status, required=True, fault=fault)
    text = render_text(plain_result(check), name="x")
    assert f"{verdict} (exit {verdict.exit_code}): " in text


def test_result_that_no_single_check_explains_has_no_because() -> None:
    text = render_text(plain_result(), name="x")
    assert "INCOMPLETE" in text
    assert "because" not in text


@pytest.mark.parametrize("evil", ["\x1b[2J", "\r", "\n", "\u202e", "\x00", "\u2028"])
def test_control_characters_in_evidence_never_reach_the_terminal(evil: str) -> None:
    check = Check(
        id="KEYSET",
        subject=f"boot {evil}",
        status=Status.FAIL,
        required=True,
        fault=Verdict.REJECTED,
        reason=f"a{evil}",
        expected=f"b{evil}",
        observed=f"c{evil}",
        hint=f"d{evil}",
    )
    text = render_text(plain_result(check), name=f"x{evil}")
    assert all(line.isprintable() for line in text.split("\n"))
    if evil != "\n":
        assert evil not in text


def judged(id_: str, status: Status) -> Check:
    fault = Verdict.NOT_ACCEPTED if status is Status.FAIL else None
    return Check(id=id_, subject="boot", status=status, required=True, fault=fault)


@pytest.mark.parametrize("shown", [(Status.SKIP,), (Status.PASS, Status.SKIP), ()])
def test_refused_evidence_is_called_genuine_only_if_every_quote_was_shown_to_be(
    shown: tuple[Status, ...],
) -> None:
    refused = judged("MEASUREMENTS", Status.FAIL)
    passed = plain_result(refused, judged("QUOTE-GENUINE", Status.PASS))
    assert "the evidence is genuine, and the policy" in render_text(passed, name="x")
    assert "SIMULATED" not in render_text(passed, name="x")
    open_ = plain_result(refused, *(judged("QUOTE-GENUINE", status) for status in shown))
    text = render_text(open_, name="x")
    assert "not shown to be genuine" in text
    assert "is genuine" not in text


def test_failure_without_details_takes_one_line() -> None:
    check = Check(
        id="KEYSET", subject="boot", status=Status.FAIL, required=True, fault=Verdict.REJECTED
    )
    text = render_text(plain_result(check), name="x")
    assert "expected" not in text
    assert "hint" not in text


# JSON


def test_document_holds_everything_and_is_plain_json() -> None:
    value = json.loads(json.dumps(document(RESULT, name="bundle.json")))
    assert value["schema"] == RESULT_SCHEMA
    assert value["file"] == "bundle.json"
    assert (value["verdict"], value["exit_code"]) == ("SIMULATED", 15)
    assert (value["at"], value["at_utc"]) == (NOW + 60, "2026-09-21T14:14:20Z")
    assert value["policy_digest"] == GATEWAY.policy().digest.hex  # type: ignore[union-attr]
    assert value["trust_domains"] == ["simulated"]
    assert value["not_proved"] == list(RESULT.not_proved)
    assert value["facts"] == RESULT.facts
    assert len(value["checks"]) == len(RESULT.checks)
    assert value["checks"][0] == {
        "id": "BUNDLE",
        "title": "The file has its one well-formed form",
        "spec": "bundle.md#format",
        "subject": "file",
        "status": "pass",
        "required": True,
        "fault": None,
        "expected": "",
        "observed": "",
        "reason": RESULT.checks[0].reason,
        "hint": "",
    }


def test_document_names_the_fault_of_a_failure() -> None:
    value = document(REJECTED, name="x")
    (failure,) = [check for check in value["checks"] if check["status"] == "fail"]
    assert failure["fault"] == "REJECTED"
    assert document(GATEWAY.verify(policy=None), name="x")["policy_digest"] is None


def test_one_file_has_one_document_and_several_have_the_worst_verdict() -> None:
    assert documents([("a", RESULT)]) == document(RESULT, name="a")
    value = documents([("a", RESULT), ("b", REJECTED)])
    assert value["schema"] == RESULTS_SCHEMA
    assert (value["verdict"], value["exit_code"]) == ("REJECTED", 10)
    assert [result["file"] for result in value["results"]] == ["a", "b"]


# Contents without verdict


def test_shown_bundle_has_measurements_and_claims_but_no_opening_keys() -> None:
    shown = json.loads(json.dumps(show_bundle(GATEWAY.bundle())))
    (boot,) = shown["boots"]
    assert boot["quote"]["mrtd"] == GATEWAY.machine.domain.mrtd.hex()
    assert boot["event_log"] == "attested-gateway"
    assert boot["collateral"] == shown["collateral"][0]
    item = GATEWAY.exchanged[0].item
    assert shown["receipts"][0]["claims"] == item.receipt.claims.to_json()
    assert shown["receipts"][0]["openings"]["opens"] == ["req", "res"]
    assert item.openings is not None
    assert item.openings.to_json()["req"] not in json.dumps(shown)


def test_shown_bundle_says_what_is_missing_or_malformed() -> None:
    boot = replace(GATEWAY.evidence, quote=b"x", collateral=None, event_log=None)
    item = replace(GATEWAY.exchanged[0].item, openings=None)
    shown = show_bundle(Bundle(boots=(boot,), receipts=(item,)))
    assert "cut short" in shown["boots"][0]["quote"]["malformed"]
    assert shown["boots"][0]["collateral"] is None
    assert shown["boots"][0]["event_log"] is None
    assert shown["receipts"][0]["openings"] is None
    assert shown["receipts"][0]["proof"] is False


def test_shown_quote_uses_the_names_of_policies() -> None:
    shown = show_quote(parse_quote(GATEWAY.evidence.quote))
    assert shown["attributes"] == "0x10000000"
    assert shown["xfam"] == "0x602e7"
    assert shown["fmspc"] == "fffefd000000"
    assert shown["mrservicetd"] is None
    assert shown["piid"] is not None
    assert shown["sgx_type"] == "scalable"
    assert shown["dynamic_platform"] is shown["cached_keys"] is shown["smt"] is True
    five = Gateway(version=5).evidence.quote
    assert show_quote(parse_quote(five))["mrservicetd"] == "00" * 48


def test_shown_quote_without_platform_identity_says_none() -> None:
    single = Gateway(platform=GATEWAY.machine.but(machine=Machine(single_package=True)))
    shown = show_quote(parse_quote(single.evidence.quote))
    assert shown["piid"] is shown["dynamic_platform"] is shown["smt"] is None
    assert shown["sgx_type"] == "scalable"
    bare = GATEWAY.evidence.quote.replace(b"CERTIFICATE", b"CERTIFICATX")
    shown = show_quote(parse_quote(bare))
    assert shown["fmspc"] is shown["ppid"] is shown["piid"] is shown["sgx_type"] is None
    assert shown["dynamic_platform"] is shown["cached_keys"] is shown["smt"] is None


def test_shown_openings_tell_lengths_not_keys() -> None:
    shown = show_openings(Openings(keys={"req": b"\x01" * 32}, inserted=(b"abc",)))
    assert shown == {"opens": ["req"], "inserted_bytes": [3]}
