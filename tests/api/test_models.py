"""One look at the engines for all who ask for models at the same time."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from gateway.api.models import SharedLook
from gateway.errors import UpstreamError, UpstreamFailure
from gateway.upstream import Engines


class SlowEngines:
    def __init__(self) -> None:
        self.looks = 0
        self.failure: UpstreamError | None = None
        self.asked = asyncio.Event()
        self.go_on = asyncio.Event()

    async def get_each(self, path: str, *, request_id: str) -> list[Any]:
        assert (path, len(request_id)) == ("/v1/models", 32)
        self.looks += 1
        self.asked.set()
        await self.go_on.wait()
        if self.failure is not None:
            raise self.failure
        return [self.looks]


def look_at(engines: SlowEngines) -> SharedLook:
    return SharedLook(lambda: cast("Engines", engines))


async def test_callers_who_ask_at_once_share_one_look_and_the_next_looks_anew() -> None:
    engines = SlowEngines()
    look = look_at(engines)
    callers = [asyncio.create_task(look.found()) for _ in range(100)]
    await engines.asked.wait()
    engines.go_on.set()
    found: list[Any] = list(await asyncio.gather(*callers))
    assert found == [[1]] * 100
    assert cast("Any", await look.found()) == [2]


async def test_caller_who_leaves_takes_the_answer_from_nobody_else() -> None:
    engines = SlowEngines()
    look = look_at(engines)
    leaver, stayer = (asyncio.create_task(look.found()) for _ in range(2))
    await engines.asked.wait()
    leaver.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaver
    engines.go_on.set()
    assert cast("Any", await stayer) == [1]


async def test_failure_is_told_to_all_who_waited_and_the_next_looks_anew() -> None:
    engines = SlowEngines()
    engines.failure = UpstreamError(UpstreamFailure.CONNECT, "nobody there")
    engines.go_on.set()
    look = look_at(engines)
    found = await asyncio.gather(*(look.found() for _ in range(3)), return_exceptions=True)
    assert found == [engines.failure] * 3
    engines.failure = None
    assert cast("Any", await look.found()) == [2]
