"""The notary as a service of its own: it waits for its one gateway, and ends after it."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

from attestation.errors import AttestationError
from gateway.notary.wire.socket import bind_shared_socket, listening
from gateway.processes.apart import wait_for_gateway
from gateway.processes.channel import error_to_json
from gateway.processes.notary import NotaryProcess
from gateway.processes.service_manager import tell_ready
from gateway.processes.users import require_user, uid_of
from gateway.telemetry.events import Events

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from gateway.processes.channel import Channel
    from gateway.settings import Settings

STOPPED: Final = "notary_stopped"
_SLACK_SECONDS: Final = 20.0
"""What a gateway gets beyond its drain time, until its notary waits for it no more."""


class LoneNotary:
    """`serve` until the gateway is gone or a signal came.

    The first signal has the gateway end what runs, as its own would, and waits so long for it; a
    second one, or one that comes before there is a boot, ends the notary at once.  Either way it
    seals what is left, and no further signal cuts that short.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._events = Events(sys.stderr, time.time)
        self._process: NotaryProcess | None = None
        self._serving: asyncio.Task[str] | None = None
        self._signalled = False
        self._cut = False

    async def run(self) -> str:
        """Return why the boot ended, "" if somebody wanted it to."""
        self._serving = asyncio.create_task(self._serve())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._arrived, int(number))
        try:
            return await self._serving
        except asyncio.CancelledError:
            if self._signalled:
                return self._reason
            raise

    @property
    def _reason(self) -> str:
        reason = "" if self._process is None else self._process.reason
        return "" if reason == STOPPED else reason

    def _arrived(self, number: int) -> None:
        self._events.emit("stopping", signal=number)
        process, again, self._signalled = self._process, self._signalled, True
        if process is not None and process.serves and not again:
            process.ask_for_the_end(STOPPED)
            patience = self._settings.limits.drain_seconds + _SLACK_SECONDS
            asyncio.get_running_loop().call_later(patience, self._end_at_once)
        else:
            self._end_at_once()

    def _end_at_once(self) -> None:
        closes = self._process is not None and self._process.closes
        if self._serving is None or self._cut or closes:
            return
        self._cut = True
        self._serving.cancel()

    async def _serve(self) -> str:
        settings = self._settings
        require_user(str(settings.notary.user), "attested notary")
        path = Path(str(settings.notary.socket))
        async with AsyncExitStack() as stack:
            sock = stack.enter_context(listening(bind_shared_socket, path))
            sock.setblocking(False)  # noqa: FBT003 - the standard library knows no other way
            tell_ready()
            self._events.emit("gateway.awaited", address=f"unix:{path}")
            channel, spki = await wait_for_gateway(sock, settings, self._refused)
            stack.push_async_callback(channel.close)
            uids = (uid_of(str(settings.notary.gateway_user)),)
            self._process = process = NotaryProcess(channel, settings, uids=uids)
            await _report(channel, process.serve(spki, sock))
            return self._reason

    def _refused(self, reason: str) -> None:
        self._events.emit("gateway.refused", reason=reason)


async def _report(channel: Channel, serving: Coroutine[None, None, None]) -> None:
    """Tell the gateway as well what prevents the boot."""
    try:
        await serving
    except AttestationError as error:
        channel.send("failed", **error_to_json(error))
        raise
    except Exception as error:
        channel.send("crashed", error=type(error).__name__)
        raise
