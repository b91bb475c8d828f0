"""Bounds on what the edge takes in and lets through."""

from __future__ import annotations

from dataclasses import dataclass, field

from attestation.encoding.strict_json import JsonLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeLimits:
    """Per request: sizes in bytes, times in seconds.

    `body_*` bound the request, `response_bytes` and `frame_bytes` the engine's answer and one
    event in it; `max_n` is the most choices a request may ask for.  `in_flight` and
    `buffered_bytes` bound all requests of one process together.
    """

    body_bytes: int = 16 << 20
    body_seconds: float = 60.0
    response_bytes: int = 64 << 20
    frame_bytes: int = 4 << 20
    max_n: int = 16
    json_depth: int = 128
    json_members: int = 10_000
    in_flight: int = 16_384
    buffered_bytes: int = 512 << 20
    json: JsonLimits = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Build once what every request is parsed with."""
        bounds = JsonLimits(
            max_bytes=self.body_bytes, max_depth=self.json_depth, max_members=self.json_members
        )
        object.__setattr__(self, "json", bounds)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """Per connection, before any request exists: sizes in bytes, times in seconds.

    `connections` and `connections_per_address` (None: no bound) are those of one listener in one
    process.  `stall_seconds` is how long a caller may take nothing of what waits for it;
    `discard_*` bound what is still read of a body whose request was answered already;
    `pipelined` requests, with `pipelined_bytes` of body each, may be sent ahead.  Chunk sizes,
    extensions and line ends may take `framing_bytes` more than the body they carry.
    """

    connections: int = 16_384
    connections_per_address: int | None = None
    header_bytes: int = 32 * 1024
    header_count: int = 100
    header_seconds: float = 10.0
    keep_alive_seconds: int = 75
    stall_seconds: float = 30.0
    discard_bytes: int = 32 << 20
    discard_seconds: float = 10.0
    pipelined: int = 16
    pipelined_bytes: int = 64 * 1024
    framing_bytes: int = 64 * 1024
