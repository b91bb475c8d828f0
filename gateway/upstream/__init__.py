"""The way to the engines: a small pooled HTTP/1.1 client on httptools, and which one is asked."""

from __future__ import annotations

from gateway.upstream.address import EngineAddress, parse_engine_url
from gateway.upstream.attempt import Attempt
from gateway.upstream.call import EngineCall
from gateway.upstream.client import Answer, Upstream
from gateway.upstream.engines import EngineCondition, Engines, HealthRules
from gateway.upstream.head import ResponseHead
from gateway.upstream.limits import UpstreamLimits

__all__ = [
    "Answer",
    "Attempt",
    "EngineAddress",
    "EngineCall",
    "EngineCondition",
    "Engines",
    "HealthRules",
    "ResponseHead",
    "Upstream",
    "UpstreamLimits",
    "parse_engine_url",
]
