"""The notary process: boot secret, keys, sequence, log and quotes, behind a Unix socket.

It ends when the supervisor says so or is gone; either way it first seals what is left.  Signals
do not end it: its workers may still need it.
"""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

from attestation.encoding.digest import Digest
from gateway.notary.files import FileLayer
from gateway.notary.local import LocalNotary
from gateway.notary.opening import open_notary_parts
from gateway.notary.wire.server import WireServer
from gateway.notary.wire.socket import bind_notary_socket, listening
from gateway.processes.child import forbid_inspection, run_child, settings_of
from gateway.processes.counting import ANSWER, ASK
from gateway.processes.tuning import settle_interpreter
from gateway.serving import open_conditions
from gateway.telemetry.events import Events
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.usage import usage

if TYPE_CHECKING:
    import socket
    from collections.abc import Collection

    from gateway.processes.channel import Channel, Message
    from gateway.settings import Settings

_SLACK_SECONDS: Final = 10.0


class NotaryProcess:
    """One boot and its socket, as long as the supervisor wants them."""

    def __init__(
        self, channel: Channel, settings: Settings, *, uids: Collection[int] | None = None
    ) -> None:
        """Let in `uids`, without any this process's own user."""
        self._channel = channel
        self._settings = settings
        self._uids = uids
        self.serves = False
        self.closes = False
        """Whether it seals and signs what is left: nothing must cut that short."""
        self.reason = ""
        """Why it ended or will end; "" where the gateway wanted it, or is gone."""
        self._server: WireServer | None = None
        self._metrics = Metrics()
        self._events = Events(sys.stderr, time.time)
        self._layer = FileLayer()

    async def serve(self, tls_spki: tuple[Digest, ...], sock: socket.socket) -> None:
        """Start the boot, serve the socket that listens, end both in order."""
        async with AsyncExitStack() as stack:
            try:
                await self._serve_boot(stack, tls_spki, sock)
            finally:
                self.serves, self.closes = False, True

    async def _serve_boot(
        self, stack: AsyncExitStack, tls_spki: tuple[Digest, ...], sock: socket.socket
    ) -> None:
        notary = await self._boot(tls_spki)
        stack.push_async_callback(notary.close)
        self._server = server = WireServer(notary, sock, uids=self._uids)
        await server.start()
        stack.push_async_callback(server.close)
        settle_interpreter()
        self._channel.send("ready")
        self.serves = True
        await self._watch_conditions(stack)
        await self._wait_for_the_end(server)

    def ask_for_the_end(self, reason: str) -> None:
        """Have the gateway end what runs, and then this."""
        self.reason = self.reason or reason
        self._channel.send("ended", reason=reason)

    async def _boot(self, tls_spki: tuple[Digest, ...]) -> LocalNotary:
        parts = open_notary_parts(
            self._settings,
            tls_spki=tls_spki,
            metrics=self._metrics,
            on_end=self._on_end,
            on_renewal=self._on_renewal,
            emit=self._events.emit,
            layer=self._layer,
        )
        return await LocalNotary.start(parts)

    async def _watch_conditions(self, stack: AsyncExitStack) -> None:
        await open_conditions(
            stack,
            self._settings,
            self._metrics,
            self._events,
            layer=self._layer,
            tell=lambda codes: self._channel.send("conditions", codes=codes),
        )

    async def _wait_for_the_end(self, server: WireServer) -> None:
        while (message := await self._channel.receive()) is not None:
            kind = message.get("kind")
            if kind == "stop":
                return
            if kind == ASK:
                self._channel.send(ANSWER, snapshot=usage("notary"))
        # The supervisor is gone.  Workers notice as well; what they still run may end first.
        patience = self._settings.limits.drain_seconds + _SLACK_SECONDS
        try:
            await asyncio.wait_for(server.wait_empty(), patience)
        except TimeoutError:
            return

    def _on_renewal(self) -> None:
        if self._server is not None:
            self._server.introduce()

    def _on_end(self, reason: str) -> None:
        if self.serves:
            self.reason = self.reason or reason
        if self._server is not None:
            self._server.notify()
        self._channel.send("ended", reason=reason)


async def _serve(channel: Channel, message: Message) -> None:
    process = NotaryProcess(channel, settings_of(message))
    spki = tuple(Digest.from_hex(text) for text in message["tls_spki"])
    path = Path(message["socket"])
    with listening(bind_notary_socket, path) as sock:
        await process.serve(spki, sock)


def main() -> int:
    """Run the process."""
    forbid_inspection()
    return run_child(_serve)


if __name__ == "__main__":
    sys.exit(main())
