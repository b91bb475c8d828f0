"""One engine: its address, its idle connections, and requests to it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gateway.errors import UpstreamError, UpstreamFailure
from gateway.upstream.breaker import Breaker
from gateway.upstream.call import EngineCall
from gateway.upstream.limits import UpstreamLimits
from gateway.upstream.pool import Pool

if TYPE_CHECKING:
    from gateway.upstream.address import EngineAddress
    from gateway.upstream.head import ResponseHead

CONTROL_SECONDS: Final = 30.0
"""How long a small document may take, however long answers to prompts may."""

_MOST_LEADS: Final = 256
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
    there are none.  `in_flight` requests run now; `heard_at` is when it last answered.  At
    `health_path` it may be asked how it is (None: it may not).
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
        self._authority = address.authority
        self._leads: dict[tuple[str, bytes | None], bytes] = {}
        self.pool = Pool(address, self.limits)
        self.breaker = Breaker()
        self.health_path: str | None = None
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
        return EngineCall(self, path, body, request_id, accept)

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
        call = EngineCall(self, path, None, request_id, seconds=seconds)
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

    def post_head(self, path: str, accept: bytes | None, length: int, request_id: str) -> bytes:
        """Return the head of a POST; an `accept` that cannot be sent on becomes */*."""
        lead = self._leads.get((path, accept)) or self._new_lead(path, accept)
        return b"%b%d\r\nx-request-id: %b\r\n\r\n" % (lead, length, request_id.encode("ascii"))

    def get_head(self, path: str, request_id: str) -> bytes:
        """Return the head of a GET."""
        return (
            b"GET %b HTTP/1.1\r\nhost: %b\r\naccept: application/json\r\nx-request-id: %b\r\n\r\n"
            % (path.encode("ascii"), self._authority, request_id.encode("ascii"))
        )

    def _new_lead(self, path: str, accept: bytes | None) -> bytes:
        usable = accept if accept is not None and _ACCEPT.fullmatch(accept) else None
        lead = (
            b"POST %b HTTP/1.1\r\nhost: %b\r\ncontent-type: application/json\r\naccept: %b\r\n"
            b"content-length: " % (path.encode("ascii"), self._authority, usable or b"*/*")
        )
        if usable == accept:
            if len(self._leads) >= _MOST_LEADS:
                # Callers choose what they accept; the few forms that SDKs send come back at once.
                self._leads.clear()
            self._leads[path, accept] = lead
        return lead

    def close(self) -> None:
        """Close the idle connections; calls under way end with their own requests."""
        self.pool.close()
