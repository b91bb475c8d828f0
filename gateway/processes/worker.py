"""A worker process: TLS, HTTP, parsing, forwarding, hashing.  It holds no key of the notary's."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.access.configured import budget_file, load_key_store, save_last
from gateway.access.quota_table import QuotaTable
from gateway.access.shared_slots import SharedSlots
from gateway.edge.tls import BootTls
from gateway.notary.wire.client import RemoteNotary
from gateway.processes.child import run_child, settings_of
from gateway.processes.counting import ANSWER, ASK
from gateway.processes.tuning import settle_interpreter
from gateway.serving import EdgeParts, edge_metrics_of, notary_waits_of, open_edge
from gateway.telemetry.events import Events
from gateway.telemetry.usage import usage

if TYPE_CHECKING:
    from gateway.edge.server import EdgeServer
    from gateway.edge.waiting import NotaryWaits
    from gateway.processes.channel import Channel, Message


class WorkerProcess:
    """Serves the inherited listening socket until the supervisor, or a signal, ends it."""

    def __init__(self, channel: Channel, start: Message) -> None:
        self._channel = channel
        self._start = start
        self._settings = settings_of(start)
        self._tls = _tls_of(start)
        self._metrics = edge_metrics_of(self._settings)
        self._conditions = tuple(start["conditions"])
        self._events = Events(sys.stderr, time.time)
        self._waits: NotaryWaits | None = None

    async def serve(self) -> None:
        """Open everything, say so, and close it again in order."""
        start, settings = self._start, self._settings
        async with AsyncExitStack() as stack:
            keys = load_key_store(settings)
            keys.slots = SharedSlots(start["slots_fd"], start["index"], settings.workers)
            keys.share(QuotaTable(start["quotas_fd"]))
            # The supervisor keeps budgets on disk; if it is gone, nobody else would.
            stack.callback(save_last, budget_file(settings, keys.table))
            notary = await RemoteNotary.connect(Path(start["socket"]), uid=start["notary_uid"])
            stack.push_async_callback(notary.close)
            sock = socket.socket(fileno=start["listen_fd"])
            stack.callback(sock.close)
            parts = EdgeParts(
                settings=settings,
                notary=notary,
                keys=keys,
                events=self._events,
                tls=self._tls,
                metrics=self._metrics,
                waits=self._waits_for(notary),
                conditions=lambda: self._conditions,
                share=max(1, settings.workers),
            )
            server = await open_edge(stack, parts, sock)
            settle_interpreter()
            self._channel.send("ready")
            await self._wait_for_the_end(server)

    def _waits_for(self, notary: RemoteNotary) -> NotaryWaits:
        self._waits = waits = notary_waits_of(self._settings, notary, self._events)
        return waits

    def _tell_counts(self) -> None:
        waits = {} if self._waits is None else self._waits.snapshot()
        self._channel.send(ANSWER, snapshot=self._metrics.snapshot() | waits | usage("worker"))

    async def _wait_for_the_end(self, server: EdgeServer) -> None:
        told, signalled = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, signalled.set)
        listening = asyncio.create_task(self._listen(server, told))
        waiting = [asyncio.create_task(event.wait()) for event in (told, signalled)]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        # The listener goes on: the supervisor may lose its patience.
        await server.stop()
        self._tell_counts()
        for task in (listening, *waiting):
            task.cancel()

    async def _listen(self, server: EdgeServer, told: asyncio.Event) -> None:
        while (message := await self._channel.receive()) is not None:
            if message["kind"] == "stop":
                told.set()
            elif message["kind"] == "cut":
                told.set()
                server.cut()
            elif message["kind"] == "certificate" and self._tls is not None:
                self._tls.install(message["chain"].encode("ascii"))
                self._channel.send("certificate")
            elif message["kind"] == "conditions":
                self._conditions = tuple(message["codes"])
            elif message["kind"] == ASK:
                self._tell_counts()
        told.set()


def _tls_of(start: Message) -> BootTls | None:
    saved = start["tls"]
    if saved is None:
        return None
    return BootTls.restore(
        key_pem=saved["key"].encode("ascii"),
        chain_pem=saved["chain"].encode("ascii"),
        names=saved["names"],
    )


async def _serve(channel: Channel, message: Message) -> None:
    await WorkerProcess(channel, message).serve()


def main() -> int:
    """Run the process."""
    return run_child(_serve)


if __name__ == "__main__":
    sys.exit(main())
