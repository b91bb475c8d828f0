"""An engine in this process and gateways in processes of their own."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from gateway.cli.local.loop import LoopThread
from gateway.engine.scripted import Script, ScriptedEngine
from gateway.engine.standin import StandInEngine
from tests.support.serving import Served, serving

Engines = Callable[..., str]
Serve = Callable[..., Served]


@pytest.fixture
def loop() -> Iterator[LoopThread]:
    with LoopThread() as thread:
        yield thread


@pytest.fixture
def standin(loop: LoopThread) -> Iterator[Engines]:
    """`standin(delay=…)` starts a stand-in engine and gives its address."""
    with ExitStack() as stack:

        def begin(*, delay: float = 0.0, uds: str | None = None) -> str:
            engine = StandInEngine(delay=delay)
            stack.callback(lambda: loop.call(engine.close()))
            return loop.call(engine.start(uds=uds))

        yield begin


@pytest.fixture
def scripted(loop: LoopThread) -> Iterator[Callable[[Script], ScriptedEngine]]:
    """`scripted(script)` starts an engine that plays it."""
    with ExitStack() as stack:

        def begin(script: Script) -> ScriptedEngine:
            engine = ScriptedEngine(script)
            loop.call(engine.start())
            stack.callback(lambda: loop.call(engine.close()))
            return engine

        yield begin


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """`serve(engine, …)` starts `attested serve` in a folder of its own; see `serving`."""
    numbers = itertools.count()
    with ExitStack() as stack:

        def begin(
            engine: str, *arguments: str, folder: Path | None = None, **tables: object
        ) -> Served:
            if folder is None:
                folder = tmp_path / f"gateway-{next(numbers)}"
                folder.mkdir()
            return stack.enter_context(serving(folder, engine, *arguments, **tables))  # type: ignore[arg-type]

        yield begin
