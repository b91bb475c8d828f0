"""/v1/models and /readyz of a gateway in front of several engines."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.engine.scripted import JSON, Script, ScriptedEngine
from gateway.engine.standin import StandInEngine
from tests.api.conftest import Running


@dataclass
class Several:
    """A gateway in front of engines `a` (m-one, m-two) and `b` (m-two, m-three, not configured:
    m-four).
    """

    running: Running
    engines: dict[str, StandInEngine]

    async def models(self, label: str = "alice") -> list[str]:
        response = await self.running.get("/v1/models", label)
        assert response.status_code == 200
        return [item["id"] for item in response.json()["data"]]


@pytest.fixture
async def several(tmp_path: Path, start: Callable[..., Any]) -> AsyncIterator[Several]:
    served = {"a": ("m-one", "m-two"), "b": ("m-two", "m-three", "m-four")}
    async with AsyncExitStack() as stack:
        engines, tables = {}, []
        for name, models in served.items():
            engines[name] = StandInEngine(models=models)
            address = await engines[name].start()
            stack.push_async_callback(engines[name].close)
            tables.append({"name": name, "url": address, "models": models[:2]})
        running = await stack.enter_async_context(
            start(tmp_path, upstream={}, upstreams=tables, health={"interval": 0, "failures": 2})
        )
        yield Several(running, engines)


async def test_models_of_all_engines_are_one_list_of_what_they_are_asked_for(
    several: Several,
) -> None:
    assert await several.models() == ["m-one", "m-two", "m-three"]
    # Bob's grant names one model.
    assert await several.models("bob") == ["m-two"]


async def test_requests_reach_the_engine_of_their_model(several: Several) -> None:
    for model in ("m-one", "m-three", "m-two"):
        response = await several.running.chat(model=model)
        assert (response.status_code, response.json()["model"]) == (200, model)
    response = await several.running.chat(model="m-four")
    assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_found")


async def test_models_of_an_engine_that_is_down_are_left_out(several: Several) -> None:
    await several.engines["a"].close()
    assert await several.models() == ["m-two", "m-three"]


async def test_gateway_is_ready_while_one_engine_is_up(several: Several) -> None:
    await several.engines["a"].close()
    for _ in range(2):
        response = await several.running.chat(model="m-one")
        assert response.json()["error"]["code"] == "upstream_connect"
    response = await several.running.chat(model="m-one")
    assert (response.status_code, response.json()["error"]["code"]) == (503, "engines_unavailable")
    assert int(response.headers["retry-after"]) >= 1
    assert (await several.running.chat(model="m-two")).status_code == 200
    assert (await several.running.get("/readyz", None)).status_code == 200
    await several.engines["b"].close()
    for _ in range(2):
        await several.running.chat(model="m-three")
    assert (await several.running.get("/readyz", None)).status_code == 503
    response = await several.running.get("/v1/models")
    assert (response.status_code, response.json()["error"]["code"]) == (503, "engines_unavailable")
    assert int(response.headers["retry-after"]) >= 1


@pytest.mark.parametrize(
    ("body", "code"), [(b"[1]", "engine_answer"), (b'{"data":1}', "engine_answer"), (b"", None)]
)
async def test_engine_with_an_unusable_list_does_not_spoil_that_of_the_others(
    tmp_path: Path, start: Callable[..., Any], body: bytes, code: str | None
) -> None:
    odd = ScriptedEngine(Script(writes=(body,), content_type=JSON, status=200 if code else 404))
    fine = StandInEngine(models=("m",))
    async with AsyncExitStack() as stack:
        addresses = {"odd": await odd.start(), "fine": await fine.start()}
        stack.push_async_callback(odd.close)
        stack.push_async_callback(fine.close)
        tables = [{"name": name, "url": url} for name, url in addresses.items()]
        options = {"upstream": {}, "health": {"interval": 0}}
        running = await stack.enter_async_context(start(tmp_path, upstreams=tables, **options))
        response = await running.get("/v1/models")
        assert [item["id"] for item in response.json()["data"]] == ["m"]
        await fine.close()
        response = await running.get("/v1/models")
        assert response.status_code == 502
        assert json.loads(response.content)["error"]["code"] == (code or "engine_status")
