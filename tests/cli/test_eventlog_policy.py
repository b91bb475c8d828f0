"""`attested eventlog` on bundles and against policies: which boot and which tuple a log is of."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest

from attestation.bundle import EventLogRecord, make_bundle
from attestation.cli.main import main
from attestation.tdx.eventlog import parse_runtime_events
from tests.cli.eventlogs import LOG, ccel
from tests.cli.support import Folder, printed
from tests.support.bundles import Gateway
from tests.tdx.test_eventlog import dstack
from tests.tdx.test_runtime_log import key, measured


def test_bundle_brings_the_quotes_of_its_boots(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eventlog", folder["bundle.json"], "--json"]) == 15
    (log,) = printed(capsys)["logs"]
    assert log["name"] == f"boot {folder.gateway.bootseed.hex()[:16]}"
    assert [one["standing"] for one in log["registers"]] == ["not-covered"] * 3 + ["match"]
    assert log["quote"]["verified"] is False
    assert log["quote"]["intel_root"] is False


def test_boot_without_a_log_is_incomplete_if_rtmr3_was_extended(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    boot = replace(folder.gateway.evidence, event_log=None)
    bundle = make_bundle(boots=[boot], collateral=[folder.gateway.machine.collateral()])
    bare = folder.write("bare.json", bundle.encode())
    assert main(["eventlog", bare, "--json"]) == 12
    assert printed(capsys)["logs"][0]["format"] is None
    unbound = Gateway(event_log=False)
    assert main(["eventlog", folder.write("unbound.json", unbound.bundle().encode())]) == 15


def test_worst_boot_of_a_bundle_decides(folder: Folder) -> None:
    other = Gateway(seed="b")
    lie = replace(
        other.evidence,
        event_log=EventLogRecord(format="attested-gateway", data=[key(1)]),
    )
    bundle = make_bundle(
        boots=[folder.gateway.evidence, lie],
        collateral=[folder.gateway.machine.collateral(), other.machine.collateral()],
    )
    assert main(["eventlog", folder.write("two.json", bundle.encode())]) == 10


def policy(folder: Folder, **changes: Any) -> str:
    return folder.write("listed.toml", folder.gateway.policy_toml(**changes).encode())


def listed(*values: dict[str, Any]) -> str:
    rows = ", ".join(
        f'{{ name = "{event.name}", digest = "{event.digest.hex()}" }}'
        for event in parse_runtime_events(list(values))
    )
    return f"[{rows}]"


def test_log_is_compared_with_the_tuples_of_a_policy(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    log = folder.write("log.json", json.dumps(LOG).encode())
    good = policy(folder, events=listed(*LOG[:2]))
    assert main(["eventlog", log, "--policy", good, "--tuple", "simulated"]) == 0
    assert "nothing in the log differs from this tuple" in capsys.readouterr().out
    for events, text in (
        (listed(LOG[1], LOG[0]), "RTMR3 event 1, model.lock, is reordered"),
        (listed(LOG[0]), "RTMR3 event 2, engine.args, is extra"),
        (listed(*LOG[:2], measured("more")), "RTMR3 event 3, more, is missing"),
        (listed(LOG[0], measured("x")), "RTMR3 event 2, engine.args, is changed"),
    ):
        assert main(["eventlog", log, "--policy", policy(folder, events=events)]) == 11
        assert text in capsys.readouterr().out
    assert main(["eventlog", log, "--json", "--policy", policy(folder)]) == 11
    (found,) = printed(capsys)["logs"][0]["tuples"]
    assert found["name"] == "simulated"
    assert found["differences"] == ["RTMR3 event 1, model.lock, is extra"]


def test_keys_are_counted_by_the_policy(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    log = folder.write("log.json", json.dumps([key(1), key(2)]).encode())
    assert main(["eventlog", log, "--policy", policy(folder)]) == 11
    assert "2 key events, where the policy allows 1" in capsys.readouterr().out
    assert main(["eventlog", log, "--policy", policy(folder, tdx="max_key_events = 2")]) == 0
    bare = folder.write("bare.json", json.dumps([measured()]).encode())
    events = listed(measured())
    assert main(["eventlog", bare, "--policy", policy(folder, events=events)]) == 11
    assert "RTMR3 binds no keys" in capsys.readouterr().out
    unbound = policy(folder, events=events, tdx='unbound_keys = "allow"')
    assert main(["eventlog", bare, "--policy", unbound]) == 0


def test_event_after_the_keys_agrees_with_no_tuple(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    contents = [event.content for event in parse_runtime_events([key(1)])]
    log = folder.write("log", ccel(*contents, b"late", register=4))
    assert main(["eventlog", log, "--policy", policy(folder)]) == 11
    assert "other events between or after the keys" in capsys.readouterr().out


def test_registers_are_compared_with_the_tuple_as_far_as_the_log_goes(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    log = folder.write("log", ccel(b"a"))
    assert main(["eventlog", log, "--policy", policy(folder)]) == 11
    assert "RTMR0 does not replay to the tuple's value" in capsys.readouterr().out
    value = hashlib.sha384(bytes(48) + hashlib.sha384(b"a").digest()).hexdigest()
    assert main(["eventlog", log, "--policy", policy(folder, rtmr0=f'"{value}"')]) == 0
    runtime = folder.write("log", ccel(b"a", register=4))
    pinned = {"rtmr3": f'"{value}"'}
    assert main(["eventlog", runtime, "--policy", policy(folder, **pinned)]) == 0
    assert main(["eventlog", runtime, "--policy", policy(folder, rtmr3=f'"{"ab" * 48}"')]) == 11
    assert "RTMR3 does not replay" in capsys.readouterr().out


def test_log_without_events_is_not_taken_for_agreement_on_what_it_accounts_for(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    log = folder.write("log", b"[]")
    assert main(["eventlog", log, "--policy", policy(folder)]) == 11
    assert "RTMR3 binds no keys" in capsys.readouterr().out
    assert main(["eventlog", log, "--policy", policy(folder, events=listed(*LOG[:1]))]) == 11
    assert "is missing" in capsys.readouterr().out
    other = folder.write("log", json.dumps([dstack()]).encode())
    assert main(["eventlog", other, "--policy", policy(folder)]) == 11
    assert "RTMR1 does not replay to the tuple's value" in capsys.readouterr().out
