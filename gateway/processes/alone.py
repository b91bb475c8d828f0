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
from gateway.notary.wire.socket import bind_shared_socket
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


class LoneNotary:
    """`serve` until the gateway is gone or a signal came.

    The first signal has the gateway end what runs, as its own would; a second one, or one that
    comes before there is a boot, ends the notary at once.  Either way it seals what is left.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._events = Events(sys.stderr, time.time)
        self._process: NotaryProcess | None = None
        self._serving: asyncio.Task[str] | None = None
        self._signalled = False

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
                return ""
            raise

    def _arrived(self, number: int) -> None:
        self._events.emit("stopping", signal=number)
        process, again, self._signalled = self._process, self._signalled, True
        if process is not None and process.serves and not again:
            process.ask_for_the_end(STOPPED)
        elif self._serving is not None:
            self._serving.cancel()

    async def _serve(self) -> str:
        settings = self._settings
        require_user(str(settings.notary.user), "attested notary")
        path = Path(str(settings.notary.socket))
        async with AsyncExitStack() as stack:
            sock = bind_shared_socket(path)
            stack.callback(path.unlink, missing_ok=True)
            stack.callback(sock.close)
            sock.setblocking(False)  # noqa: FBT003 - the standard library knows no other way
            tell_ready()
            self._events.emit("gateway.awaited", address=f"unix:{path}")
            channel, spki = await wait_for_gateway(sock, settings, self._refused)
            stack.push_async_callback(channel.close)
            uids = (uid_of(str(settings.notary.gateway_user)),)
            self._process = process = NotaryProcess(channel, settings, uids=uids)
            await _report(channel, process.serve(spki, sock))
            return "" if process.reason == STOPPED else process.reason

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
