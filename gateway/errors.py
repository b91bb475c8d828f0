"""What can go wrong inside the gateway, by whose fault it is.

    GatewayError
    ├── NotaryUnavailable     the boot has ended: nothing may be answered without a receipt
    └── UpstreamError         the engine, or the way to it, failed; `kind` says how

No message here ever carries a prompt, an answer, a key or a salt: all of them may reach a log.
"""

from __future__ import annotations

from enum import StrEnum


class GatewayError(Exception):
    """Base of the gateway's own failures."""


class NotaryUnavailable(GatewayError):  # noqa: N818 - names a state, as its users read it
    """The notary died, or a write of its log failed: this boot issues nothing any more."""


class UpstreamFailure(StrEnum):
    """How an engine request failed; these words stand in receipts as `att[].out`."""

    CONNECT = "connect"
    TIMEOUT_CONNECT = "timeout_connect"
    TIMEOUT_FIRST_BYTE = "timeout_first_byte"
    TIMEOUT_IDLE = "timeout_idle"
    TIMEOUT_TOTAL = "timeout_total"
    RESET = "reset"
    MALFORMED = "malformed"
    INCOMPLETE = "incomplete"
    STATUS = "status"  # it answered with 502, 503 or a dead engine's 500, and another one was asked
    CLOSED = "closed"
    UNAVAILABLE = "unavailable"  # no engine was up to be tried: no attempt, so in no receipt

    @property
    def is_timeout(self) -> bool:
        """Whether the engine was too slow rather than broken."""
        return self.value.startswith("timeout")


class UpstreamError(GatewayError):
    """One engine request failed.

    `kind` is the closed word for it; `detail` says in our own words what was expected and seen
    and never quotes the engine.  `untouched` is true when nothing of a response had arrived;
    `retry_after` is in how many seconds another try may make sense, where that is known.
    """

    def __init__(
        self,
        kind: UpstreamFailure,
        detail: str,
        *,
        untouched: bool = False,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(f"{kind.value}: {detail}")
        self.kind = kind
        self.detail = detail
        self.untouched = untouched
        self.retry_after = retry_after
