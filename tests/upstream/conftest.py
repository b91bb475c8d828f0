"""The engine client runs on both event loops: the server's uvloop and the tests' asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, ExitStack

import pytest
import uvloop

from tests.upstream.field import Field


@pytest.fixture
async def engines() -> AsyncIterator[Field]:
    async with AsyncExitStack() as stack:
        with ExitStack() as holes:
            yield Field(stack, holes)


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
