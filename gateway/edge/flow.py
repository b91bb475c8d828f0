"""An engine's stream on its way to the caller, event by event.

What an engine sends is looked at, hashed and sent on in the very callback that read it.  A task
that had to be woken for each event would cost more than all of that together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.edge.caller import CallerGoneError

if TYPE_CHECKING:
    from attestation.receipt.exchange import Exchange
    from gateway.edge.caller import Caller
    from gateway.edge.padding import Ticks


class StreamFlow:
    """`take` is a sink for `EngineCall.pour`; whenever it wants no more, `attend` says when to
    pour on.
    """

    __slots__ = ("_began", "_caller", "_exchange", "_held", "_ticks")

    def __init__(self, exchange: Exchange, caller: Caller, ticks: Ticks | None) -> None:
        """`ticks` are the instants at which something may be released; None: any."""
        self._exchange = exchange
        self._caller = caller
        self._ticks = ticks
        self._held: bytes | None = None
        self._began = False

    def take(self, data: bytes) -> bool:
        """Take what the engine sent; false if nothing more can be taken now."""
        if not self._began:
            self._began = True
            self._caller.began_answer()
        if self._ticks is not None:
            self._held = data
            return False
        return self._release(data)

    async def attend(self) -> None:
        """Return when more may be taken.  Raises `CallerGoneError`."""
        if self._ticks is not None and self._held is not None:
            await self._ticks.next()
            data, self._held = self._held, None
            self._release(data)
        if self._caller.disconnected:
            raise CallerGoneError
        # Before more is taken from the engine, so that less waits in here.
        await self._caller.drained()

    async def end(self) -> None:
        """Return when the end of the stream may be released."""
        if self._ticks is not None:
            await self._ticks.next()

    def _release(self, data: bytes) -> bool:
        exchange, caller = self._exchange, self._caller
        piece = exchange.engine(data)
        if piece:
            if not caller.pass_on(piece):
                return False
            exchange.taken(piece)
        return not (caller.blocked or exchange.broken)
