"""What is left when a process of the gateway is killed: by force, in the middle of its work."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from attestation.receipt.claims import End
from gateway.cli.local.loop import LoopThread
from gateway.engine.scripted import ScriptedEngine
from gateway.engine.wire import EngineRequest, EngineServer, Wire
from gateway.notary.log.segments import Kind
from tests.processes.conftest import (
    EVENT,
    QUESTION,
    Fleet,
    Hanging,
    alive,
    hang,
    kill,
    play,
    standing_still,
)
from tests.support.logs import leaves_of
from tests.support.serving import wait_until

pytestmark = pytest.mark.slow
Engine = Callable[..., ScriptedEngine]


def require_whole_log(fleet: Fleet) -> None:
    """Every receipt stands at the place it claims, and no two share anything."""
    leaves = leaves_of(fleet.served.boot)
    kept = fleet.kept()
    places = [receipt.claims.log.index for receipt in kept]
    assert places == [at for at, leaf in enumerate(leaves) if leaf.kind is Kind.RECEIPT]
    admissions = sorted(receipt.claims.log.admission for receipt in kept)
    assert admissions == list(range(len(kept)))
    assert len({receipt.claims.jti for receipt in kept}) == len(kept)


def on_each_worker(fleet: Fleet, engine: ScriptedEngine) -> list[Hanging]:
    """A hanging stream on every worker."""
    found: list[Hanging] = []
    for worker in fleet.workers:
        with standing_still(pid for pid in fleet.workers if pid != worker):
            found.append(hang(fleet, engine, stream=True))
        assert found[-1].worker == worker
    return found


def test_killed_worker_leaves_gateway_failures_and_the_others_run_on(
    engine: Engine, fleet: Callable[..., Fleet]
) -> None:
    one = engine(play)
    gateway = fleet(one.address, limits={"drain_seconds": 1.0})
    plain = hang(gateway, one)
    streams = on_each_worker(gateway, one)
    dead = [plain, *(each for each in streams if each.worker == plain.worker)]
    others = [each for each in streams if each.worker != plain.worker]
    kill(plain.worker)
    assert plain.rest() == b""
    for each in dead:
        each.sock.close()
        assert gateway.end(each.jti) is End.GATEWAY_FAILURE
    claims = gateway.receipt(plain.jti).claims
    assert (claims.request.commitment, claims.response.status) == (None, None)
    with gateway.client() as client:
        assert client.get(f"/v1/receipts/{others[0].jti}").status_code == 202
    wait_until(lambda: len(gateway.workers) == 2)
    assert plain.worker not in gateway.workers
    names = [event["event"] for event in gateway.served.events]
    assert names.count("worker.died") == 1
    wait_until(lambda: "worker.started" in gateway.served.stderr)
    assert gateway.ask().status_code == 200
    assert gateway.served.metrics()["attested_workers_replaced_total"] == 1.0
    assert gateway.served.stop() == 0
    assert all(b"[DONE]" not in each.rest() for each in others)
    require_whole_log(gateway)
    assert len(gateway.kept()) == 2 + len(streams)


def test_slots_of_a_killed_worker_come_back(engine: Engine, fleet: Callable[..., Fleet]) -> None:
    one = engine(play)
    gateway = fleet(one.address, limits={"drain_seconds": 1.0})
    held = [hang(gateway, one) for _ in range(64)]
    # The default grant is 64 at once, counted over all workers.
    assert {gateway.ask().status_code for _ in range(8)} == {429}
    victim = held[0].worker
    kill(victim)
    wait_until(lambda: victim not in gateway.workers and len(gateway.workers) == 2)
    wait_until(lambda: "worker.started" in gateway.served.stderr)
    assert gateway.ask().status_code == 200
    for each in held:
        each.sock.close()


def test_killed_notary_ends_everything_and_releases_nothing(
    fleet: Callable[..., Fleet], standin: Callable[..., str]
) -> None:
    gateway = fleet(standin(delay=0.05), limits={"drain_seconds": 20.0})
    pids = [pid for named in gateway.served.pids.values() for pid in named]
    stream = {**QUESTION, "stream": True, "max_tokens": 40}
    got = b""
    with (
        gateway.client() as client,
        client.stream("POST", "/v1/chat/completions", json=stream) as answer,
    ):
        pieces = answer.iter_raw()
        got += next(pieces)
        kill(gateway.notary)
        with pytest.raises(httpx2.RemoteProtocolError):  # noqa: PT012
            for piece in pieces:
                got += piece
    assert got.startswith(b"data: ")
    assert b"[DONE]" not in got
    assert gateway.served.process.wait(60) == 14
    assert "notary_died" in gateway.served.stderr
    assert "Traceback" not in gateway.served.stderr
    wait_until(lambda: not any(alive(pid) for pid in pids))
    assert gateway.kept() == []


class LateEngine:
    """Answers in full, once it is told to."""

    def __init__(self) -> None:
        self.asked, self.go = threading.Event(), asyncio.Event()
        self.server = EngineServer(self._handle)

    async def _handle(self, _request: EngineRequest, wire: Wire) -> None:
        self.asked.set()
        await self.go.wait()
        answer = b'{"id":"c","model":"m","choices":[]}'
        length = ("content-length", str(len(answer)))
        await wire.head(200, ("content-type", "application/json"), length)
        await wire.write(answer)

    async def release(self) -> None:
        self.go.set()


def test_plain_answers_are_discarded_when_the_notary_dies(
    fleet: Callable[..., Fleet], loop: LoopThread
) -> None:
    late = LateEngine()
    gateway = fleet(loop.call(late.server.start()), limits={"drain_seconds": 20.0})
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(gateway.ask)
        assert late.asked.wait(60)
        kill(gateway.notary)
        wait_until(lambda: "notary_died" in gateway.served.stderr)
        loop.call(late.release())
        answer = asking.result(60)
    loop.call(late.server.close())
    assert answer.status_code == 503
    assert answer.headers["x-should-retry"] == "false"
    assert answer.json()["error"]["code"] == "receipt_unavailable"
    assert gateway.served.process.wait(60) == 14
    assert gateway.kept() == []


def test_killed_supervisor_takes_every_process_with_it_and_the_log_is_closed(
    engine: Engine, fleet: Callable[..., Fleet]
) -> None:
    one = engine(play)
    gateway = fleet(one.address, limits={"drain_seconds": 1.0})
    pids = [pid for named in gateway.served.pids.values() for pid in named]
    assert gateway.ask().status_code == 200
    held = hang(gateway, one, stream=True)
    kill(gateway.served.process.pid)
    assert EVENT in held.rest()
    wait_until(lambda: not any(alive(pid) for pid in pids))
    ends = [receipt.claims.response.end for receipt in gateway.kept()]
    assert ends == [End.COMPLETE, End.GATEWAY_FAILURE]
    leaves = leaves_of(gateway.served.boot)
    # The notary closed as it does in order: the last receipt is under an epoch.
    assert leaves[-1].kind is Kind.EPOCH
    checkpoint = (gateway.served.boot / "log" / "checkpoint").read_text()
    assert checkpoint.splitlines()[1] == str(len(leaves))
    require_whole_log(gateway)


def test_worker_that_cannot_be_replaced_ends_the_gateway(
    fleet: Callable[..., Fleet], standin: Callable[..., str]
) -> None:
    gateway = fleet(standin(), workers=1)
    (gateway.served.folder / "keys.json").unlink()
    kill(gateway.workers[0])
    # Seven starts of an interpreter and the pauses between them.
    assert gateway.served.process.wait(240) == 14
    assert "workers_failed" in gateway.served.stderr
    assert gateway.served.stderr.count('"worker.died"') == 7  # the first, and each try


@pytest.mark.parametrize("signals", [1, 2])
def test_second_signal_cuts_what_the_first_one_waits_for(
    engine: Engine, fleet: Callable[..., Fleet], signals: int
) -> None:
    one = engine(play)
    drain = 1.0 if signals == 1 else 600.0
    gateway = fleet(one.address, limits={"drain_seconds": drain})
    held = hang(gateway, one, stream=True)
    for number in range(signals):
        gateway.served.process.send_signal(signal.SIGTERM)
        wait_until(lambda seen=number + 1: gateway.served.stderr.count('"stopping"') == seen)  # type: ignore[misc]
    rest = held.rest()
    assert b"gateway_stopping" in rest
    assert b"[DONE]" not in rest
    assert gateway.served.process.wait(60) == 0
    assert [receipt.claims.response.end for receipt in gateway.kept()] == [End.GATEWAY_FAILURE]


def test_signal_to_a_worker_lets_it_finish_and_it_is_replaced(
    engine: Engine, fleet: Callable[..., Fleet]
) -> None:
    one = engine(play)
    gateway = fleet(one.address, workers=1, limits={"drain_seconds": 1.0})
    (worker,) = gateway.workers
    held = hang(gateway, one, stream=True)
    os.kill(worker, signal.SIGTERM)
    assert b"gateway_stopping" in held.rest()
    wait_until(lambda: gateway.workers != [worker] and len(gateway.workers) == 1)
    assert gateway.ask().status_code == 200
    # The notary does not end while its workers may need it.
    os.kill(gateway.notary, signal.SIGTERM)
    os.kill(gateway.notary, signal.SIGINT)
    assert gateway.ask().status_code == 200
    assert gateway.served.stop() == 0
