"""One gateway, driven once through everything; the tests then look at what it left."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.access.keyfile import add_key
from gateway.access.principal import Grant
from gateway.cli.local.loop import LoopThread
from tests.canary import driving, provoke
from tests.canary.driving import Run
from tests.canary.engine import CanaryEngine, scripts
from tests.canary.search import Canary, files_below
from tests.canary.wire import Door
from tests.support.collector import Collector
from tests.support.serving import Served, serving

FAULTS = Path(__file__).parent / "faults"
GRANTS = {
    "one-model": Grant(routes=(driving.CHAT,), models=("another",)),
    "one-slot": Grant(concurrency=1),
}
KEYS = (
    "main", "rules", "members", "media", "json", "heads", "bodies", "slow", "engine", "flood",
    "inside", "stranger", "gone", *GRANTS,
)  # fmt: skip
TABLES: Mapping[str, Mapping[str, object]] = {
    "tls": {"mode": "self-signed"},
    "upstream": {
        # Each long enough for a busy machine, and the shorter before the longer.
        "connect_timeout": 3.0,
        "first_byte_timeout": 6.0,
        "idle_timeout": 7.0,
        "total_timeout": 10.0,
    },
    # Failures are to be met by requests, not by the breaker; only an engine that accepts no
    # connection at all is left alone for a while.
    "health": {"failures": 100, "cooldown": 5.0, "interval": 0.0},
    "limits": {
        "body_bytes": driving.BODY_BYTES,
        "response_bytes": driving.RESPONSE_BYTES,
        "frame_bytes": driving.FRAME_BYTES,
        "header_bytes": driving.HEADER_BYTES,
        "header_seconds": 5.0,
        "body_seconds": 5.0,
        "drain_seconds": 0.3,
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """What a driven gateway left, by place."""

    run: Run
    places: Mapping[str, bytes]
    metrics: str
    exit_code: int
    elsewhere: list[str]


def loud(canary: Canary, **more: str) -> dict[str, str]:
    """The environment of the loudest gateway: development mode, debug logs, tracebacks."""
    return {
        "PYTHONPATH": str(FAULTS),
        "PYTHONDEVMODE": "1",
        "PYTHONASYNCIODEBUG": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "ATTESTED_DEBUG": "1",
        "CANARY_TOKEN": canary.hidden,
        **more,
    }


@contextmanager
def driven(folder: Path, canary: Canary, **more: str) -> Iterator[tuple[Run, LoopThread]]:
    """A gateway in front of an engine that is full of the token."""
    played = scripts(canary, frame_bytes=driving.FRAME_BYTES, response_bytes=driving.RESPONSE_BYTES)
    keys = {
        name: add_key(
            folder / "keys.json", label=name, grant=GRANTS.get(name, Grant()), now=int(time.time())
        )
        for name in KEYS
    }
    with LoopThread() as loop, closing(Collector()) as collector:
        engine = CanaryEngine(played)
        telemetry = {"request_events": "all", "otlp_endpoint": collector.url}
        address = loop.call(engine.start())
        try:
            with serving(
                folder, address, variables=loud(canary, **more), telemetry=telemetry, **TABLES
            ) as served:
                door = Door(port=served.port, host_name=f"{canary.hidden}.example")
                run = Run(served=served, engine=engine, canary=canary, door=door, keys=keys)
                run.keys["first"] = served.key
                run.collector = collector
                yield run, loop
        finally:
            loop.call(engine.close())


def everything(served: Served, metrics: str) -> dict[str, bytes]:
    """All that the gateway wrote: files, both outputs, metrics; not the files it was given."""
    given = {served.folder / name for name in ("gateway.toml",)}
    return {
        **files_below(served.folder, leave_out=given),
        "metrics": metrics.encode(),
        "command line": Path(f"/proc/{served.process.pid}/cmdline").read_bytes()
        if served.process.poll() is None
        else b"",
    }


def told(run: Run) -> dict[str, bytes]:
    """All that a collector of spans was sent."""
    assert run.collector is not None
    return {"spans": b"\n".join(body for _, body in run.collector.requests)}


@pytest.fixture(scope="package")
def canary() -> Canary:
    return Canary()


@pytest.fixture(scope="package")
def left(canary: Canary, tmp_path_factory: pytest.TempPathFactory) -> Left:
    """The gateway after everything in `provoke`, stopped."""
    folder = tmp_path_factory.mktemp("canary")
    with driven(folder, canary) as (run, loop):
        for group in provoke.ALL:
            group(run)

        def close_engine() -> int:
            port = int(run.engine.address.rpartition(":")[2])
            loop.call(run.engine.close())
            return port

        def reopen_engine(port: int) -> None:
            loop.call(run.engine.start(port=port))

        port = int(run.engine.address.rpartition(":")[2])
        provoke.unreachable_engine(run, close_engine)
        reopen_engine(port)
        metrics = run.served.metrics_text()
        elsewhere = provoke.left_behind(run, folder)
        provoke.stopping(run, lambda: run.served.process.send_signal(signal.SIGTERM))
        exit_code = run.served.process.wait(60)
        places = everything(run.served, metrics) | told(run)
    return Left(run=run, places=places, metrics=metrics, exit_code=exit_code, elsewhere=elsewhere)
