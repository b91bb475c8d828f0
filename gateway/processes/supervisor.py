"""The process that `attested serve` is: it binds, starts the others, and ends them in order.

    supervisor ── notary      keys, log, quotes; serves a Unix socket (or another user's, apart)
               ├─ worker 0    the listening socket, inherited; the TLS key, through its channel
               └─ worker …

It serves no caller and holds no key of the notary's.  If it is killed, every channel ends: the
workers drain, the notary seals what is left and closes.
"""

from __future__ import annotations

import asyncio
import os
import socket
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from attestation.errors import UsageError
from gateway.access.configured import load_key_store, open_budgets
from gateway.access.quota_table import QuotaTable, create_quota_table
from gateway.access.shared_slots import create_slots
from gateway.edge.configured import bind_public, new_tls, url_of
from gateway.errors import NotaryUnavailable
from gateway.notary.wire.client import RemoteNotary
from gateway.notary.wire.socket import fits_address
from gateway.processes.apart import ApartNotary
from gateway.processes.child_process import ChildProcess
from gateway.processes.counting import ANSWER, ProcessCounts
from gateway.processes.crew import Crew, CrewPlan
from gateway.processes.users import uid_of
from gateway.serving import Addresses, announce_start, open_admin
from gateway.telemetry.processes import ProcessMetrics
from gateway.telemetry.usage import usage
from gateway.upstream.configured import check_own_engines

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from gateway.access.budgets import BudgetKeeper
    from gateway.edge.tls import BootTls
    from gateway.notary.interface import Boot
    from gateway.settings import Settings
    from gateway.telemetry.events import Events

NOTARY_MODULE: Final = "gateway.processes.notary"
NOTARY_DIED: Final = "notary_died"
WORKERS_FAILED: Final = "workers_failed"
_BACKLOG: Final = 2048
_SOCKET_NAME: Final = "notary.sock"
_CLOSING_SECONDS: Final = 120.0
_SCRAPE_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Processes:
    """Who runs: process ids, and the notary's socket."""

    supervisor: int
    notary: int
    workers: tuple[int, ...]
    socket: Path


class Supervisor:
    """One boot of a gateway in several processes; has what `gateway.serving.Gateway` has."""

    def __init__(self, settings: Settings, events: Events) -> None:
        self._settings = settings
        self._events = events
        self._stack = AsyncExitStack()
        self._ended = asyncio.Event()
        self._reason = ""
        self._stopping = False
        self._socket_path = Path()
        self._notary: ChildProcess | ApartNotary | None = None
        self._remote: RemoteNotary | None = None
        self._crew: Crew | None = None
        self._addresses: Addresses | None = None
        self._metrics = ProcessMetrics()
        self._notary_counts = ProcessCounts()
        self._conditions: list[str] = []
        self._budgets: BudgetKeeper | None = None

    @classmethod
    async def start(cls, settings: Settings, events: Events) -> Self:
        """Return a gateway whose workers accept connections.

        1. TLS key, socket, keys file, a look at the engines: what can be refused without a boot
        2. the notary process, started or found apart; its boot is quoted and durable
        3. the admin listener
        4. the workers

        Raises `UsageError`, `UnavailableError` or `MalformedError` for what prevents it,
        whichever process it was found in.
        """
        supervisor = cls(settings, events)
        async with AsyncExitStack() as stack:
            await supervisor._open(stack)
            supervisor._stack = stack.pop_all()
        return supervisor

    @property
    def boot(self) -> Boot:
        """What the notary shows for its boot."""
        if self._remote is None:
            raise RuntimeError("the gateway has not started")
        return self._remote.boot

    @property
    def addresses(self) -> Addresses:
        """Where it listens."""
        if self._addresses is None:
            raise RuntimeError("the gateway has not started")
        return self._addresses

    @property
    def processes(self) -> Processes:
        """Who runs now."""
        if self._notary is None or self._crew is None:
            raise RuntimeError("the gateway has not started")
        return Processes(
            supervisor=os.getpid(),
            notary=self._notary.pid,
            workers=tuple(self._crew.pids),
            socket=self._socket_path,
        )

    async def wait_ended(self) -> str:
        """Return the reason once the boot has ended or cannot be served any more."""
        await self._ended.wait()
        return self._reason

    async def stop(self) -> None:
        """Accept nothing new, let requests end or cut them, seal what is left, close."""
        self._stopping = True
        await self._stack.aclose()

    def cut(self) -> None:
        """End the requests that `stop` still waits for."""
        if self._crew is not None:
            self._crew.cut()

    # -- start -----------------------------------------------------------------------------

    async def _open(self, stack: AsyncExitStack) -> None:
        settings = self._settings
        tls = new_tls(settings)
        listening = bind_public(settings, tls)
        stack.callback(listening.close)
        load_key_store(settings)
        await check_own_engines(settings, self._events)
        listening.listen(_BACKLOG)
        self._socket_path = _place_socket(stack, settings)
        await self._start_notary(stack, tls)
        self._crew = crew = self._new_crew(stack, tls, listening)
        own = None if tls is None else CrewTls(tls, crew)
        admin = await open_admin(stack, settings, self._read_metrics, own)
        stack.push_async_callback(crew.abort)
        await crew.start()
        stack.push_async_callback(crew.stop)
        self._addresses = Addresses(public=url_of(listening, tls), admin=admin)
        stack.callback(listening.close)  # first of all at the end: nobody new is let in
        announce_start(self._events, self.boot, self._addresses)

    async def _start_notary(self, stack: AsyncExitStack, tls: BootTls | None) -> None:
        spki = [] if tls is None else [tls.spki_sha256.hex]
        self._notary = notary = await self._new_notary(stack, spki)
        await notary.wait_ready()
        self._remote = await RemoteNotary.connect(self._socket_path, uid=self._notary_uid)
        stack.push_async_callback(self._remote.close)
        watching = asyncio.create_task(self._watch_notary(notary))
        stack.callback(watching.cancel)
        stack.push_async_callback(self._close_notary, notary, watching)

    async def _new_notary(
        self, stack: AsyncExitStack, spki: list[str]
    ) -> ChildProcess | ApartNotary:
        """Return a notary that makes its boot: one of ours, or the one apart."""
        if self._settings.notary.apart:
            apart = await ApartNotary.find(self._settings, spki)
            stack.push_async_callback(self._end_notary, apart)
            return apart
        own = await ChildProcess.start("notary", NOTARY_MODULE)
        stack.push_async_callback(self._end_notary, own)
        own.channel.send(
            "start",
            settings=_plain(self._settings),
            socket=str(self._socket_path),
            tls_spki=spki,
        )
        return own

    @property
    def _notary_uid(self) -> int:
        user = self._settings.notary.user
        return os.geteuid() if user is None else uid_of(user)

    def _new_crew(
        self, stack: AsyncExitStack, tls: BootTls | None, listening: socket.socket
    ) -> Crew:
        settings = self._settings
        slots = create_slots(settings.workers)
        stack.callback(os.close, slots)
        quotas = create_quota_table()
        stack.callback(os.close, quotas)
        self._budgets = open_budgets(
            stack, settings, QuotaTable(quotas), self._events, tell=self._pass_on
        )
        plan = CrewPlan(
            count=settings.workers,
            settings=_plain(settings),
            notary_socket=self._socket_path,
            notary_uid=self._notary_uid,
            listening=listening,
            slots=slots,
            quotas=quotas,
            tls=tls,
            drain_seconds=settings.limits.drain_seconds,
        )
        crew = Crew(plan, self._events, lambda: self._end(WORKERS_FAILED))
        crew.tell_conditions(self._conditions)
        return crew

    # -- end -------------------------------------------------------------------------------

    async def _watch_notary(self, notary: ChildProcess | ApartNotary) -> None:
        """Hear from the notary why its boot ended, or that it is gone."""
        while (message := await notary.channel.receive()) is not None:
            if message["kind"] == "ended":
                self._end(str(message["reason"]))
            elif message["kind"] == ANSWER:
                self._notary_counts.note("notary", message)
            elif message["kind"] == "conditions":
                self._conditions = message["codes"]
                self._pass_on()
        self._end(NOTARY_DIED)

    def _pass_on(self) -> None:
        """Tell the workers, who answer /readyz, what the notary says of its machine and what
        this process knows of budgets.
        """
        kept = "" if self._budgets is None else self._budgets.code
        if self._crew is not None:
            self._crew.tell_conditions([code for code in (*self._conditions, kept) if code])

    async def _close_notary(
        self, notary: ChildProcess | ApartNotary, watching: asyncio.Task[None]
    ) -> None:
        """Have the notary seal what is left and close, once no worker is left."""
        notary.channel.send("stop")
        await asyncio.wait((watching,), timeout=_CLOSING_SECONDS)

    @staticmethod
    async def _end_notary(notary: ChildProcess | ApartNotary) -> None:
        await notary.channel.close()
        await notary.end(_CLOSING_SECONDS)

    def _end(self, reason: str) -> None:
        if self._reason:
            return
        self._reason = reason
        self._events.emit("boot.ended", reason=reason)
        self._ended.set()

    async def _read_metrics(self) -> bytes:
        """Return the notary's, the workers' and this process's, each as fresh as a second allows.

        1. all are asked at once; who does not answer in time is shown as it was, or not at all
        2. the workers' numbers are added up, with those of workers that are gone
        """
        if self._remote is None or self._crew is None or self._notary is None:
            raise RuntimeError("the gateway has not started")
        crew, remote = self._crew, self._remote
        of_notary, silent, _ = await asyncio.gather(
            _within(_SCRAPE_SECONDS, remote.metrics_text()),
            crew.count(_SCRAPE_SECONDS),
            self._notary_counts.ask({"notary": self._notary}, _SCRAPE_SECONDS),
        )
        self._metrics.workers(len(crew.pids), crew.replaced, silent)
        self._metrics.notary_answers(of_notary is not None)
        sums = crew.counts.sums()
        kept = {} if self._budgets is None else self._budgets.snapshot()
        for snapshot in (*self._notary_counts.newest, kept, usage("supervisor")):
            sums.add(snapshot)
        return (of_notary or b"") + self._metrics.render() + sums.render()


class CrewTls:
    """The boot's TLS key, for the admin listener: certificates reach every worker."""

    def __init__(self, tls: BootTls, crew: Crew) -> None:
        self._tls = tls
        self._crew = crew

    def csr(self) -> bytes:
        """Return a certificate request in PEM."""
        return self._tls.csr()

    async def install(self, chain_pem: bytes) -> int:
        """Use this chain in every worker, those of later included; refuses another key's."""
        count = self._tls.install(chain_pem)
        await self._crew.install()
        return count


async def _within(seconds: float, text: Awaitable[bytes]) -> bytes | None:
    """Return what the notary says, None if it says nothing in time or has ended."""
    try:
        return await asyncio.wait_for(text, seconds)
    except (TimeoutError, NotaryUnavailable):
        return None


def _plain(settings: Settings) -> dict[str, object]:
    # What was not set stays unset: some settings exclude each other.
    return settings.model_dump(mode="json", exclude_unset=True)


def _place_socket(stack: AsyncExitStack, settings: Settings) -> Path:
    """Return where the notary's socket goes: as set, or in a folder that ends with the gateway."""
    if settings.notary.socket is not None:
        return settings.notary.socket
    places = (os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir(), "/tmp")  # noqa: S108
    for place in filter(None, places):
        if not os.access(place, os.W_OK | os.X_OK):
            continue
        if not fits_address(Path(place, "attested-12345678", _SOCKET_NAME)):
            continue
        folder = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="attested-", dir=place, ignore_cleanup_errors=True)
        )
        return Path(folder, _SOCKET_NAME)
    raise UsageError(
        "there is no place for the notary's socket",
        code="notary_socket",
        expected="a writable temporary folder with a short path",
        hint="set notary.socket",
    )
