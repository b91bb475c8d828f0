"""An engine for gateways that could start."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.cli.local.loop import LoopThread
from gateway.engine.standin import StandInEngine


@pytest.fixture
def engine() -> Iterator[str]:
    with LoopThread() as loop:
        standin = StandInEngine()
        yield loop.call(standin.start())
        loop.call(standin.close())
