"""A gateway on a loopback port of its own, with a fresh key, in front of any engine."""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from attestation.errors import UnavailableError
from gateway.access.keyfile import add_key
from gateway.access.principal import Grant
from gateway.cli.local.loop import LoopThread
from gateway.serving import Gateway
from gateway.settings.model import Settings
from gateway.telemetry.events import Events

if TYPE_CHECKING:
    from types import TracebackType

    from attestation.tdx.anchor import Anchor
    from gateway.notary.interface import Boot

NAME = "demo.local"
FORCED_EPOCH_SECONDS = 0.2
_HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalPlan:
    """What a local gateway is made for: the engine's address (`http://…` or `unix:…`), what
    receipts call the engine, and whether connections are TLS ("self-signed") or not ("off").

    `cache_salt` is the setting `cache.salt`; `provider` is where quotes come from;
    `collateral_file` the endorsements of a real platform.
    """

    upstream: str
    engine: str | None = None
    tls: str = "off"
    provider: str = "simulated:"
    cache_salt: str = "tenant"
    collateral_file: Path | None = None


class LocalGateway:
    """Runs inside a context; keys, journal and TLS key are gone afterwards."""

    def __init__(self, plan: LocalPlan) -> None:
        self._plan = plan
        self._stack = ExitStack()
        self._loop = LoopThread()
        self._running: Gateway | None = None
        self.key = ""

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="attested-")))
            stack.enter_context(self._loop)
            keys_file = folder / "keys.json"
            self.key = add_key(keys_file, label="demo", grant=Grant(), now=int(time.time()))
            events = Events(stack.enter_context(Path(os.devnull).open("w")), time.time)
            running = self._loop.call(Gateway.start(_settings(self._plan, folder), events))
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
        return self._now.addresses.public

    @property
    def boot(self) -> Boot:
        """What the notary shows for its boot."""
        return self._now.boot

    @property
    def anchor(self) -> Anchor:
        """The root of the simulated platform: known here because this process made it."""
        anchor = self.boot.anchor
        if anchor is None:
            raise UnavailableError("the quote provider has no root of its own", code="anchor")
        return anchor

    @property
    def _now(self) -> Gateway:
        if self._running is None:
            raise RuntimeError("the gateway runs inside `with` only")
        return self._running


def _settings(plan: LocalPlan, folder: Path) -> Settings:
    path = plan.upstream.removeprefix("unix:")
    where = {"uds": path} if plan.upstream.startswith("unix:") else {"url": plan.upstream}
    return Settings.model_validate(
        {
            "name": NAME,
            "listen": {"host": _HOST, "port": 0},
            "tls": {"mode": plan.tls},
            "upstream": {**where, "engine": plan.engine},
            "cache": {"salt": plan.cache_salt},
            "access": {"keys_file": folder / "keys.json"},
            "notary": {"data_dir": folder / "journal"},
            "evidence": {
                "provider": plan.provider,
                "collateral_file": plan.collateral_file,
            },
            # The engine was started along with it; nothing but what is asked goes there.
            "health": {"interval": 0},
            "selfcheck": {"routes": "off"},
            # Somebody always waits here for receipts to be anchored.
            "log": {"forced_epoch_seconds": FORCED_EPOCH_SECONDS},
            # Whatever is refused here is refused on purpose, and each refusal is looked at.
            "limits": {"refusals_per_second": 1e6, "drain_seconds": 2.0},
        }
    )
