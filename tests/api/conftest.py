"""A whole gateway in this event loop, in front of the stand-in engine, over real sockets."""

from __future__ import annotations

import io
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gateway.access.keyfile import add_key
from gateway.access.principal import Grant, subject_of
from gateway.engine.standin import StandInEngine
from gateway.notary.files import FileLayer
from gateway.serving import Gateway
from gateway.settings import Settings
from gateway.telemetry.events import Events

MODELS = ("m-one", "m-two")


@dataclass
class Running:
    """A running gateway, its client, its log and the key file's keys by label."""

    gateway: Gateway
    client: httpx2.AsyncClient
    log: io.StringIO
    folder: Path
    keys: dict[str, str]
    engine: StandInEngine
    engine_url: str

    def headers(self, label: str = "alice") -> dict[str, str]:
        return {"authorization": f"Bearer {self.keys[label]}"}

    async def get(self, path: str, label: str | None = "alice") -> httpx2.Response:
        return await self.client.get(path, headers=self.headers(label) if label else {})

    async def chat(self, label: str = "alice", **body: Any) -> httpx2.Response:
        content = {"model": "m-one", "messages": [{"role": "user", "content": "hello"}]} | body
        headers = self.headers(label)
        return await self.client.post("/v1/chat/completions", json=content, headers=headers)

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.getvalue().splitlines()]

    def sub(self, label: str) -> Any:
        return subject_of(self.keys[label].encode())


def settings_for(folder: Path, engine: str, **sections: Any) -> Settings:
    base: dict[str, Any] = {
        "name": "gw.test",
        "listen": {"port": 0},
        "tls": {"mode": "off"},
        "upstream": {"url": engine, "engine": "stand-in/0"},
        "access": {"keys_file": folder / "keys.json"},
        "notary": {"data_dir": folder / "data"},
        "evidence": {"provider": "simulated:", "quote_interval": 0},
        "admin": {"port": 0},
        "limits": {"drain_seconds": 1},
        # Some engines here are told what to answer, whatever they are asked.
        "selfcheck": {"routes": "off"},
    }
    return Settings.model_validate(base | sections)


@asynccontextmanager
async def running_gateway(
    folder: Path, layer: FileLayer | None = None, **sections: Any
) -> AsyncIterator[Running]:
    async with AsyncExitStack() as stack:
        engine = StandInEngine(models=MODELS)
        address = await engine.start(port=0)
        stack.push_async_callback(engine.close)
        now = int(time.time())
        grants = {"alice": Grant(), "bob": Grant(models=("m-two",))}
        keys = {
            label: add_key(folder / "keys.json", label=label, grant=grant, now=now)
            for label, grant in grants.items()
        }
        log = io.StringIO()
        settings = settings_for(folder, address, **sections)
        gateway = await Gateway.start(settings, Events(log, time.time), layer=layer)
        stack.push_async_callback(gateway.stop)
        client = httpx2.AsyncClient(
            base_url=gateway.addresses.public, trust_env=False, verify=False, timeout=30
        )
        await stack.enter_async_context(client)
        yield Running(gateway, client, log, folder, keys, engine, address)


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    async with running_gateway(tmp_path) as found:
        yield found


@pytest.fixture
def start() -> Callable[..., Any]:
    return running_gateway
