"""`attested pin` on files: what is refused, what is written, and what that policy then accepts."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.bundle import EventLogRecord
from attestation.cli import pin as command
from attestation.cli.main import main
from attestation.encoding.digest import Digest
from attestation.policy import NO_POLICY, TdxRules, parse_policy
from attestation.policy.finding import Severity
from attestation.policy.lint import lint_policy
from attestation.report.pin import pin
from attestation.tdx.dcap import GenuineQuote, verify_quote
from attestation.tdx.events import replay
from attestation.tdx.logfile import parse_recorded
from attestation.tdx.quote import canonical_quote
from attestation.tdx.runtime import MeasuredEvent
from attestation.verifier import quotes, verify_boots
from gateway.attester.simulated.facts import Domain, Endorsements, Machine, TcbLevel
from gateway.attester.simulated.platform import SimulatedPlatform
from tests.cli.support import AT, Folder, printed
from tests.support.bundles import NOW, Gateway
from tests.support.epochs import EpochLog
from tests.tdx.test_ccel import record
from tests.verifier.events import KEY, LOCK, MADE, OTHER, ccel, dstack_event, dstack_item

PLATFORM = SimulatedPlatform(now=NOW, seed=b"pin")
BEHIND = Endorsements(
    levels=(TcbLevel(status="OutOfDate", advisories=("INTEL-SA-00001", "INTEL-SA-00002")),)
)
MODEL = {"model_digest": Digest.of(b"lock"), "image": "registry.example/gateway@sha256:ab"}


def saved(folder: Path, made: Gateway, **parts: Any) -> list[str]:
    """Write a bundle and its root, and return the arguments that name them."""
    (folder / "b.json").write_bytes(made.bundle(**parts).encode())
    root = made.anchor.certificate.public_bytes(Encoding.PEM)
    (folder / "r.pem").write_bytes(root)
    return ["pin", str(folder / "b.json"), "--root", str(folder / "r.pem"), *AT]


def on(**facts: Any) -> Gateway:
    return Gateway(platform=PLATFORM.but(**facts))


def pinned(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> str:
    assert main(arguments) == 15
    return capsys.readouterr().out


def test_policy_accepts_the_evidence_it_was_made_of(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    out = folder["pinned.toml"]
    arguments = ["pin", folder["bundle.json"], "--root", folder["root.pem"], *AT, "-o", out]
    assert main(arguments) == 15
    assert "TRUST ON FIRST USE" in capsys.readouterr().out
    text = Path(out).read_text("utf-8")
    loose = text.replace("[endorsements]", "[log]\nrequire_anchored = false\n\n[endorsements]")
    folder.write("loose.toml", loose.encode())
    grounds = ["--policy", folder["loose.toml"], "--root", folder["root.pem"], *AT]
    assert main(["verify", folder["bundle.json"], *grounds]) == 15


def test_head_says_what_nobody_checked_and_from_which_evidence(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    text = pinned(capsys, ["pin", folder["bundle.json"], "--root", folder["root.pem"], *AT])
    head = text[: text.index("schema = ")]
    assert all(line.startswith("#") for line in head.splitlines())
    assert head.startswith("# TRUST ON FIRST USE")
    assert Digest.of(Path(folder["bundle.json"]).read_bytes()).hex in head
    for words in ("NOT checked: nobody compared", "To lift it", "a SIMULATED root", "2026-09-21T"):
        assert words in head
    version = parse_policy(text.encode()).version
    assert version is not None
    assert version.startswith("trust on first use 2026-")


def test_every_pinned_key_carries_its_reason(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    text = pinned(capsys, ["pin", folder["bundle.json"], "--root", folder["root.pem"], *AT])
    lines = text[text.index("[tdx]") :].splitlines()
    keys = [n for n, line in enumerate(lines) if " = " in line and not line.startswith("#")]
    assert len(keys) > 15
    assert all(lines[n - 1].startswith("# ") for n in keys)


@pytest.mark.parametrize("version", [4, 5])
def test_nothing_but_notes_is_left_for_the_lint_once_the_machine_is_pinned(
    version: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = Gateway(version=version, statement_changes=MODEL)
    text = pinned(capsys, [*saved(tmp_path, made), "--platform", "rack 4"])
    policy = parse_policy(text.encode())
    findings = lint_policy(policy, NOW + 60)
    assert {finding.severity for finding in findings} == {Severity.NOTE}
    assert {finding.code for finding in findings} == {"first_use"}
    without = parse_policy(pinned(capsys, saved(tmp_path, made)).encode())
    assert {one.code for one in lint_policy(without, NOW + 60)} == {"first_use", "no_machines"}


def test_model_image_and_measured_events_are_pinned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = Gateway(statement_changes=MODEL)
    text = pinned(capsys, saved(tmp_path, made))
    (values,) = parse_policy(text.encode()).reference_values
    assert [event.name for event in values.events] == ["model.lock", "engine.args"]
    assert [event.digest for event in values.events] == [
        event.digest for event in made.measured_events(made.evidence.statement)
    ]
    assert (values.model, values.image) == (MODEL["model_digest"], MODEL["image"])
    assert "its digest proves the content" in text
    assert "and measured as model.lock" in text


def test_machine_without_an_instance_id_is_pinned_by_its_ppid(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = saved(tmp_path, on(machine=Machine(single_package=True)))
    policy = parse_policy(pinned(capsys, [*arguments, "--platform", "one"]).encode())
    assert policy.platform.piid is None
    assert policy.platform.ppid is not None
    assert [entry.label for entry in policy.platform.ppid] == ["one"]


def test_boots_of_one_software_make_one_tuple(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = Gateway(platform=PLATFORM), Gateway(seed="b", platform=PLATFORM)
    other = Gateway(seed="c", platform=PLATFORM.but(domain=Domain(mrtd=b"\x05" * 48)))
    two = saved(tmp_path, first, boots=[first.evidence, second.evidence])
    assert len(parse_policy(pinned(capsys, two).encode()).reference_values) == 1
    three = saved(tmp_path, first, boots=[first.evidence, other.evidence])
    assert len(parse_policy(pinned(capsys, three).encode()).reference_values) == 2


@pytest.mark.parametrize(
    ("made", "code", "id_"),
    [
        (on(endorsements=BEHIND), 11, "TCB-STATUS"),
        (on(domain=Domain(td_attributes=Domain().td_attributes | 1)), 11, "TD-ATTRIBUTES"),
        (on(domain=Domain(xfam=0xE7)), 11, "TD-ATTRIBUTES"),
        (on(machine=Machine(mr_signer_seam=b"\x01" * 48)), 10, "QUOTE-GENUINE"),
        (Gateway(earlier_keys=1), 11, "EVENT-LOG"),
        (Gateway(event_log=False), 11, "EVENT-LOG"),
    ],
    ids=["out of date", "debug", "xfam", "module", "two starts", "unbound"],
)
def test_what_only_a_weaker_policy_would_accept_is_not_pinned(
    made: Gateway, code: int, id_: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "policy.toml"
    assert main([*saved(tmp_path, made), "-o", str(out)]) == code
    seen = capsys.readouterr()
    assert not out.exists()
    assert "\nnothing was pinned\n" in seen.err
    assert ("--accept-status S --until" in seen.err) == (id_ == "TCB-STATUS")
    assert f"✗ {id_}" in seen.err
    assert seen.out == ""


def test_forged_evidence_is_not_pinned(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    value = json.loads(Path(folder["bundle.json"]).read_bytes())
    value["boots"][0]["statement"]["config_digest"] = "00" * 32
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    forged = folder.write("forged.json", text.encode())
    assert main(["pin", forged, "--root", folder["root.pem"], *AT, "--json"]) == 10
    shown = printed(capsys)
    assert (shown["policy"], shown["result"]["verdict"]) == (None, "REJECTED")


def test_evidence_under_another_root_is_not_pinned(folder: Folder) -> None:
    assert main(["pin", folder["bundle.json"], *AT]) == 10


def test_evidence_without_endorsements_is_incomplete_until_they_are_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = Gateway()
    arguments = saved(tmp_path, made, collateral=[])
    assert main(arguments) == 12
    given = tmp_path / "collateral.json"
    given.write_text(json.dumps(made.machine.collateral().to_json()))
    assert main([*arguments, "--endorsements", str(given)]) == 15
    assert "TRUST ON FIRST USE" in capsys.readouterr().out


def test_extension_of_rtmr3_without_a_log_is_incomplete(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registers = (*Domain().rtmrs[:3], b"\x07" * 48)
    arguments = saved(tmp_path, bare(registers))
    assert main(arguments) == 12
    text = pinned(capsys, [*arguments, "--accept-unbound-keys"])
    assert parse_policy(text.encode()).reference_values[0].rtmr3 == b"\x07" * 48
    assert "no event log says what is in it" in text
    assert "there was no event log to replay" in text


def bare(registers: tuple[bytes, bytes, bytes, bytes]) -> Gateway:
    return Gateway(event_log=False, platform=PLATFORM.but(domain=Domain(rtmrs=registers)))


def test_unbound_keys_are_pinned_only_in_so_many_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = saved(tmp_path, Gateway(event_log=False))
    text = pinned(capsys, [*arguments, "--accept-unbound-keys"])
    assert 'unbound_keys = "allow"' in text
    assert parse_policy(text.encode()).reference_values[0].rtmr3 is None
    assert "nothing was measured into it" in text
    assert "event log replays" not in text


def test_events_that_only_the_statement_lists_are_pinned_as_its_word(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    event = MeasuredEvent(name="gateway.package", sha256=Digest.of(b"package"))
    made = Gateway(event_log=False, statement_changes={"unextended": (event,)})
    text = pinned(capsys, [*saved(tmp_path, made), "--accept-unbound-keys"])
    (values,) = parse_policy(text.encode()).reference_values
    assert [(one.name, one.digest) for one in values.events] == [(event.name, event.digest)]
    assert "its software's word" in text


def test_status_and_advisories_are_pinned_until_a_date(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*saved(tmp_path, on(endorsements=BEHIND)), "--accept-status", "OutOfDate"]
    arguments += ["--until", "2026-12-31"]
    assert main(arguments) == 11
    told = capsys.readouterr().err
    assert "✗ TCB-ADVISORIES" in told
    assert told.endswith(
        "nothing was pinned\n"
        "  TCB-ADVISORIES: --accept-advisory ID --until DATE pins it all the same\n"
    )
    for number in (1, 2):
        arguments += ["--accept-advisory", f"INTEL-SA-0000{number}"]
    value = tomllib.loads(pinned(capsys, arguments))["tdx"]
    (status,) = [rule for rule in value["tcb_status"] if isinstance(rule, dict)]
    assert (status["status"], str(status["until"])) == ("OutOfDate", "2026-12-31 00:00:00+00:00")
    assert [rule["id"] for rule in value["advisories"]] == ["INTEL-SA-00001", "INTEL-SA-00002"]


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (["--accept-status", "OutOfDate", "--until", "2026-12-31"], "status OutOfDate"),
        (["--accept-advisory", "INTEL-SA-1", "--until", "2026-12-31"], "advisory INTEL-SA-1"),
        (["--accept-unbound-keys"], "unbound keys"),
        (["--accept-status", "OutOfDate"], "belong together"),
        (["--until", "2026-12-31"], "belong together"),
        (["--platform", " x"], "--platform is no label"),
        (["--max-age-days", "0"], "whole days"),
        (["--endorsements", "-", "--root", "-"], "standard input is named twice"),
    ],
)
def test_exception_that_is_not_needed_or_not_bounded_is_a_mistake(
    extra: list[str], words: str, folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pin", folder["bundle.json"], "--root", folder["root.pem"], *AT, *extra]) == 2
    assert words in capsys.readouterr().err


def test_endorsements_older_than_the_bound_are_not_pinned(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    late = ["--at", str(NOW + 20 * 86_400)]
    arguments = ["pin", folder["bundle.json"], "--root", folder["root.pem"], *late]
    assert main([*arguments, "--max-age-days", "10"]) == 11
    assert "✗ COLLATERAL-FRESH" in capsys.readouterr().err
    assert main(arguments) == 15


def test_file_that_exists_is_not_replaced_without_force(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    out = folder.write("mine.toml", b"reviewed")
    arguments = ["pin", folder["bundle.json"], "--root", folder["root.pem"], *AT, "-o", out]
    assert main(arguments) == 2
    assert "--force" in capsys.readouterr().err
    assert Path(out).read_bytes() == b"reviewed"
    assert main([*arguments, "--force"]) == 15
    assert parse_policy(Path(out).read_bytes()).version is not None


def test_file_that_appears_meanwhile_is_not_replaced_either(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = Path(folder["late.toml"])

    def slow(*arguments: Any) -> Any:
        out.write_bytes(b"somebody else's")
        return pin(*arguments)

    monkeypatch.setattr(command, "pin", slow)
    arguments = ["pin", folder["bundle.json"], "--root", folder["root.pem"], *AT]
    assert main([*arguments, "-o", str(out)]) == 2
    assert out.read_bytes() == b"somebody else's"


@pytest.mark.parametrize("name", ["nowhere/policy.toml", "null\0"])
def test_place_that_cannot_be_written_is_named(
    name: str, folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["pin", folder["bundle.json"], "--root", folder["root.pem"], *AT, "--force"]
    assert main([*arguments, "-o", folder[name]]) == 2
    assert "cannot write" in capsys.readouterr().err


def test_document_holds_policy_and_reasons(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["pin", folder["bundle.json"], "--root", folder["root.pem"], *AT, "--json"]
    assert main(arguments) == 15
    shown = printed(capsys)
    policy = parse_policy(shown["policy"].encode())
    assert shown["policy_digest"] == str(policy.digest)
    assert shown["result"]["policy_version"] == policy.version
    whys = {value["key"]: value["why"] for value in shown["values"]}
    assert whys["mrtd"].startswith("signed by the quote")
    assert whys["origin"].startswith("the operator's word")


def test_file_without_a_boot_and_addresses_are_told_what_to_do(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    lone = folder.write("receipt.jws", folder.first.item.receipt.token.encode())
    assert main(["pin", lone, *AT]) == 2
    assert "no boot's evidence" in capsys.readouterr().err
    assert main(["pin", "https://gateway.example", *AT]) == 2
    assert "/v1/attestation?format=bundle" in capsys.readouterr().err


def test_file_that_is_no_bundle_is_malformed(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pin", folder.write("x.json", b"{}"), *AT]) == 13
    assert "✗ BUNDLE" in capsys.readouterr().err


def test_file_whose_epochs_the_policy_would_refuse_is_not_pinned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = EpochLog(Gateway(platform=PLATFORM))
    log.serve(2)
    log.quote_epoch()
    older = PLATFORM.but(
        endorsements=Endorsements(levels=(TcbLevel(date="2024-01-01T00:00:00Z"),))
    ).collateral()
    parts: dict[str, Any] = {
        "collateral": [PLATFORM.collateral(), older],
        "epochs": [replace(log.epochs[0], collateral=older.digest)],
        "receipts": log.items,
    }
    assert main(saved(tmp_path, log.made, **parts)) == 11
    assert "earlier date than the policy asks for" in capsys.readouterr().err
    parts |= {"collateral": [PLATFORM.collateral()], "epochs": log.epochs}
    assert main(saved(tmp_path, log.made, **parts)) == 15


def with_log(log: EventLogRecord) -> dict[str, Any]:
    """The boot of `MADE` with another maker's log, and a quote that it replays to."""
    registers = replay(parse_recorded(log.format, log.data))
    domain = replace(MADE.machine.domain, rtmrs=registers)
    report_data = MADE.evidence.statement.report_data
    quote = canonical_quote(MADE.machine.quote(report_data, domain=domain))
    return {"boots": [replace(MADE.evidence, event_log=log, quote=quote)], "receipts": []}


def dstack_log(name: str) -> EventLogRecord:
    items = [dstack_event(name, b"\x07"), dstack_item(LOCK), dstack_item(KEY)]
    return EventLogRecord(format="dstack", data=items)


def test_events_of_another_makers_log_are_pinned_in_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = pinned(capsys, saved(tmp_path, MADE, **with_log(dstack_log("compose-hash"))))
    (values,) = parse_policy(text.encode()).reference_values
    assert [event.name for event in values.events] == ["compose-hash", LOCK.name]


def test_event_whose_digest_proves_nothing_is_pinned_as_digest_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    claim = record(4, b"not what was measured", digests=((0x0C, OTHER),))
    text = pinned(capsys, saved(tmp_path, MADE, **with_log(ccel(KEY, platform=claim))))
    (values,) = parse_policy(text.encode()).reference_values
    assert [event.digest for event in values.events] == [OTHER]
    assert "digest only: what the name stands for is the log's word" in text


def test_event_whose_name_has_no_form_in_a_policy_cannot_be_pinned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(saved(tmp_path, MADE, **with_log(dstack_log("é")))) == 11
    told = capsys.readouterr().err
    assert "no form in a policy" in told
    assert "events[0].name" in told


def test_policy_of_real_evidence_ends_in_0_and_names_intels_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def as_if_by_intel(*arguments: Any) -> GenuineQuote:
        return replace(verify_quote(*arguments), trust_domain="intel")

    monkeypatch.setattr(quotes, "verify_quote", as_if_by_intel)
    assert main(saved(tmp_path, Gateway())) == 0
    assert "quotes under Intel's root" in capsys.readouterr().out


def test_pinned_policy_is_nowhere_weaker_than_the_defaults(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = parse_policy(pinned(capsys, saved(tmp_path, on())).encode())
    default = TdxRules()
    assert policy.tdx.tcb_status == default.tcb_status
    assert policy.tdx.attributes == default.attributes
    assert set(policy.tdx.xfam) < set(default.xfam)
    assert (policy.tdx.advisories, policy.tdx.unbound_keys, policy.tdx.max_key_events) == (
        default.advisories, default.unbound_keys, default.max_key_events,
    )  # fmt: skip
    assert policy.required >= NO_POLICY.required
    assert policy.tdx.mrseam is not None
    assert policy.tdx.min_tcb_evaluation_number > 0


@pytest.mark.parametrize(
    ("facts", "id_"),
    [
        ({"domain": Domain(mrtd=b"\x05" * 48)}, "MEASUREMENTS"),
        ({"domain": Domain(mr_config_id=b"\x05" * 48)}, "MEASUREMENTS"),
        ({"domain": Domain(xfam=0x600E7)}, "TD-ATTRIBUTES"),
        ({"machine": Machine(mr_seam=b"\x05" * 48)}, "TDX-MODULE"),
        ({"machine": Machine(ppid=b"\x05" * 16)}, "PLATFORM"),
        ({"endorsements": Endorsements(levels=(TcbLevel(date="2024-01-01T00:00:00Z"),))},
         "TCB-STATUS"),
    ],
)  # fmt: skip
def test_pinned_policy_accepts_this_evidence_and_not_its_neighbour(
    facts: dict[str, Any], id_: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*saved(tmp_path, on()), "--platform", "mine"]
    policy = parse_policy(pinned(capsys, arguments).encode())
    for made, failing in ((on(), set()), (on(**facts), {id_})):
        result = verify_boots(made.bundle(), policy, NOW + 60, [made.anchor])
        assert {check.id for check in result.checks if check.fault} == failing
