"""A gateway opens no port in front of an engine that others can change."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from attestation.errors import UnavailableError
from gateway.access.keyfile import add_key
from gateway.access.principal import Grant
from gateway.engine.scripted import JSON, Close, Script, ScriptedEngine
from gateway.engine.standin import StandInEngine
from gateway.engine.wire import EngineRequest
from gateway.serving import Gateway
from gateway.telemetry.events import Events
from gateway.upstream import EngineAddress, Upstream, UpstreamLimits, parse_engine_url
from gateway.upstream.self_check import Demand, check_engines, look_at
from gateway.upstream.surface import ADAPTERS, DEVELOPMENT, FORBIDDEN_ROUTES

SHORT = UpstreamLimits(connect_timeout=5.0, first_byte_timeout=0.2, idle_timeout=5.0)
NOT_FOUND = Script(status=404, content_type=JSON, close=Close.LENGTH, writes=(b"{}",))


def with_routes(*paths: str, status: int = 405) -> Callable[[EngineRequest], Script]:
    """An engine that has just these routes beside 404."""
    there = Script(status=status, content_type=JSON, close=Close.LENGTH, writes=(b"{}",))
    return lambda request: there if request.target in paths else NOT_FOUND


@pytest.fixture
async def engine() -> AsyncIterator[ScriptedEngine]:
    engine = ScriptedEngine(with_routes())
    await engine.start()
    yield engine
    await engine.close()


@pytest.fixture
def upstream(engine: ScriptedEngine) -> Upstream:
    return Upstream(parse_engine_url(engine.address), SHORT, name="one")


def nobody(tmp_path: Path) -> Upstream:
    """An engine that is not there."""
    return Upstream(EngineAddress(path=str(tmp_path / "none.sock")), SHORT, name="absent")


async def test_every_forbidden_route_is_asked_for_and_only_with_get(
    engine: ScriptedEngine, upstream: Upstream
) -> None:
    await check_engines([upstream], Demand.REQUIRED)
    assert [request.target for request in engine.requests] == list(FORBIDDEN_ROUTES)
    assert {request.method for request in engine.requests} == {"GET"}
    assert {request.body for request in engine.requests} == {b""}


@pytest.mark.parametrize("demand", [Demand.ANSWERING, Demand.REQUIRED])
@pytest.mark.parametrize("path", [*DEVELOPMENT, *ADAPTERS])
async def test_engine_with_a_forbidden_route_is_refused(
    engine: ScriptedEngine, upstream: Upstream, demand: Demand, path: str
) -> None:
    engine.set(with_routes(path))
    with pytest.raises(UnavailableError) as refusal:
        await check_engines([upstream], demand)
    assert refusal.value.code == "engine_routes"
    assert refusal.value.observed == path
    assert "VLLM_SERVER_DEV_MODE" in refusal.value.hint


@pytest.mark.parametrize("status", [200, 401, 403, 405, 422, 500, 503])
async def test_route_is_there_however_it_answers(
    engine: ScriptedEngine, upstream: Upstream, status: int
) -> None:
    engine.set(with_routes("/sleep", status=status))
    assert (await look_at(upstream)).found == ("/sleep",)


async def test_answer_that_is_no_http_is_something_that_is_there(
    engine: ScriptedEngine, upstream: Upstream
) -> None:
    engine.set(Script(close=Close.RAW, writes=(b"\x00\x01 hello\r\n\r\n",)))
    assert (await look_at(upstream, ("/sleep",))).found == ("/sleep",)


async def test_every_open_route_counts_but_few_are_named(
    engine: ScriptedEngine, upstream: Upstream
) -> None:
    engine.set(with_routes(*FORBIDDEN_ROUTES))
    with pytest.raises(UnavailableError) as refusal:
        await check_engines([upstream], Demand.ANSWERING)
    assert refusal.value.observed.endswith(f"and {len(FORBIDDEN_ROUTES) - 3} more")


async def test_second_engine_is_looked_at_as_the_first(
    engine: ScriptedEngine, upstream: Upstream
) -> None:
    other = ScriptedEngine(with_routes("/v1/load_lora_adapter"))
    await other.start()
    second = Upstream(parse_engine_url(other.address), SHORT, name="two")
    with pytest.raises(UnavailableError, match="engine two"):
        await check_engines([upstream, second], Demand.ANSWERING)
    await other.close()


async def test_engine_that_is_absent_is_told_and_passes_unless_it_is_required(
    tmp_path: Path,
) -> None:
    told: list[str] = []
    await check_engines([nobody(tmp_path)], Demand.ANSWERING, unchecked=told.append)
    assert told == ["absent"]
    with pytest.raises(UnavailableError, match="absent does not answer") as refusal:
        await check_engines([nobody(tmp_path)], Demand.REQUIRED, unchecked=told.append)
    assert refusal.value.code == "engine_routes"
    assert told == ["absent"]


async def test_silent_engine_was_not_looked_at(engine: ScriptedEngine, upstream: Upstream) -> None:
    engine.set(Script(close=Close.MUTE))
    look = await look_at(upstream)
    assert (look.answered, look.found) == (False, ())
    with pytest.raises(UnavailableError, match="does not answer"):
        await check_engines([upstream], Demand.REQUIRED)


async def test_route_found_before_the_engine_died_still_refuses(
    engine: ScriptedEngine, upstream: Upstream
) -> None:
    def play(request: EngineRequest) -> Script:
        return Script(close=Close.MUTE) if request.target != DEVELOPMENT[0] else Script(status=200)

    engine.set(play)
    with pytest.raises(UnavailableError, match="can be changed"):
        await check_engines([upstream], Demand.ANSWERING)


async def test_engine_that_comes_up_within_the_patience_is_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "engine.sock"
    late = ScriptedEngine(with_routes("/pause"))
    ticks = iter(range(100))

    def monotonic() -> float:
        return float(next(ticks))

    async def appear() -> None:
        await asyncio.sleep(0)
        await late.start(uds=str(path))

    starting = asyncio.create_task(appear())
    upstream = Upstream(EngineAddress(path=str(path)), SHORT, name="late")
    with pytest.raises(UnavailableError, match="engine late can be changed"):
        await check_engines([upstream], Demand.REQUIRED, patience=50.0, monotonic=monotonic)
    await starting
    await late.close()


async def test_off_asks_nobody(engine: ScriptedEngine, upstream: Upstream) -> None:
    engine.set(with_routes(*FORBIDDEN_ROUTES))
    await check_engines([upstream], Demand.OFF)
    assert engine.requests == []


def gateway_settings(folder: Path, engine: str, **selfcheck: Any) -> Any:
    from gateway.settings.model import Settings  # noqa: PLC0415 - only here

    add_key(folder / "keys.json", label="one", grant=Grant(), now=0)
    return Settings.model_validate(
        {
            "listen": {"uds": folder / "gw.sock"},
            "tls": {"mode": "off"},
            "upstream": {"url": engine},
            "access": {"keys_file": folder / "keys.json"},
            "notary": {"data_dir": folder / "data"},
            "evidence": {"provider": "simulated:"},
            "selfcheck": selfcheck,
        }
    )


async def test_gateway_with_an_open_engine_starts_no_boot_and_listens_nowhere(
    tmp_path: Path, engine: ScriptedEngine
) -> None:
    engine.set(with_routes("/collective_rpc"))
    settings = gateway_settings(tmp_path, engine.address)
    with (tmp_path / "log").open("w") as log, pytest.raises(UnavailableError) as refusal:
        await Gateway.start(settings, Events(log, lambda: 0.0))
    assert refusal.value.code == "engine_routes"
    assert not (tmp_path / "data").exists()
    with socket.socket(socket.AF_UNIX) as caller, pytest.raises(OSError, match=r"refused|No such"):
        caller.connect(str(tmp_path / "gw.sock"))


async def test_gateway_without_its_engine_starts_and_says_that_nobody_looked(
    tmp_path: Path,
) -> None:
    settings = gateway_settings(tmp_path, "http://127.0.0.1:9")
    with (tmp_path / "log").open("w+") as log:
        gateway = await Gateway.start(settings, Events(log, lambda: 0.0))
        await gateway.stop()
        log.seek(0)
        assert '"event":"engine.unchecked"' in log.read().replace('": "', '":"')


async def test_stock_engine_passes(tmp_path: Path) -> None:
    engine = StandInEngine()
    address = await engine.start(port=0)
    await check_engines([Upstream(parse_engine_url(address))], Demand.REQUIRED)
    await engine.close()
