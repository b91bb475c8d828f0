"""The way to the engine: a small pooled HTTP/1.1 client on httptools."""

from __future__ import annotations

from gateway.upstream.address import EngineAddress, parse_engine_url
from gateway.upstream.client import Answer, Attempt, EngineCall, Upstream
from gateway.upstream.head import ResponseHead
from gateway.upstream.limits import UpstreamLimits

__all__ = [
    "Answer",
    "Attempt",
    "EngineAddress",
    "EngineCall",
    "ResponseHead",
    "Upstream",
    "UpstreamLimits",
    "parse_engine_url",
]
