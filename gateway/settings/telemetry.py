"""Settings of what operators are told beyond metrics: events of requests, spans."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

from pydantic import field_validator

from gateway.settings.fields import Section, measured, unmeasured


class TelemetrySettings(Section):
    """Events and spans of single requests: ids, codes and times, never content."""

    request_events: Literal["off", "errors", "all"] = unmeasured(
        "off", "requests that get an event on stderr: none, those that failed, all"
    )
    otlp_endpoint: str | None = measured(
        None, "URL of an OpenTelemetry collector (OTLP over HTTP) that gets a span per request"
    )

    @field_validator("otlp_endpoint")
    @classmethod
    def _plain_url(cls, url: str | None) -> str | None:
        if url is None:
            return None
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
            raise ValueError("expected http(s)://host:port/path without a user")
        if parts.query or parts.fragment:
            raise ValueError("expected http(s)://host:port/path without query or fragment")
        return url
