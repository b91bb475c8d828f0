"""One engine: its address, its idle connections, and requests to it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gateway.errors import UpstreamError, UpstreamFailure
from gateway.upstream.breaker import Breaker
from gateway.upstream.call import EngineCall, Request
from gateway.upstream.limits import UpstreamLimits
from gateway.upstream.pool import Pool

if TYPE_CHECKING:
    from gateway.upstream.address import EngineAddress
    from gateway.upstream.head import ResponseHead

CONTROL_SECONDS: Final = 30.0
"""How long a small document may take, however long answers to prompts may."""

_ACCEPT = re.compile(rb"[!-~][ -~]{0,255}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole response, for control calls that need no streaming."""

    status: int
    content_type: str | None
    body: bytes


class Upstream:
    """One engine, reached over TCP or a Unix socket.

    `name` and `local` are what receipts say about it: `local` means that it is this trust
    domain's own engine; `label` is its name and version there.  It serves `models`, or any if
    there are none.  `in_flight` requests run now; `heard_at` is when it last answered.
    """

    def __init__(
        self,
        address: EngineAddress,
        limits: UpstreamLimits | None = None,
        *,
        name: str = "engine",
        local: bool = False,
        label: str | None = None,
        weight: int = 1,
        models: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.local = local
        self.label = label
        self.weight = weight
        self.models = frozenset(models)
        self.limits = limits or UpstreamLimits()
        self.authority = address.authority
        self.pool = Pool(address, self.limits)
        self.breaker = Breaker()
        self.in_flight = 0
        self.heard_at = float("-inf")

    @property
    def idle_connections(self) -> int:
        """How many connections wait for a request."""
        return self.pool.idle_count

    def start(
        self, *, path: str, body: bytes, request_id: str, accept: bytes | None = None
    ) -> EngineCall:
        """Prepare a POST of exactly `body`; nothing is sent before `head()` is awaited."""
        return EngineCall(self, post_request(path, body, request_id, accept))

    async def open(
        self, *, path: str, body: bytes, request_id: str, accept: bytes | None = None
    ) -> tuple[ResponseHead, EngineCall]:
        """`start`, and wait for the head; the call is closed if there is none."""
        call = self.start(path=path, body=body, request_id=request_id, accept=accept)
        try:
            return await call.head(), call
        except BaseException:
            # Whatever ends the wait, a cancelled caller included, ends the request too.
            call.close()
            raise

    async def get(
        self,
        path: str,
        *,
        request_id: str,
        max_bytes: int = 1 << 20,
        seconds: float = CONTROL_SECONDS,
    ) -> Answer:
        """Fetch a whole small document, or raise `UpstreamError`."""
        call = EngineCall(self, _get_request(path, request_id), seconds=seconds)
        try:
            answer = await call.head()
            body = b""
            while data := await call.read():
                body += data
                if len(body) > max_bytes:
                    raise UpstreamError(
                        UpstreamFailure.MALFORMED, f"the document exceeds {max_bytes} bytes"
                    )
        finally:
            call.close()
        return Answer(status=answer.status, content_type=answer.content_type, body=body)

    def close(self) -> None:
        """Close the idle connections; calls under way end with their own requests."""
        self.pool.close()


def post_request(path: str, body: bytes, request_id: str, accept: bytes | None) -> Request:
    """Return a POST of exactly `body`; an `accept` that cannot be sent on becomes */*."""
    accepted = accept if accept is not None and _ACCEPT.fullmatch(accept) else b"*/*"
    return Request(
        b"POST %b HTTP/1.1\r\nhost: " % path.encode("ascii"),
        b"\r\ncontent-type: application/json\r\naccept: %b\r\ncontent-length: %d\r\n"
        b"x-request-id: " % (accepted, len(body)),
        body,
        request_id,
    )


def _get_request(path: str, request_id: str) -> Request:
    return Request(
        b"GET %b HTTP/1.1\r\nhost: " % path.encode("ascii"),
        b"\r\naccept: application/json\r\nx-request-id: ",
        b"",
        request_id,
    )
