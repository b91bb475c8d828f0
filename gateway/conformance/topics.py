"""The topics that need the gateway, most of them a running one, by name."""

from __future__ import annotations

TOPICS = {
    "http1": "gateway.conformance.http1",
    "jwt": "gateway.conformance.jwt",
    "requests": "gateway.conformance.requests",
    "sse": "gateway.conformance.sse",
}
