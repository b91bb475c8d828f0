"""A span per request for an OpenTelemetry collector; needs the [otel] extra.

The span has the id that stands in the receipt (`lin.sp`) and the caller's span as its parent, so
that traces and receipts name each other.  Its attributes are a closed list.  Spans wait in a
bounded queue and leave in a thread of their own; what the collector does not take is lost, and
no request notices.  The endpoint is measured, so neither proxies, OTEL_* variables nor redirects
send spans elsewhere.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Final

from attestation.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.telemetry.requests import RequestEnd

ATTRIBUTES: Final = (
    "attested.attempts", "attested.decision", "attested.end", "attested.engine",
    "attested.first_byte_seconds", "attested.receipt", "http.request.method",
    "http.response.status_code", "http.route",
)  # fmt: skip
_QUEUE: Final = 4096
_BATCH: Final = 512
_DELAY_MILLISECONDS: Final = 1000.0
_EXPORT_SECONDS: Final = 5.0
_CLOSING_MILLISECONDS: Final = 2000
_TRACES: Final = "/v1/traces"


class SpanExport:
    """Turns ended requests into spans.  `processor` is what the SDK hands spans to."""

    def __init__(self, processor: Any, name: str, wall: Callable[[], float] = time.time) -> None:  # noqa: ANN401 - a type of the optional package
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - optional
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope  # noqa: PLC0415

        self._processor = processor
        self._wall = wall
        self._resource = Resource({"service.name": name})
        self._scope = InstrumentationScope("attested-gateway")

    def __call__(self, request: RequestEnd) -> None:
        """Queue the span of a request that ended just now, unless its trace is not sampled."""
        from opentelemetry.sdk.trace import ReadableSpan  # noqa: PLC0415 - optional
        from opentelemetry.trace import SpanContext, SpanKind, TraceFlags  # noqa: PLC0415
        from opentelemetry.trace.status import Status, StatusCode  # noqa: PLC0415

        if not request.sampled:
            return
        flags = TraceFlags(TraceFlags.SAMPLED)

        def context(span: str, *, is_remote: bool) -> SpanContext:
            return SpanContext(int(request.trace, 16), int(span, 16), is_remote, flags)

        ended = int(self._wall() * 1e9)
        span = ReadableSpan(
            name=f"POST {request.route}",
            context=context(request.span, is_remote=False),
            parent=context(request.parent, is_remote=True) if request.parent else None,
            resource=self._resource,
            attributes=attributes_of(request),
            kind=SpanKind.SERVER,
            status=Status(StatusCode.ERROR if request.failed else StatusCode.UNSET),
            start_time=ended - int(request.seconds * 1e9),
            end_time=ended,
            instrumentation_scope=self._scope,
        )
        self._processor.on_end(span)

    def close(self) -> None:
        """Send what waits, for at most some seconds, and stop.  Blocks: call it in a thread."""
        self._processor.force_flush(_CLOSING_MILLISECONDS)
        self._processor.shutdown()


def attributes_of(request: RequestEnd) -> dict[str, str | int | float]:
    """Return what a span says: exactly names of `ATTRIBUTES`, and no text of a caller."""
    found: dict[str, str | int | float] = {
        "attested.attempts": request.attempts,
        "attested.decision": request.decision,
        "attested.end": str(request.end),
        "attested.receipt": request.receipt,
        "http.request.method": "POST",
        "http.response.status_code": request.status,
        "http.route": request.route,
    }
    if request.engine:
        found["attested.engine"] = request.engine
    if request.first is not None:
        found["attested.first_byte_seconds"] = round(request.first, 6)
    return found


def open_spans(endpoint: str, name: str) -> SpanExport:
    """Return an export to this endpoint; raises `UsageError` without the [otel] extra."""
    try:
        import requests  # noqa: PLC0415 - optional, as the two below
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter,
        )
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError:
        raise UsageError(
            "spans need packages that are not installed",
            code="otel",
            expected="the packages of the [otel] extra",
            hint="pip install 'attested-gateway[server,otel]', or unset telemetry.otlp_endpoint",
        ) from None
    # Its messages quote what a collector answers.
    logging.getLogger("opentelemetry").addHandler(logging.NullHandler())
    logging.getLogger("opentelemetry").propagate = False
    session = requests.Session()
    session.trust_env = False
    session.max_redirects = 0
    exporter = OTLPSpanExporter(
        endpoint=_traces(endpoint), headers={}, timeout=_EXPORT_SECONDS, session=session
    )
    processor = BatchSpanProcessor(
        exporter,
        max_queue_size=_QUEUE,
        schedule_delay_millis=_DELAY_MILLISECONDS,
        max_export_batch_size=_BATCH,
        export_timeout_millis=_EXPORT_SECONDS * 1000,
    )
    return SpanExport(processor, name)


def _traces(endpoint: str) -> str:
    bare = endpoint.rstrip("/")
    return bare if bare.endswith(_TRACES) else bare + _TRACES
