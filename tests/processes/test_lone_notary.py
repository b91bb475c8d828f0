"""A notary apart, in this process: how signals end it, and whose socket it takes away."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from attestation.errors import UsageError
from gateway.notary.local import LocalNotary
from gateway.notary.wire.socket import bind_shared_socket
from gateway.processes import alone, channel
from gateway.processes.alone import STOPPED, LoneNotary
from gateway.processes.apart import ApartNotary, _Tries
from gateway.settings import Settings, load_settings
from tests.support.serving import PATIENCE, write_config


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    own = str(os.geteuid())
    run = tmp_path / "run"
    run.mkdir()
    run.chmod(0o750)
    notary = {"socket": str(run / "notary.sock"), "user": own, "gateway_user": own}
    budgets = {"budgets_file": str(tmp_path / "budgets.json")}
    limits = {"drain_seconds": 0.0}
    tables: dict[str, Any] = {"notary": notary, "access": budgets, "limits": limits}
    return load_settings(write_config(tmp_path, "http://127.0.0.1:9", **tables)).settings


def place_of(settings: Settings) -> Path:
    return Path(str(settings.notary.socket))


@dataclass(slots=True, kw_only=True)
class Slow:
    """A notary's closing, which waits until it may go on."""

    begun: asyncio.Event
    allowed: asyncio.Event
    done: bool = False


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Slow:
    one = Slow(begun=asyncio.Event(), allowed=asyncio.Event())
    close = LocalNotary.close

    async def waiting(notary: LocalNotary) -> None:
        one.begun.set()
        await one.allowed.wait()
        await close(notary)
        one.done = True

    monkeypatch.setattr(LocalNotary, "close", waiting)
    return one


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[tuple[LoneNotary, asyncio.Task[str]]]:
    lone = LoneNotary(settings)
    task = asyncio.create_task(lone.run())
    try:
        yield lone, task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


async def found(settings: Settings) -> ApartNotary:
    apart = await ApartNotary.find(settings, [])
    await apart.wait_ready()
    return apart


async def ended(task: asyncio.Task[str]) -> str:
    return await asyncio.wait_for(task, PATIENCE)


async def test_signal_while_it_seals_what_is_left_does_not_cut_that_short(
    settings: Settings, slow: Slow
) -> None:
    async with running(settings) as (lone, task):
        gateway = await found(settings)
        gateway.channel.send("stop")
        await slow.begun.wait()
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
            lone._arrived(int(number))
            await asyncio.sleep(0)
        slow.allowed.set()
        assert await ended(task) == ""
        assert slow.done
        await gateway.channel.close()


async def test_third_signal_does_not_cut_short_what_the_second_began(
    settings: Settings, slow: Slow
) -> None:
    async with running(settings) as (lone, task):
        gateway = await found(settings)
        lone._arrived(int(signal.SIGTERM))
        lone._arrived(int(signal.SIGTERM))
        lone._arrived(int(signal.SIGTERM))
        await slow.begun.wait()
        lone._arrived(int(signal.SIGTERM))
        slow.allowed.set()
        assert await ended(task) == ""
        assert slow.done
        await gateway.channel.close()


async def test_gateway_that_does_not_hear_the_notary_ends_does_not_keep_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alone, "_SLACK_SECONDS", 0.0)
    async with running(settings) as (lone, task):
        gateway = await found(settings)
        lone._arrived(int(signal.SIGTERM))
        assert await ended(task) == ""
        message = await gateway.channel.receive()
        while message is not None and message["kind"] != "ended":
            message = await gateway.channel.receive()
        assert message is not None
        assert message["reason"] == STOPPED
        await gateway.channel.close()


async def test_boot_that_ended_by_itself_is_told_although_a_signal_came_then(
    settings: Settings,
) -> None:
    async with running(settings) as (lone, task):
        gateway = await found(settings)
        assert lone._process is not None
        lone._process._on_end("log_failed")
        lone._arrived(int(signal.SIGTERM))
        lone._arrived(int(signal.SIGTERM))
        assert await ended(task) == "log_failed"
        await gateway.channel.close()


async def test_socket_of_the_notary_that_came_after_stays_where_it_is(
    settings: Settings, slow: Slow
) -> None:
    async with running(settings) as (_, task):
        gateway = await found(settings)
        gateway.channel.send("stop")
        await slow.begun.wait()
        # Its socket is closed by now, and so in nobody's way.
        with bind_shared_socket(place_of(settings)):
            slow.allowed.set()
            await ended(task)
            with closing(socket.socket(socket.AF_UNIX)) as later:
                later.connect(str(place_of(settings)))
        await gateway.channel.close()


async def test_socket_is_gone_after_its_notary(settings: Settings) -> None:
    async with running(settings) as (lone, task):
        gateway = await found(settings)
        lone._arrived(int(signal.SIGTERM))
        gateway.channel.send("stop")
        await ended(task)
        assert not place_of(settings).exists()
        await gateway.channel.close()


@pytest.mark.parametrize(
    "said",
    [b"[" * 200_000, b"{", b"[]", b'{"kind": []}', b'{"other": 1}', b"\xff" * 9, b"1" * 9999],
    ids=["deep", "cut", "list", "odd_kind", "no_kind", "no_text", "long_number"],
)
async def test_gateway_that_says_nonsense_first_is_refused_and_the_notary_waits_on(
    settings: Settings, said: bytes
) -> None:
    async with running(settings) as (_, task):
        sock = await _Tries(str(place_of(settings))).connect()
        _, writer = await asyncio.open_connection(sock=sock)
        writer.write(struct.pack(">I", len(said)) + said)
        gateway = await asyncio.wait_for(found(settings), PATIENCE)
        writer.close()
        await writer.wait_closed()
        assert not task.done()
        await gateway.channel.close()
        assert await ended(task) == ""


@pytest.mark.parametrize(
    "said",
    [b"[" * 200_000, b'{"other": 1}', b'{"kind": {}}'],
    ids=["deep", "no_kind", "odd_kind"],
)
async def test_gateway_that_says_nonsense_later_ends_its_notary_in_order(
    settings: Settings, said: bytes
) -> None:
    async with running(settings) as (_, task):
        gateway = await found(settings)
        gateway.channel._writer.write(struct.pack(">I", len(said)) + said)
        gateway.channel.send("stop")
        assert await ended(task) == ""
        await gateway.channel.close()


async def test_gateway_that_reads_nothing_does_not_keep_a_notary_that_has_closed(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "_CLOSE_SECONDS", 0.1)
    async with running(settings) as (lone, task):
        gateway = await found(settings)
        gateway.channel._writer.transport.pause_reading()  # type: ignore[attr-defined]
        assert lone._process is not None
        for _ in range(300):
            lone._process._channel.send("conditions", codes=["x" * 10_000])
        gateway.channel.send("stop")
        assert await ended(task) == ""
        await gateway.channel.close()


def test_place_of_a_notary_that_takes_nobody_more_is_not_waited_for(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    path = tmp_path / "notary.sock"
    with bind_shared_socket(path) as sock:
        sock.listen(0)
        with closing(socket.socket(socket.AF_UNIX)) as first:
            first.connect(str(path))
            with pytest.raises(UsageError):
                bind_shared_socket(path)
        assert path.exists()
