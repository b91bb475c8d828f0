"""What is told of single requests: events and spans, ids and codes, never content."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from attestation.errors import UsageError
from attestation.receipt.claims import End
from gateway.settings.telemetry import TelemetrySettings
from gateway.telemetry import spans as spans_module
from gateway.telemetry.events import EVENTS, Events
from gateway.telemetry.requests import RequestEnd, all_of, event_writer
from gateway.telemetry.spans import ATTRIBUTES, SpanExport, attributes_of, open_spans
from tests.api.conftest import Running, running_gateway
from tests.support.collector import Collector

CANARY = "canary prompt of a request"
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def ended(**changes: Any) -> RequestEnd:
    base: dict[str, Any] = {
        "receipt": "a" * 32,
        "route": "/v1/chat/completions",
        "end": End.COMPLETE,
        "decision": "allow",
        "status": 200,
        "seconds": 1.5,
        "first": 0.25,
        "engine": "engine",
        "attempts": 1,
        "trace": TRACE,
        "span": "c" * 16,
        "parent": SPAN,
        "sampled": True,
    }
    return RequestEnd(**base | changes)


def lines_of(mode: Any, *requests: RequestEnd) -> list[dict[str, Any]]:
    stream = io.StringIO()
    write = event_writer(mode, Events(stream, lambda: 7.0).emit)
    for request in requests:
        write(request)
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_event_of_a_request_has_ids_codes_and_times() -> None:
    (line,) = lines_of("all", ended())
    assert line == {
        "attempts": 1,
        "decision": "allow",
        "end": "complete",
        "engine": "engine",
        "event": "request.ended",
        "first_milliseconds": 250,
        "milliseconds": 1500,
        "receipt": "a" * 32,
        "route": "/v1/chat/completions",
        "span": "c" * 16,
        "status": 200,
        "time": 7,
        "trace": TRACE,
    }
    assert "?" not in line.values()


def test_only_failures_are_told_where_only_they_are_asked_for() -> None:
    failed = (ended(status=429), ended(end=End.CLIENT_ABORT), ended(status=0), ended(status=502))
    assert len(lines_of("errors", ended(), *failed)) == len(failed)
    (line,) = lines_of("errors", ended(status=0, first=None, engine="", attempts=0))
    assert (line["first_milliseconds"], line["engine"]) == (-1, "none")


@pytest.mark.parametrize(
    "field", ["receipt", "route", "decision", "end", "engine", "trace", "span"]
)
def test_text_in_a_field_of_a_request_is_hidden(field: str) -> None:
    (line,) = lines_of("all", ended(**{field: CANARY}))
    assert CANARY not in json.dumps(line)
    assert line[field] == "?"


def test_observer_that_fails_costs_neither_the_request_nor_the_others() -> None:
    told: list[RequestEnd] = []
    reported: list[BaseException] = []

    def broken(_request: RequestEnd) -> None:
        raise ZeroDivisionError

    observe = all_of((broken, told.append), reported.append)
    assert observe is not None
    observe(ended())
    assert (len(told), [type(error) for error in reported]) == (1, [ZeroDivisionError])
    assert all_of((), reported.append) is None


# -- spans ---------------------------------------------------------------------------------


def exported(*requests: RequestEnd) -> Any:
    exporter = InMemorySpanExporter()
    export = SpanExport(SimpleSpanProcessor(exporter), "gw.test", wall=lambda: 100.0)
    for request in requests:
        export(request)
    export.close()
    return exporter.get_finished_spans()


def test_span_carries_the_receipt_and_continues_the_callers_trace() -> None:
    (span,) = exported(ended())
    assert f"{span.context.trace_id:032x}" == TRACE
    assert f"{span.context.span_id:016x}" == "c" * 16
    assert f"{span.parent.span_id:016x}" == SPAN
    assert (span.end_time, span.end_time - span.start_time) == (100 * 10**9, 1_500_000_000)
    assert dict(span.attributes) == attributes_of(ended())
    assert span.attributes["attested.receipt"] == "a" * 32
    assert span.name == "POST /v1/chat/completions"
    assert span.status.is_ok
    assert dict(span.resource.attributes) == {"service.name": "gw.test"}


def test_span_of_a_failed_request_is_an_error_without_words() -> None:
    (span,) = exported(ended(status=502, end=End.UPSTREAM_ERROR, parent="", first=None, engine=""))
    assert not span.status.is_ok
    assert span.status.description is None
    assert span.parent is None
    assert span.events == ()


def test_attributes_are_a_closed_list() -> None:
    assert attributes_of(ended()).keys() == set(ATTRIBUTES)
    assert attributes_of(ended(first=None, engine="")).keys() < set(ATTRIBUTES)


def test_trace_that_is_not_sampled_gets_no_span() -> None:
    assert exported(ended(sampled=False)) == ()


def test_missing_packages_are_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        __import__("sys").modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None
    )
    with pytest.raises(UsageError) as caught:
        open_spans("http://127.0.0.1:4318", "gw.test")
    assert caught.value.code == "otel"
    assert "[server,otel]" in caught.value.hint


@pytest.mark.parametrize(
    "url",
    ["127.0.0.1:4318", "ftp://a/b", "http://", "http://u:p@a/b", "http://a/b?c=d", "http://a#b"],
)
def test_endpoint_of_another_form_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        TelemetrySettings(otlp_endpoint=url)


@pytest.fixture
def collectors() -> Iterator[Callable[..., Collector]]:
    made: list[Collector] = []

    def make(status: int = 200) -> Collector:
        made.append(Collector(status))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_spans_reach_a_collector_whatever_the_environment_says(
    collectors: Callable[..., Collector], monkeypatch: pytest.MonkeyPatch
) -> None:
    collector, other = collectors(), collectors()
    for name in ("HTTP_PROXY", "http_proxy", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        monkeypatch.setenv(name, other.url)
    export = open_spans(collector.url, "gw.test")
    export(ended())
    export.close()
    assert [path for path, _ in collector.requests] == ["/v1/traces"]
    (span,) = collector.spans()
    assert span.span_id.hex() == "c" * 16
    assert other.requests == []


@pytest.mark.parametrize("status", [302, 400])
def test_collector_that_refuses_costs_nothing_and_is_followed_nowhere(
    collectors: Callable[..., Collector], status: int, capfd: pytest.CaptureFixture[str]
) -> None:
    collector = collectors(status)
    export = open_spans(collector.url, "gw.test")
    export(ended())
    export.close()
    assert {path for path, _ in collector.requests} == {"/v1/traces"}
    assert capfd.readouterr() == ("", "")


def test_collector_that_is_gone_costs_no_more_than_a_full_queue() -> None:
    export = open_spans("http://127.0.0.1:1", "gw.test")
    for _ in range(spans_module._QUEUE + 10):
        export(ended())
    export.close()


# -- a whole gateway -----------------------------------------------------------------------


@pytest.fixture
async def observed(
    tmp_path: Path, collectors: Callable[..., Collector]
) -> AsyncIterator[tuple[Running, Collector]]:
    collector = collectors()
    telemetry = {"request_events": "all", "otlp_endpoint": collector.url}
    async with running_gateway(tmp_path, telemetry=telemetry) as running:
        yield running, collector


async def test_request_is_told_of_with_the_ids_of_its_receipt(
    observed: tuple[Running, Collector],
) -> None:
    running, collector = observed
    headers = running.headers() | {
        "traceparent": f"00-{TRACE}-{SPAN}-01",
        "x-task-id": "canary-task",
    }
    body = {"model": "m-one", "messages": [{"role": "user", "content": CANARY}]}
    answer = await running.client.post("/v1/chat/completions", json=body, headers=headers)
    refused = await running.chat("bob", model="canary-model")
    await running.gateway.stop()
    told = [event for event in running.events() if event["event"] == "request.ended"]
    assert [event["receipt"] for event in told] == [
        answer.headers["x-receipt-id"],
        refused.headers["x-receipt-id"],
    ]
    assert (told[0]["trace"], told[0]["status"], told[0]["engine"]) == (TRACE, 200, "engine")
    assert (told[1]["trace"], told[1]["engine"]) == (told[1]["receipt"], "none")
    assert all("?" not in event.values() for event in told)
    spans = {span.span_id.hex(): span for span in collector.spans()}
    assert spans.keys() == {event["span"] for event in told}
    mine = spans[told[0]["span"]]
    assert (mine.trace_id.hex(), mine.parent_span_id.hex()) == (TRACE, SPAN)
    sent = b"".join(body for _, body in collector.requests)
    for written in (sent, running.log.getvalue().encode()):
        assert b"canary" not in written.lower()


async def test_trace_that_is_not_sampled_stays_out_of_the_collector(
    observed: tuple[Running, Collector],
) -> None:
    running, collector = observed
    headers = running.headers() | {"traceparent": f"00-{TRACE}-{SPAN}-00"}
    body = {"model": "m-one", "messages": [{"role": "user", "content": "x"}]}
    await running.client.post("/v1/chat/completions", json=body, headers=headers)
    await running.gateway.stop()
    assert collector.spans() == []


async def test_nothing_is_told_of_requests_unless_it_is_asked_for(running_quiet: Running) -> None:
    assert (await running_quiet.chat()).status_code == 200
    assert "request.ended" in EVENTS
    assert all(event["event"] != "request.ended" for event in running_quiet.events())


@pytest.fixture
async def running_quiet(tmp_path: Path) -> AsyncIterator[Running]:
    async with running_gateway(tmp_path) as running:
        yield running
