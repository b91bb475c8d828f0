"""Topic `tdx` over small directories of simulated evidence, and over the real ones."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from attestation.conformance import tdx
from attestation.conformance.case import Case, judge
from attestation.conformance.files import VectorDirectory
from attestation.conformance.runner import run_topic
from attestation.conformance.topics import TOPICS
from attestation.tdx.collateral import Collateral
from tests import vectors_path
from tests.refusals import refusal
from tests.tdx import bench
from tests.tdx.test_ccel import header, record, table
from tests.tdx.test_eventlog import dstack

Write = Callable[..., list[Case]]


def collateral_json(collateral: Collateral) -> bytes:
    members = {field.name: getattr(collateral, field.name) for field in fields(collateral)}
    return json.dumps(
        {
            name: value.hex() if isinstance(value, bytes) else value
            for name, value in members.items()
        }
    ).encode()


FILES = {
    "set/quote.bin": bench.raw_quote(),
    "set/five.bin": bench.raw_quote(5),
    "set/debug.bin": bench.changed(
        bench.platform(), domain={"td_attributes": 1 | 1 << 28}
    ).quote(bench.REPORT_DATA),
    "set/broken.bin": b"no quote",
    "set/ccel.bin": header() + record(1, b"a") + record(0) + record(4, b"b"),
    "set/torn.bin": (header() + record(1))[:-1],
    "set/table.dat": table(),
    "set/log.json": json.dumps([dstack(imr=2)]).encode(),
    "set/info.json": json.dumps({"event_log": [dstack(imr=2)], "mrtd": ""}).encode(),
    "set/note.txt": b"text",
    "set/packed.gz": gzip.compress(json.dumps([dstack(imr=2)]).encode()),
    "set/bomb.gz": gzip.compress(bytes(1 << 24)),
    "set/zeroes.bin": header() + record(1, b"a") + record(0) + record(4, b"b") + bytes(70_000),
    "set/mixed.bin": header() + record(1, b"a") + record(0) + record(4, b"b") + b"\xff" * 4 + b"\0",
    "set/answer.json": json.dumps({"event_log": json.dumps([dstack(imr=2)]), "quote": ""}).encode(),
    "other/quote.bin": bench.raw_quote(),
    "_collateral/good.json": collateral_json(bench.collateral()),
    "_collateral/old.json": collateral_json(bench.endorsed(tcb_expires=9)),
    "_collateral/late.json": collateral_json(
        bench.endorsed(levels=(), qe_levels=(), tcb_expires=9)
    ),
    "_collateral/broken.json": b"[]",
}  # fmt: skip


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write a directory with these entries and return its cases, under the simulated root."""
    monkeypatch.setattr(tdx, "INTEL_ANCHOR", bench.platform().anchor)

    def build(*entries: dict[str, Any]) -> list[Case]:
        for name, data in FILES.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(data)
        (tmp_path / "set/manifest.json").write_text(json.dumps({"entries": entries}))
        with ExitStack() as resources:
            return list(tdx.cases(VectorDirectory(tmp_path), resources))

    return build


def entry(file: str, kind: str = "quote", **members: Any) -> dict[str, Any]:
    digest = hashlib.sha256(FILES[f"set/{file}"]).hexdigest()
    return {"file": file, "kind": kind, "sha256": digest, **members}


def verdict(**members: Any) -> dict[str, Any]:
    case = {"collateral": "_collateral/good.json", "now_secs": bench.NOW, "expect": "ok"}
    return {**case, **members}


def named(cases: list[Case], suffix: str) -> Case:
    (found,) = [case for case in cases if case.name.endswith(suffix)]
    return found


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"status": "UpToDate", "advisory_ids": []},
        {"status": None, "advisory_ids": None},
    ],
)
def test_genuine_quote_agrees_with_ok(write: Write, members: dict[str, Any]) -> None:
    case = named(write(entry("quote.bin", cases=[verdict(**members)])), "#0")
    assert case.name == "set/quote.bin#0"
    assert judge(case).ok


@pytest.mark.parametrize(
    "members",
    [
        {"status": "OutOfDate"},
        {"advisory_ids": ["INTEL-SA-00001"]},
        {"expect": "error", "error": "Debug mode is enabled"},
        {"expect": "error", "error": "some other reason"},
    ],
)
def test_genuine_quote_does_not_agree_with_anything_else(
    write: Write, members: dict[str, Any]
) -> None:
    assert not judge(named(write(entry("quote.bin", cases=[verdict(**members)])), "#0")).ok


@pytest.mark.parametrize(
    ("file", "members", "agrees"),
    [
        ("debug.bin", {"error": "Debug mode is enabled"}, True),
        ("debug.bin", {"error": "a reason nobody classified"}, True),
        ("debug.bin", {"error": "TCBInfo expired"}, False),
        ("quote.bin", {"error": "TCBInfo expired", "collateral": "_collateral/old.json"}, False),
        (
            "quote.bin",
            {
                "error": "TCBInfo expired",
                "collateral": "_collateral/old.json",
                "now_secs": bench.NOW + 10,
            },
            True,
        ),
        (
            "debug.bin",
            {
                "error": "Debug mode is enabled",
                "collateral": "_collateral/old.json",
                "now_secs": bench.NOW + 10,
            },
            True,
        ),
        ("broken.bin", {"error": "Failed to decode quote"}, True),
        ("broken.bin", {"error": "Debug mode is enabled"}, False),
        ("quote.bin", {"error": "Failed to decode", "collateral": "_collateral/broken.json"}, True),
    ],
)
def test_refused_quote_agrees_with_any_reason_that_is_true(
    write: Write, file: str, members: dict[str, Any], agrees: bool
) -> None:
    cases = write(entry(file, cases=[verdict(expect="error", **members)]))
    assert judge(named(cases, "#0")).ok is agrees


def test_refused_quote_does_not_agree_with_ok(write: Write) -> None:
    cases = write(entry("debug.bin", cases=[verdict(), verdict(status="UpToDate")]))
    assert [judge(case).ok for case in cases] == [False, False, True]


def recorded_facts(version: int) -> dict[str, Any]:
    """What the simulator knows about its own quote, in the words of a manifest."""
    one = bench.platform(version)
    facts: dict[str, Any] = {
        "quote_version": version,
        "body": "td10" if version == 4 else "td15",
        "size": len(bench.raw_quote(version)),
        "td_attributes_le_hex": "0000001000000000",
        "debug": False,
        "sept_ve_disable": True,
        "xfam_le_hex": "e702060000000000",
        "tee_tcb_svn": one.machine.tee_tcb_svn.hex(),
        "mr_seam": one.machine.mr_seam.hex(),
        "mr_signer_seam": one.machine.mr_signer_seam.hex(),
        "mrtd": one.domain.mrtd.hex(),
        "mr_config_id": "00" * 48,
        "mr_owner": "00" * 48,
        "mr_owner_config": "00" * 48,
        "report_data": bench.REPORT_DATA.hex(),
        "fmspc": "fffefd000000",
        "qe_isvsvn": 6,
        "pck_not_before": bench.NOW - 86_400,
        "pck_not_after": bench.NOW + 7 * 365 * 86_400,
        "embedded_root_sha256_prefix": hashlib.sha256(one.anchor.root_der).hexdigest()[:8],
        "own_checks": {"body_sig": True, "ak_binding": True, "qe_sig": True, "chain": None},
        **{f"rtmr{index}": value.hex() for index, value in enumerate(one.domain.rtmrs)},
    }
    if version == 5:
        facts |= {"tee_tcb_svn2": one.machine.tee_tcb_svn2.hex(), "mr_service_td": "00" * 48}
    return facts


@pytest.mark.parametrize(("file", "version"), [("quote.bin", 4), ("five.bin", 5)])
def test_recorded_fields_agree_with_the_parsed_quote(write: Write, file: str, version: int) -> None:
    facts = recorded_facts(version)
    assert judge(named(write(entry(file, **facts)), "#parse")).ok
    for name, value in facts.items():
        wrong = {"own_checks": {"chain": False}}.get(name, "other" if value is not True else False)
        assert not judge(named(write(entry(file, **facts | {name: wrong})), "#parse")).ok, name


def test_fact_that_was_not_recorded_is_not_compared(write: Write) -> None:
    assert judge(named(write(entry("quote.bin", fmspc=None, note="text")), "#parse")).ok


def test_recorded_fields_of_what_is_no_quote_do_not_agree(write: Write) -> None:
    judgement = judge(named(write(entry("broken.bin", quote_version=4)), "#parse"))
    assert (judgement.got, judgement.ok) == ("refused", False)


def test_quote_without_a_chain_has_no_platform_to_compare(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bench.changed(bench.platform(), writing={"inner_type": 3}).quote(bench.REPORT_DATA)
    monkeypatch.setitem(FILES, "set/bare.bin", data)
    checks = {"body_sig": True, "ak_binding": True, "qe_sig": None, "chain": None}
    cases = write(entry("bare.bin", quote_version=4, own_checks=checks))
    assert judge(named(cases, "#parse")).ok
    for name in ("fmspc", "ppid", "pck_not_before", "embedded_root_sha256_prefix"):
        assert not judge(named(write(entry("bare.bin", **{name: "00"})), "#parse")).ok


def test_replayed_registers_are_compared(write: Write) -> None:
    first = hashlib.sha384(bytes(48) + hashlib.sha384(b"a").digest()).hexdigest()
    last = hashlib.sha384(bytes(48) + hashlib.sha384(b"b").digest()).hexdigest()
    registers = {"rtmr0": first, "rtmr1": "00" * 48, "rtmr2": None, "rtmr3": last}
    good = entry("ccel.bin", "eventlog", replayed_rtmrs=registers, events=3)
    assert named(write(good), "#replay").name == "set/ccel.bin#replay"
    assert judge(named(write(good), "#replay")).ok
    for wrong in ({"events": 2}, {"replayed_rtmrs": registers | {"rtmr3": first}}):
        assert not judge(named(write(good | wrong), "#replay")).ok


def test_log_is_replayed_against_its_quote(write: Write) -> None:
    expected = {"rtmr0": False, "rtmr1": False, "rtmr2": False, "rtmr3": True}
    for file in ("log.json", "info.json"):
        log = entry(file, "eventlog", matches_quote="quote.bin", replays_to=expected)
        assert judge(named(write(log), "#replay")).ok
        assert not judge(
            named(write(log | {"replays_to": expected | {"rtmr0": True}}), "#replay")
        ).ok
        unknown = dict.fromkeys(expected)
        assert judge(named(write(log | {"replays_to": unknown}), "#replay")).ok


@pytest.mark.parametrize("file", ["packed.gz", "answer.json"])
def test_log_that_is_packed_or_wrapped_is_replayed(write: Write, file: str) -> None:
    expected = {"rtmr0": False, "rtmr1": False, "rtmr2": False, "rtmr3": True}
    log = entry(file, "eventlog", matches_quote="quote.bin", replays_to=expected, events=1)
    assert judge(named(write(log), "#replay")).ok
    for name, value in expected.items():
        wrong = log | {"replays_to": expected | {name: not value}}
        assert not judge(named(write(wrong), "#replay")).ok
    assert not judge(named(write(log | {"events": 2}), "#replay")).ok


@pytest.mark.parametrize("file", ["ccel.bin", "zeroes.bin", "mixed.bin"])
def test_padding_of_a_log_is_no_event(write: Write, file: str) -> None:
    registers = {
        "rtmr0": hashlib.sha384(bytes(48) + hashlib.sha384(b"a").digest()).hexdigest(),
        "rtmr1": "00" * 48,
        "rtmr2": "00" * 48,
        "rtmr3": hashlib.sha384(bytes(48) + hashlib.sha384(b"b").digest()).hexdigest(),
    }
    log = entry(file, "eventlog", replayed_rtmrs=registers, events=3)
    assert judge(named(write(log), "#replay")).ok
    for name in registers:
        wrong = log | {"replayed_rtmrs": registers | {name: "11" * 48}}
        assert not judge(named(write(wrong), "#replay")).ok
    assert not judge(named(write(log | {"events": 4}), "#replay")).ok


def test_log_that_unpacks_to_too_much_does_not_agree(write: Write) -> None:
    log = entry("bomb.gz", "eventlog", replayed_rtmrs={"rtmr3": "00" * 48})
    judgement = judge(named(write(log), "#replay"))
    assert (judgement.got, judgement.ok) == ("refused", False)


def test_quote_of_a_log_may_lie_in_another_folder(write: Write) -> None:
    expected = {"rtmr2": False, "rtmr3": True}
    log = entry("log.json", "eventlog", matches_quote="other/quote.bin", replays_to=expected)
    assert judge(named(write(log), "#replay")).ok


def test_quote_may_name_its_own_log(write: Write) -> None:
    log = {"file": "log.json", "events": 1, "replays_to": {"rtmr2": False, "rtmr3": True}}
    cases = write(entry("quote.bin", eventlog=log))
    assert named(cases, "#replay").name == "set/quote.bin#replay"
    assert judge(named(cases, "#replay")).ok
    assert not judge(named(write(entry("quote.bin", eventlog=log | {"events": 2})), "#replay")).ok


@pytest.mark.parametrize("file", ["torn.bin", "table.dat"])
def test_log_that_does_not_parse_does_not_agree(write: Write, file: str) -> None:
    against = entry(file, "eventlog", matches_quote="quote.bin", replays_to={"rtmr3": True})
    assert not judge(named(write(against), "#replay")).ok
    alone = entry(file, "eventlog", replayed_rtmrs={"rtmr3": "00" * 48})
    judgement = judge(named(write(alone), "#replay"))
    assert (judgement.got, judgement.ok) == ("refused", False)


def test_files_without_an_expectation_give_no_case(write: Write) -> None:
    kinds = [("note.txt", "other"), ("note.txt", "collateral"), ("note.txt", "evidence-bundle")]
    cases = write(*(entry(*one) for one in kinds), entry("table.dat", "eventlog"))
    assert cases == []


@pytest.mark.parametrize(
    ("members", "code"),
    [
        (entry("note.txt", "eventlog"), "manifest"),
        (entry("note.txt", "picture"), "manifest"),
        (entry("note.txt", "picture") | {"kind": 1}, "manifest"),
        (entry("quote.bin") | {"sha256": "00" * 32}, "manifest"),
        (entry("quote.bin", cases={}), "manifest"),
        (entry("quote.bin", cases=[verdict(now_secs="1")]), "case"),
        (entry("quote.bin", cases=[verdict(now_secs=True)]), "case"),
        (entry("quote.bin", cases=[verdict(collateral=None)]), "manifest"),
        (entry("quote.bin", cases=[verdict(collateral="_collateral/none.json")]), "manifest"),
        (entry("quote.bin", cases=[verdict(collateral="../other.json")]), "manifest"),
        (entry("quote.bin", cases=[verdict(expect="maybe")]), "case"),
        (entry("quote.bin", cases=[verdict(expect="error")]), "manifest"),
        (entry("quote.bin", eventlog=[]), "manifest"),
        (entry("quote.bin", eventlog={"file": "log.json"}), "manifest"),
        (entry("quote.bin", eventlog={"file": "note.txt", "replays_to": {}}), "manifest"),
        (entry("log.json", "eventlog", replays_to={}), "manifest"),
        (entry("log.json", "eventlog", replays_to={}, matches_quote="none.bin"), "manifest"),
        (entry("log.json", "eventlog", replayed_rtmrs=[]), "manifest"),
    ],
)
def test_manifest_that_does_not_say_what_it_should_is_refused(
    write: Write, members: dict[str, Any], code: str
) -> None:
    assert refusal(write, members) == code


def test_every_real_case_agrees() -> None:
    folder = vectors_path.need("tdx")
    lines: list[str] = []
    assert run_topic("tdx", folder, topics=TOPICS, write_line=lines.append) == 0
    assert json.loads(lines[-1])["cases"] > 50
