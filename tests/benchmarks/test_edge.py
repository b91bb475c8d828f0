"""The edge benchmark runs over the project's own targets, and its judgement can be relied on.

How fast anything is, is not looked at here: machines that run tests have other work.
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from benchmarks.edge import __main__ as edge
from benchmarks.edge import compare, measure, report, where
from benchmarks.edge.cases import CASES, fitting
from benchmarks.edge.client import Client, Tally, request_of, without_chunks
from benchmarks.edge.dialogue import DONE, Asked, asked_by, event, plain_answer, request_body
from benchmarks.edge.meters import cpu_ns, family, pss_kib
from benchmarks.edge.parts import measure_parts
from benchmarks.edge.plot import Panel, draw
from benchmarks.edge.targets import TARGETS, Absent, started

EVENTS = 3
OK = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def stream(count: int = EVENTS, end: bytes = DONE) -> bytes:
    return b"".join(event(number, count, 7) for number in range(count)) + end


class Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent += bytes(data)

    def abort(self) -> None:
        self.aborted = True


def judged(pieces: list[bytes], *, events: int = EVENTS, size: int = 1024) -> Tally:
    """What the load generator makes of an answer that arrives in these pieces."""
    tally = Tally()
    client = Client(tally, lambda _client, _reusable: None)
    client.connection_made(Transport())
    body = request_body(size=size, events=events)
    client.send(request_of(body, events=events, host="x", key="k"))
    for piece in pieces:
        client.data_received(piece)
    if client.waiting:
        client.connection_lost(None)
    return tally


def test_requests_have_the_size_that_is_asked_for() -> None:
    for size in (1024, 1 << 20):
        body = request_body(size=size, events=5, delay_ms=10)
        assert size - 10 < len(body) <= size
        assert json.loads(body)["max_tokens"] == 5


def test_engine_understands_a_request_in_whichever_order_its_members_stand() -> None:
    members = json.loads(request_body(events=7, delay_ms=10))
    backwards = json.dumps(dict(reversed(members.items()))).encode()
    for body in (request_body(events=7, delay_ms=10), backwards):
        assert asked_by(body) == Asked(events=7, delay=0.01)
    assert asked_by(request_body()).events == 0


def test_answers_are_what_they_say() -> None:
    for number in range(EVENTS):
        one = event(number, EVENTS, 5)
        assert 200 < len(one) < 280
        assert json.loads(one.removeprefix(b"data: "))["object"] == "chat.completion.chunk"
    answer = plain_answer(1024)
    assert 1010 < len(answer) <= 1024
    assert json.loads(answer)["usage"]["prompt_tokens"] == 1024


@pytest.mark.parametrize("cut", range(1, 900, 37))
def test_whole_stream_is_no_failure_however_it_is_cut(cut: int) -> None:
    data = OK + chunk(stream()) + LAST
    tally = judged([data[at : at + cut] for at in range(0, len(data), cut)])
    assert (tally.failures, tally.finished, tally.events) == ({}, 1, EVENTS)


@pytest.mark.parametrize("size", range(1, 60))
def test_framing_that_cuts_an_event_loses_none(size: int) -> None:
    whole = stream()
    chunks = b"".join(chunk(whole[at : at + size]) for at in range(0, len(whole), size))
    tally = judged([OK + chunks, LAST])
    assert (tally.failures, tally.events) == ({}, EVENTS)
    assert without_chunks(b"\r\n" + chunks + LAST) == whole


@pytest.mark.parametrize(
    ("pieces", "why"),
    [
        ([OK + chunk(stream(EVENTS - 1)) + LAST], "lost events"),
        ([OK + chunk(stream(EVENTS + 1)) + LAST], "lost events"),
        ([OK + chunk(stream(end=b"")) + LAST], "no [DONE]"),
        ([OK + chunk(stream())], "connection lost"),
        ([b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n"], "status 502"),
        ([OK + chunk(stream()) + LAST, b"more"], "bytes after the answer"),
    ],
)
def test_stream_that_is_not_whole_is_a_failure(pieces: list[bytes], why: str) -> None:
    assert judged(pieces).failures == {why: 1}


def plain(body: bytes, length: int | None = None) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
    return head % (len(body) if length is None else length) + body


@pytest.mark.parametrize(
    ("answer", "failures"),
    [
        (plain(plain_answer(1024)), {}),
        (OK + chunk(plain_answer(1024)) + LAST, {}),
        (plain(plain_answer(100)), {"incomplete body": 1}),
        (plain(b"{}"), {"incomplete body": 1}),
        (plain(plain_answer(1024), 5000), {"connection lost": 1}),
    ],
)
def test_plain_answer_has_to_be_whole_and_of_a_whole_request(
    answer: bytes, failures: dict[str, int]
) -> None:
    assert judged([answer], events=0).failures == failures


def test_target_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTESTED_CACHE", "/nonexistent")
    with pytest.raises(Absent, match="vllm-router is not in"), started("vllm-router", 1):
        pass


def test_cases_have_no_more_streams_than_descriptors_allow() -> None:
    assert fitting(CASES["idle-10000"], 20_000).in_flight == 9850
    assert fitting(CASES["idle-10000"], 100_000) is CASES["idle-10000"]


def test_processes_are_metered() -> None:
    own = family(1)[0]
    assert own == 1
    assert cpu_ns(2**22 + 1) == 0
    assert pss_kib(2**22 + 1) == 0


def figure(cpu: float, **more: Any) -> dict[str, Any]:
    one = dict.fromkeys(
        f"{kind}_{at}_ms" for kind in ("latency", "first", "delay") for at in ("p50", "p99")
    )
    return {
        "cpu_us": cpu,
        "cpu_us_of": {"engine": 1.0, "load": 1.0},
        "unit": "request",
        "per_second": 1000.0,
        "failures": {},
        "open": None,
        **one,
        **more,
    }


def test_goals_are_judged_by_ratios_of_the_same_run() -> None:
    figures = {
        "plain-32": {
            "vllm-router": figure(100),
            "naive": figure(1000),
            "ours": figure(140, failures={"status 500": 2}),
            "ours-no-receipts": figure(80),
        }
    }
    compare.relate(figures)
    verdicts = {one["goal"]: one for one in compare.judge(figures)}
    plain_goal = verdicts["CPU of a plain 1 KiB request, 32 in flight, over vllm-router's"]
    assert (plain_goal["seen"], plain_goal["verdict"]) == (1.4, "met")
    assert verdicts["receipts add to a request, worker and notary"]["seen"] == 60
    slower = verdicts["CPU of FastAPI + httpx for that request over ours"]
    assert (slower["seen"], slower["verdict"]) == (7.14, "not met")
    assert verdicts["failures in all cases"]["verdict"] == "not met"
    assert verdicts["8 MiB bodies: CPU of a MiB"]["verdict"] == "not measured"


def test_what_receipts_add_to_an_event_is_without_what_they_add_to_its_request() -> None:
    figures = {
        case: {"ours": figure(ours), "ours-no-receipts": figure(bare)}
        for case, ours, bare in (("plain-32", 300, 100), ("paced-50", 32, 30))
    }
    added = compare.receipts_add(figures)
    assert added["paced-50: event_with_request"] == 2
    assert added["paced-50: event"] == 1


def test_runs_are_joined_by_their_medians_and_all_failures_count() -> None:
    runs = [
        {**figure(cpu, failures={"connect": 1}), "was_quiet": True, "count": 10}
        for cpu in (1.0, 9.0, 2.0)
    ]
    joined = measure.middle(runs)
    assert (joined["cpu_us"], joined["failures"]["connect"], joined["count"]) == (2.0, 3, 30)


def test_processor_time_is_that_of_the_targets_parts_only() -> None:
    answer = {
        "finished": 10,
        "events": 0,
        "seconds": 1.0,
        "failures": {},
        "cpu_ns": {"all": 50_000, "engine": 10_000, "load": 20_000, "machine": 1_000_080_000},
    }
    one = measure.per_unit(answer, CASES["plain-1"], ("all",))
    assert (one["cpu_us"], one["other_work_percent"]) == (5.0, 100)
    assert one["cpu_us_of"] == {"all": 5.0, "engine": 1.0, "load": 2.0}


def test_page_is_written_between_its_marks_only() -> None:
    marks = re.findall(r"<!-- bench-edge: .*?-->", report.PAGE.read_text(encoding="utf-8"))
    assert len(marks) == 2
    page = f"before\n{marks[0]}\nold\n{marks[1]}\nafter\n"
    assert report.put_between(page, "new\n") == f"before\n{marks[0]}\n\nnew\n\n{marks[1]}\nafter\n"
    with pytest.raises(ValueError, match="marks"):
        report.put_between("nothing here", "new")


def test_plot_is_a_document_with_a_bar_for_each_value() -> None:
    panel = Panel(
        title="a < b", unit="us", bars=(("x", 0.5), ("ours", 2000.0)), marked=frozenset({"ours"})
    )
    root = ET.fromstring(draw([panel, panel]))  # noqa: S314 - made right here
    assert len(root.findall("{*}rect")) == 4


def test_parts_of_a_receipt_are_measured() -> None:
    parts = measure_parts(count=2, rounds=1)
    assert {one["process"] for one in parts} == {"worker", "notary"}
    assert all(one["us"] > 0 for one in parts)


@pytest.mark.slow
def test_own_targets_are_measured_without_a_failure() -> None:
    targets = ["direct", "ours", "ours-no-receipts"]
    figures, absent = edge.measure(
        targets, ["plain-1", "stream-1", "body-1m"], seconds=0.2, rounds=1
    )
    assert absent == {}
    for by_target in figures.values():
        assert list(by_target) == targets
        for one in by_target.values():
            assert one["failures"] == {}
            assert one["count"] > 0
    worker, notary = (
        figures["plain-1"]["ours"]["cpu_us_of"][name] for name in ("worker", "notary")
    )
    assert worker > 0
    assert notary > 0
    document = {
        "machine": {"cpu": "", "cpus": 1, "memory_gib": 1, "kernel": "", "python": ""}
        | {"load_before": 0},
        "rounds": 1,
        "seconds_a_run": 0.2,
        "absent": {"nginx": "not here"},
        "versions": {"vllm-router": "1"},
        "goals": compare.judge(figures),
        "receipts_add": compare.receipts_add(figures),
        "cases": figures,
        "parts": [{"process": "worker", "step": "one", "us": 1.0}],
        "where_time_goes": [
            {part: {"areas_us": {"signing": 3.0}} for part in ("worker", "notary")}
        ],
    }
    text = report.markdown(document)
    assert "| plain-1 | ours |" in text
    assert "Absent: nginx" in text


@pytest.mark.slow
def test_profile_says_in_which_functions_the_time_goes() -> None:
    (found,) = edge.where_time_goes(["plain-32"], seconds=1.0)
    for part in ("worker", "notary"):
        assert found["cpu_us_of"][part] > 0
        assert found[part]["samples"] > 0
        assert found[part]["areas_us"]


def test_modules_count_for_the_first_area_that_they_fit() -> None:
    modules = {
        "attestation.receipt.signing": 3,
        "attestation.receipt.payload": 2,
        "gateway.notary.wire.client": 4,
        "uvicorn.protocols": 1,
    }
    assert where.areas(modules) == {
        "sockets between the processes": 4,
        "signing": 3,
        "claims and exchange": 2,
        "event loop and HTTP library": 1,
    }


def test_every_target_and_case_is_known_to_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert {"direct", "nginx", "naive", "vllm-router", "litellm", "ours"} <= set(TARGETS)
    monkeypatch.setattr("sys.argv", ["edge", "--targets", "nginxx"])
    with pytest.raises(SystemExit):
        edge.main()
    assert "no such thing in --targets: nginxx" in capsys.readouterr().err
