"""Quotes against predictions: the register, and where a log proves it, the event."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from attestation.bundle import EventLogRecord, parse_bundle
from attestation.cli.main import main
from attestation.cli.predicted import predicted_lines, with_predicted
from attestation.errors import MalformedError, UsageError
from attestation.measure.document import encode_measurements
from attestation.measure.explain import Explained, explain_registers, require_tdx
from attestation.tdx.ccel import parse_ccel
from attestation.tdx.events import replay
from attestation.verifier import malformed_result, verify
from tests.measure import machines
from tests.refusals import refusal
from tests.support.bundles import NOW, Gateway

GUEST = machines.tdx()
EVENTS = machines.logged(GUEST)
MRTD = next(iter(GUEST.mrtd.values()))


def explained(events: list[machines.Logged], *, with_log: bool = True) -> dict[str, Explained]:
    log = parse_ccel(machines.log(events))
    found = explain_registers(GUEST, MRTD, replay(log), log if with_log else None)
    return {one.register: one for one in found}


def other_image() -> list[machines.Logged]:
    events = list(EVENTS)
    at = next(n for n, (index, kind, _) in enumerate(events) if (index, kind) == (2, 0x80000003))
    events[at] = (2, 0x80000003, b"\7" * 48)
    return events


def test_quote_of_the_predicted_guest_agrees_in_every_register() -> None:
    found = explained(EVENTS)
    assert [one.agrees for one in found.values()] == [True] * 5
    assert found["mrtd"].words == "mrtd: as predicted for pages interleaved"


def test_event_that_differs_is_named_where_the_log_replays_to_the_quote() -> None:
    assert explained(other_image())["rtmr1"] == Explained(
        register="rtmr1",
        agrees=False,
        words="rtmr1 differs from event 4: UKI digest is another than predicted",
    )


def test_without_a_log_only_values_are_compared() -> None:
    found = explained(other_image(), with_log=False)
    assert found["rtmr0"].words == "rtmr0: as predicted"
    assert found["rtmr1"].agrees is False
    assert "no event log replays to it" in found["rtmr1"].words
    assert found["rtmr3"].agrees is None
    assert "only a log" in found["rtmr3"].words


def test_log_that_does_not_replay_to_the_quote_explains_nothing() -> None:
    log = parse_ccel(machines.log(other_image()))
    registers = replay(parse_ccel(machines.log(EVENTS)))
    found = {one.register: one for one in explain_registers(GUEST, bytes(48), registers, log)}
    assert found["rtmr1"].words == "rtmr1: as predicted"
    assert found["mrtd"].agrees is False


def test_register_without_predicted_value_names_what_is_unknown() -> None:
    guest = machines.tdx(host=machines.NOTHING)
    found = explain_registers(guest, MRTD, [bytes(48)] * 4, None)[1]
    assert found.agrees is None
    assert "unknown: ACPI loader, ACPI rsdp, ACPI tables, variable BootOrder" in found.words


def test_register_with_events_that_nobody_predicted_is_not_said_to_agree() -> None:
    log = parse_ccel(machines.log([*EVENTS, (4, 0, b"\7" * 48)]))
    guest = machines.tdx(host=machines.NOTHING)
    found = {one.register: one for one in explain_registers(guest, MRTD, replay(log), log)}
    assert [found[f"rtmr{at}"].agrees for at in range(4)] == [None, True, True, None]
    assert "6 events without a predicted digest" in found["rtmr0"].words


def test_measurements_of_a_tpm_explain_no_quote() -> None:
    assert refusal(require_tdx, machines.tpm(), error=UsageError) == "measurements"
    assert require_tdx(GUEST) is GUEST


def document(folder: Path) -> str:
    path = folder / "measurements.json"
    path.write_bytes(encode_measurements(GUEST))
    return str(path)


def test_eventlog_says_which_event_differs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "ccel"
    log.write_bytes(machines.log(EVENTS))
    assert main(["eventlog", str(log), "--measurements", document(tmp_path)]) == 0
    assert "✓ rtmr1: every event as predicted" in capsys.readouterr().out
    log.write_bytes(machines.log(other_image()))
    assert main(["eventlog", str(log), "--measurements", document(tmp_path)]) == 10
    assert "✗ rtmr1 differs from event 4: UKI digest" in capsys.readouterr().out
    assert main(["eventlog", str(log), "--measurements", document(tmp_path), "--json"]) == 10
    (shown,) = json.loads(capsys.readouterr().out)["logs"]
    assert [one["differs"] for one in shown["predicted"]] == [False, True, False, False]
    assert shown["not_logged"] == []
    log.write_bytes(machines.log([*EVENTS, (4, 0, b"\7" * 48)]))
    assert main(["eventlog", str(log), "--measurements", document(tmp_path)]) == 12
    assert "· rtmr3: nothing differs; 1 event at the end" in capsys.readouterr().out
    log.write_bytes(machines.log([one for one in EVENTS if one[0] != 3]))
    assert main(["eventlog", str(log), "--measurements", document(tmp_path)]) == 12
    assert "· rtmr2: events were predicted, and the log has none" in capsys.readouterr().out


def test_verify_explains_each_boot_and_changes_no_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tmp_path / "bundle.json"
    bundle.write_bytes(Gateway().bundle().encode())
    words = ["verify", str(bundle), "--at", str(NOW)]
    code = main(words)
    capsys.readouterr()
    assert main([*words, "--measurements", document(tmp_path)]) == code
    told = capsys.readouterr().out
    assert "Against the predicted measurements (explains, decides nothing)" in told
    assert "rtmr3 differs from event 1: gateway.config is " in told
    assert main([*words, "--measurements", document(tmp_path), "--json"]) == code
    rows = json.loads(capsys.readouterr().out)["facts"]["predicted"]
    assert [one["register"] for one in rows] == ["mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3"]


def test_evidence_without_readable_quote_has_nothing_to_explain() -> None:
    gateway = Gateway(event_log=False)
    bundle = parse_bundle(gateway.bundle().encode())
    result = verify(bundle, None, NOW, [gateway.anchor], {})
    rows = with_predicted(result, bundle, GUEST).facts["predicted"]
    assert isinstance(rows, list)
    assert len(rows) == 5
    unreadable = EventLogRecord(format="ccel", data="AA")
    muddled = replace(
        bundle, boots=tuple(replace(one, event_log=unreadable) for one in bundle.boots)
    )
    assert with_predicted(result, muddled, GUEST).facts["predicted"] == rows
    broken = replace(bundle, boots=tuple(replace(one, quote=b"junk") for one in bundle.boots))
    assert with_predicted(result, broken, GUEST).facts["predicted"] == []
    assert predicted_lines(with_predicted(result, broken, GUEST)) == []
    error = MalformedError("no bundle", code="bundle")
    malformed = malformed_result(error, None, NOW)
    assert with_predicted(malformed, error, GUEST) is malformed
