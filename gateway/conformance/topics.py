"""The topics that need a running gateway, by name."""

from __future__ import annotations

TOPICS = {
    "requests": "gateway.conformance.requests",
    "sse": "gateway.conformance.sse",
}
