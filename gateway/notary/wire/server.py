"""The notary's side of the socket.

    worker ──ANNOUNCE──────────►  ledger                       (no reply)
           ──SEAL──────────────►  ledger        ──reply──►     once the receipt is durable
           ──FIND, …───────────►  a task each   ──reply──►     in any order, by request id
           ◄──HELLO─────────────  first frame; again when the boot's endorsements are renewed
           ◄──STATE─────────────  whenever the notary's condition changes

A connection owns what was announced on it: nobody else can seal it, and what it leaves behind is
sealed as `gateway_failure`.  Whoever breaks the protocol loses its own connection and nothing
else changes.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from gateway.notary.interface import Notary
from gateway.notary.wire.connection import Connection
from gateway.notary.wire.replies import Condition
from gateway.notary.wire.socket import peer_uid

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from attestation.receipt.outcome import Outcome
    from gateway.notary.interface import Sealed


class ServedNotary(Notary, Protocol):
    """A notary that seals without a task for each, and can be told that a worker will not."""

    def seal_soon(self, outcome: Outcome, told: Sealed) -> None:
        """As `seal`, without anybody who waits: `told` hears what came of it."""

    async def abandon(self, jti: str) -> None:
        """Seal this request as `gateway_failure` if it is announced and not sealed."""


def _own_uid() -> frozenset[int]:
    return frozenset({os.geteuid()})


@dataclass(frozen=True, slots=True, kw_only=True)
class WireLimits:
    """Bounds of the server; sizes in bytes, times in seconds, the others per connection.

    `announced` is how many requests a worker may have running.  `waits` is how many of its
    searches may wait for a receipt to get further, `owner_waits` how many of those for one owner,
    `questions` how many other answers it may wait for: whoever waits holds up nobody who asks.
    `stall_seconds` is how long a worker may take nothing of what waits for it.
    """

    connections: int = 160
    announced: int = 65_536
    waits: int = 4096
    owner_waits: int = 64
    questions: int = 1024
    write_bytes: int = 64 << 20
    stall_seconds: float = 30.0


class WireServer:
    """Serves one notary on one bound socket; belongs to the event loop that calls `start`.

    `uid_of` tells who connected; only `uids` are let in (default: this process's own user).
    """

    def __init__(
        self,
        notary: ServedNotary,
        sock: socket.socket,
        *,
        limits: WireLimits | None = None,
        uids: Collection[int] | None = None,
        uid_of: Callable[[socket.socket], int] = peer_uid,
    ) -> None:
        self.notary = notary
        self.limits = limits or WireLimits()
        self._sock = sock
        self._uids = _own_uid() if uids is None else frozenset(uids)
        self._uid_of = uid_of
        self._server: asyncio.Server | None = None
        self._connections: set[Connection] = set()
        self._work: set[asyncio.Task[None]] = set()
        self._sealing = 0
        self._sealed = asyncio.Event()
        self._sealed.set()
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def condition(self) -> Condition:
        """What a connection is told of the notary."""
        notary = self.notary
        return Condition(healthy=notary.healthy, reason=notary.reason)

    @property
    def connections(self) -> int:
        """How many peers are connected."""
        return len(self._connections)

    @property
    def running(self) -> int:
        """How many requests of all peers are announced and not sealed."""
        return sum([connection.running for connection in self._connections])

    async def start(self) -> None:
        """Accept connections."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: Connection(self), sock=self._sock)

    def notify(self) -> None:
        """Tell every worker the notary's present condition."""
        for connection in tuple(self._connections):
            connection.send_condition()

    def introduce(self) -> None:
        """Tell every worker how the boot is shown now: its endorsements were renewed."""
        for connection in tuple(self._connections):
            connection.send_hello()

    def admit(self, connection: Connection, sock: socket.socket) -> bool:
        """Whether this peer may speak; if so it counts as connected until `leave`."""
        if self._uid_of(sock) not in self._uids:
            return False
        if len(self._connections) >= self.limits.connections:
            return False
        self._connections.add(connection)
        self._empty.clear()
        return True

    def leave(self, connection: Connection, announced: Collection[str]) -> None:
        """Forget a connection and have what it left behind sealed."""
        if connection not in self._connections:
            return
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()
        if announced:
            self.keep(self._abandon(tuple(announced)))

    def begin_seal(self) -> None:
        """Note that an outcome is on its way to its receipt; `close` waits for it."""
        if not self._sealing:
            self._sealed.clear()
        self._sealing += 1

    def end_seal(self) -> None:
        """It has its receipt, or never will have."""
        self._sealing -= 1
        if not self._sealing:
            self._sealed.set()

    def keep(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Run work that goes on when its connection is gone; `close` waits for it."""
        task = asyncio.create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)
        return task

    async def wait_empty(self) -> None:
        """Return once nobody is connected and all that was left behind is dealt with."""
        await self._empty.wait()
        await self._settle()

    async def close(self) -> None:
        """Accept nobody new, end every connection, see what they left sealed."""
        if self._server is not None:
            self._server.close()
        for connection in tuple(self._connections):
            connection.close()
        await self._settle()
        self._sock.close()

    async def _settle(self) -> None:
        while self._work or self._sealing:
            await asyncio.gather(*self._work, return_exceptions=True)
            await self._sealed.wait()

    async def _abandon(self, announced: tuple[str, ...]) -> None:
        # Nobody is left to be told of a failure: a notary that cannot seal ends its boot.
        work = (self.notary.abandon(jti) for jti in announced)
        await asyncio.gather(*work, return_exceptions=True)
