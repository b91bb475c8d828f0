"""A gateway on a loopback port of its own, with a fresh key, in front of any engine."""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self, cast

from attestation.errors import UnavailableError
from gateway.access.keyfile import add_key
from gateway.access.principal import Grant
from gateway.access.store import Clocks, KeyStore
from gateway.api.control import build_control_app
from gateway.api.parts import ControlParts
from gateway.attester.base import open_provider
from gateway.cli.local.loop import LoopThread
from gateway.edge.inference import InferenceRoutes
from gateway.edge.routes import inference_path
from gateway.edge.server import EdgeServer, Listen, bind
from gateway.edge.tls import BootTls
from gateway.notary.boot import BootPlan
from gateway.notary.local import LocalNotary
from gateway.notary.parts import NotaryParts
from gateway.settings.model import Settings
from gateway.telemetry.metrics import Metrics
from gateway.upstream import Upstream, parse_engine_url

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    from attestation.tdx.anchor import Anchor
    from gateway.edge.caller import Receive, Scope, Send
    from gateway.notary.interface import Boot

    Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]

NAME = "demo.local"
_HOST = "127.0.0.1"
_LIFE_SECONDS = 86400


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalPlan:
    """What a local gateway is made for: the engine's address (`http://…` or `unix:…`), what
    receipts call the engine, and whether connections are TLS ("self-signed") or not ("off").
    """

    upstream: str
    engine: str | None = None
    tls: str = "off"
    provider: str = "simulated:"


class LocalGateway:
    """Runs inside a context; keys, journal and TLS key are gone afterwards."""

    def __init__(self, plan: LocalPlan) -> None:
        self._plan = plan
        self._stack = ExitStack()
        self._loop = LoopThread()
        self._running: _Running | None = None
        self.key = ""

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="attested-")))
            stack.enter_context(self._loop)
            keys_file = folder / "keys.json"
            self.key = add_key(keys_file, label="demo", grant=Grant(), now=int(time.time()))
            settings = _settings(self._plan, folder)
            running = self._loop.call(_start(self._plan, settings))
            stack.callback(lambda: self._loop.call(running.stop()))
            self._running = running
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, value, traceback)

    @property
    def url(self) -> str:
        """The gateway's address."""
        scheme = "http" if self._plan.tls == "off" else "https"
        return f"{scheme}://{_HOST}:{self._now.port}"

    @property
    def boot(self) -> Boot:
        """What the notary shows for its boot."""
        return self._now.notary.boot

    @property
    def anchor(self) -> Anchor:
        """The root of the simulated platform: known here because this process made it."""
        anchor = self.boot.anchor
        if anchor is None:
            raise UnavailableError("the quote provider has no root of its own", code="anchor")
        return anchor

    @property
    def _now(self) -> _Running:
        if self._running is None:
            raise RuntimeError("the gateway runs inside `with` only")
        return self._running


@dataclass(frozen=True, slots=True, kw_only=True)
class _Running:
    notary: LocalNotary
    upstream: Upstream
    server: EdgeServer
    port: int

    async def stop(self) -> None:
        await self.server.stop()
        self.upstream.close()
        await self.notary.close()


def _settings(plan: LocalPlan, folder: Path) -> Settings:
    path = plan.upstream.removeprefix("unix:")
    where = {"uds": path} if plan.upstream.startswith("unix:") else {"url": plan.upstream}
    return Settings.model_validate(
        {
            "name": NAME,
            "listen": {"host": _HOST, "port": 0},
            "tls": {"mode": plan.tls},
            "upstream": {**where, "engine": plan.engine},
            "access": {"keys_file": folder / "keys.json"},
            "notary": {"data_dir": folder / "journal"},
            "evidence": {"provider": plan.provider},
        }
    )


async def _start(plan: LocalPlan, settings: Settings) -> _Running:
    now = int(time.time())
    tls = None if plan.tls == "off" else BootTls.generate(settings.tls.names, now=now)
    sock = bind(Listen(host=_HOST), tls)
    try:
        notary = await LocalNotary.start(
            NotaryParts(
                provider=open_provider(settings.evidence.provider),
                plan=BootPlan(
                    name=settings.name,
                    config_digest=settings.config_digest,
                    tls_spki=() if tls is None else (tls.spki_sha256,),
                    not_after=now + _LIFE_SECONDS,
                    now=now,
                ),
                data_dir=settings.notary.data_dir,
                metrics=Metrics(),
            )
        )
    except BaseException:
        # Whatever prevented the boot, its port must not stay taken.
        sock.close()
        raise
    keys = KeyStore(settings.access.keys_file, Clocks(wall=time.time, monotonic=time.monotonic))
    upstream = Upstream(parse_engine_url(plan.upstream), name=settings.upstream.name)
    inference = InferenceRoutes(
        keys=keys, notary=notary, upstream=upstream, engine_name=settings.upstream.engine
    )
    parts = ControlParts(notary=notary, keys=keys, upstream=upstream)
    # Two spellings of one ASGI type: FastAPI's and the edge's.
    control = cast("Asgi", build_control_app(parts))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if inference_path(scope) is not None:
            await inference(scope, receive, send)
        else:
            await control(scope, receive, send)

    server = EdgeServer(app, sock, tls=tls, drain_seconds=2.0)
    await server.start()
    return _Running(notary=notary, upstream=upstream, server=server, port=sock.getsockname()[1])
