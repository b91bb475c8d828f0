"""One gateway a test, and the server's own event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import uvloop

from tests.outcomes.bench import Bench, running

Start = Callable[..., Awaitable[Bench]]


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """`await start(script, …)` gives a running gateway; see `running`."""
    async with AsyncExitStack() as stack:

        async def begin(*args: object, **kwargs: object) -> Bench:
            return await stack.enter_async_context(running(tmp_path, *args, **kwargs))  # type: ignore[arg-type]

        yield begin
