"""Settings of what faces callers: listeners, TLS, bounds on what they may send."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import field_validator, model_validator

from gateway.settings.fields import Section, measured, unmeasured
from gateway.settings.places import is_loopback, require_absolute

_MEBIBYTE = 1 << 20
_LEAST_BUCKET = 64


class ListenSettings(Section):
    """Where inference and control requests come in: a TCP address or a Unix socket."""

    host: str = unmeasured("127.0.0.1", "address to listen on", min_length=1)
    port: int = unmeasured(8443, "TCP port; 0 takes a free one", ge=0, le=65535)
    uds: Path | None = unmeasured(None, "Unix socket to listen on instead of host and port")

    @field_validator("uds")
    @classmethod
    def _absolute(cls, uds: Path | None) -> Path | None:
        return require_absolute(uds)

    @model_validator(mode="after")
    def _one_address(self) -> Self:
        if self.uds is not None and {"host", "port"} & self.model_fields_set:
            raise ValueError("set either uds or host and port, not both")
        return self


class TlsSettings(Section):
    """TLS, terminated in the gateway with a key that is born and dies with the boot."""

    mode: Literal["self-signed", "off"] = measured(
        "self-signed", "self-signed: key born per boot; off: plain HTTP, loopback and sockets only"
    )
    names: tuple[str, ...] = unmeasured(
        ("localhost", "127.0.0.1"), "names and addresses in the certificate", min_length=1
    )


class Limits(Section):
    """Bounds on what a caller or the engine may make the gateway hold or do."""

    body_bytes: int = unmeasured(16 * _MEBIBYTE, "largest request body", ge=1)
    response_bytes: int = unmeasured(64 * _MEBIBYTE, "largest plain answer", ge=1)
    frame_bytes: int = unmeasured(4 * _MEBIBYTE, "largest event of a stream", ge=1024)
    header_bytes: int = unmeasured(32 * 1024, "largest request head", ge=1024, le=_MEBIBYTE)
    header_count: int = unmeasured(100, "most header fields of a request", ge=8, le=1000)
    header_seconds: float = unmeasured(10.0, "seconds for a request head", gt=0, le=600)
    body_seconds: float = unmeasured(60.0, "seconds for a request body", gt=0, le=3600)
    keep_alive_seconds: int = unmeasured(
        75, "seconds a connection may stay without a request", ge=1, le=3600
    )
    stall_seconds: float = unmeasured(
        30.0, "seconds a caller may take nothing of what waits for it", gt=0, le=3600
    )
    connections: int = unmeasured(
        16_384, "connections of callers a worker holds; beyond, one without a request ends", ge=1
    )
    connections_per_address: int | None = unmeasured(
        None, "connections a worker holds of one address; for gateways without a proxy", ge=1
    )
    in_flight: int = unmeasured(
        16_384, "requests a worker has under way; beyond, 503 before the key is looked at", ge=1
    )
    buffered_bytes: int = unmeasured(
        512 * _MEBIBYTE, "bodies and plain answers a worker holds together", ge=_MEBIBYTE
    )
    max_n: int = measured(16, "most choices (n) a request may ask for", ge=1, le=1024)
    refusals_per_second: float = unmeasured(
        20.0, "refusals a second and key that get a receipt each; more are only counted", gt=0
    )
    drain_seconds: float = unmeasured(30.0, "seconds running requests get at shutdown", ge=0)

    @model_validator(mode="after")
    def _one_request_fits(self) -> Self:
        if self.buffered_bytes < self.body_bytes + self.response_bytes:
            raise ValueError(
                "limits.buffered_bytes must hold at least one body and one plain answer: "
                "body_bytes and response_bytes together"
            )
        return self


class CacheSettings(Section):
    """Whose requests may share the engine's cached prompt prefixes."""

    salt: Literal["tenant", "task", "request", "off"] = measured(
        "tenant",
        "who shares cached prefixes: one key's requests (tenant), one task's, none (request); "
        "off: everybody, as the engine does by itself",
    )


class PaddingSettings(Section):
    """Streams that tell a listener on the wire less; both cost, and both are off."""

    bucket_bytes: int = measured(
        0,
        "streams: fill every write up to this size, doubled until it fits; 0: as it comes",
        ge=0,
        le=1 << 16,
    )
    tick_ms: int = measured(
        0, "streams: release events every so many milliseconds; 0: as they come", ge=0, le=1000
    )

    @field_validator("bucket_bytes")
    @classmethod
    def _room_for_a_comment(cls, size: int) -> int:
        if 0 < size < _LEAST_BUCKET:
            raise ValueError(f"expected 0 or at least {_LEAST_BUCKET}")
        return size


class AdminSettings(Section):
    """Metrics and certificate installation, on a listener of their own."""

    host: str = unmeasured("127.0.0.1", "loopback address of the admin listener")
    port: int | None = unmeasured(None, "port; without one there is no admin listener", ge=0)

    @field_validator("host")
    @classmethod
    def _loopback_only(cls, host: str) -> str:
        if not is_loopback(host):
            raise ValueError("the admin listener only takes a loopback address")
        return host
