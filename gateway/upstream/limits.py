"""How long and how much the gateway waits for and takes from an engine."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamLimits:
    """Bounds on one engine request: times in seconds, sizes in bytes.

    `first_byte_timeout` runs until the first byte of the body, because an engine sends the head
    of a stream before its prefill is done; `idle_timeout` then bounds the gap between reads.
    `keep_alive` stays below the five seconds after which vLLM closes an idle connection.

    At most `buffer_bytes` and one read of `read_bytes` wait to be passed on; as much again, and
    the 64 KiB that a transport takes before it says stop, may wait for a slow caller behind it.
    """

    connect_timeout: float = 2.0
    first_byte_timeout: float = 600.0
    idle_timeout: float = 60.0
    total_timeout: float = 3600.0
    keep_alive: float = 4.0
    head_bytes: int = 32 * 1024
    head_fields: int = 100
    buffer_bytes: int = 32 * 1024
    read_bytes: int = 64 * 1024
