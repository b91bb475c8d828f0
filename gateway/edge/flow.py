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
    from gateway.edge.padding import StreamPadding
    from gateway.upstream import EngineCall


class StreamFlow:
    """One stream; `run` relays it."""

    __slots__ = ("_began", "_caller", "_exchange", "_flow", "_relay", "_send")

    def __init__(self, exchange: Exchange, caller: Caller) -> None:
        self._exchange = exchange
        self._caller = caller
        # What every event needs, looked up once.
        self._flow = caller.flow
        self._relay = exchange.relay
        self._send = caller.pass_on
        self._began = False

    async def run(self, call: EngineCall, padding: StreamPadding) -> None:
        """Return at the end of the engine's message, or once the stream can only be an error.

        Raises `CallerGoneError`, and `UpstreamError` after what came before it was relayed.
        """
        if padding.seconds:
            await self._run_on_ticks(call, padding)
            return
        while not await call.pour(self._take):
            if not await self._may_go_on():
                return

    async def _run_on_ticks(self, call: EngineCall, padding: StreamPadding) -> None:
        read = padding.reading(call.read)
        while data := await read():
            if not self._take(data) and not await self._may_go_on():
                return

    def _take(self, data: bytes) -> bool:
        """Relay what the engine sent; false if nothing more is to be taken now."""
        if not self._began:
            self._began = True
            self._caller.began_answer()
        return self._relay(data, self._send) and not self._flow.write_paused

    async def _may_go_on(self) -> bool:
        """Return when more may be taken from the engine, false if nothing more is to be."""
        if self._caller.disconnected:
            raise CallerGoneError
        if self._exchange.broken:
            return False
        # Before more is taken from the engine, so that less waits in here.
        await self._caller.drained()
        return True
