"""Idle connections to one engine, last used first."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from gateway.errors import UpstreamError, UpstreamFailure
from gateway.upstream.connection import EngineConnection

if TYPE_CHECKING:
    from gateway.upstream.address import EngineAddress
    from gateway.upstream.limits import UpstreamLimits


class Pool:
    """Opens connections and keeps them while an engine is sure to keep them too.

    Last used first: under falling load the surplus ages out, and what is taken is as young as
    possible, which makes the race with an engine that closes idle connections rare.
    """

    def __init__(self, address: EngineAddress, limits: UpstreamLimits) -> None:
        self._address = address
        self._limits = limits
        self._idle: deque[EngineConnection] = deque()
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False
        self._room = memoryview(bytearray(limits.read_bytes))

    @property
    def idle_count(self) -> int:
        """How many connections wait for a request."""
        return len(self._idle)

    def take_idle(self) -> EngineConnection | None:
        """Return the youngest idle connection that is still worth using, or None."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.lost and not self._is_old(connection):
                return connection
            connection.abort(UpstreamFailure.CLOSED, "idle for too long")
        return None

    async def connect(self) -> EngineConnection:
        """Open a fresh connection, or raise `UpstreamError` of kind connect/timeout_connect."""
        loop = asyncio.get_running_loop()

        def make() -> EngineConnection:
            return EngineConnection(loop, self._limits, self._room)

        address = self._address
        try:
            async with asyncio.timeout(self._limits.connect_timeout):
                if address.path is not None:
                    _, made = await loop.create_unix_connection(make, address.path)
                else:
                    _, made = await loop.create_connection(make, address.host or "", address.port)
        except TimeoutError:
            raise UpstreamError(
                UpstreamFailure.TIMEOUT_CONNECT,
                "the engine accepted no connection in time",
                untouched=True,
            ) from None
        except OSError as error:
            raise UpstreamError(
                UpstreamFailure.CONNECT,
                f"no connection to the engine (errno {error.errno})",
                untouched=True,
            ) from None
        return made

    def give_back(self, connection: EngineConnection) -> None:
        """Keep a connection for the next request if it can carry one; close it otherwise."""
        if self._closed or not connection.reusable:
            connection.abort(UpstreamFailure.CLOSED, "not needed any more")
            return
        connection.rest()
        self._idle.append(connection)
        if self._sweeper is None:
            self._sweep_later()

    def close(self) -> None:
        """Close every idle connection; those under way belong to their requests."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        while self._idle:
            self._idle.pop().abort(UpstreamFailure.CLOSED, "the gateway stops")

    def _is_old(self, connection: EngineConnection) -> bool:
        age = asyncio.get_running_loop().time() - connection.idle_since
        return age >= self._limits.keep_alive

    def _sweep_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._sweeper = loop.call_later(self._limits.keep_alive / 4, self._sweep)

    def _sweep(self) -> None:
        self._sweeper = None
        while self._idle and (self._idle[0].lost or self._is_old(self._idle[0])):
            self._idle.popleft().abort(UpstreamFailure.CLOSED, "idle for too long")
        if self._idle:
            self._sweep_later()
