"""Several engines behind one gateway: what callers get, what receipts say of each try."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from attestation.receipt.claims import Attempt, End, ReceiptClaims
from gateway.access.principal import subject_of
from gateway.engine.scripted import Close, Script, ScriptedEngine
from gateway.upstream import (
    EngineAddress,
    Engines,
    HealthRules,
    Upstream,
    UpstreamLimits,
    parse_engine_url,
)
from tests.outcomes.bench import EVENTS, PATIENT, PLAIN, QUESTION, STREAM, Bench, Reply
from tests.outcomes.conftest import Start
from tests.upstream.holes import black_hole, refusing

IMPATIENT = UpstreamLimits(connect_timeout=0.3, total_timeout=120.0)


@dataclass
class Fleet:
    """Engines of a test, by name; the one whose weight is overwhelming is asked first."""

    holes: ExitStack
    upstreams: list[Upstream] = field(default_factory=list)
    started: list[ScriptedEngine] = field(default_factory=list)

    async def add(self, name: str, script: Script = PLAIN, **options: Any) -> ScriptedEngine:
        engine = ScriptedEngine(script)
        self.place(name, parse_engine_url(await engine.start()), **options)
        self.started.append(engine)
        return engine

    def place(
        self,
        name: str,
        address: EngineAddress,
        limits: UpstreamLimits = PATIENT,
        **options: Any,
    ) -> None:
        self.upstreams.append(Upstream(address, limits, name=name, **options))

    def refusing(self, name: str, **options: Any) -> None:
        self.place(name, parse_engine_url(self.holes.enter_context(refusing())), **options)

    def black_hole(self, name: str, **options: Any) -> None:
        address = parse_engine_url(self.holes.enter_context(black_hole()))
        self.place(name, address, IMPATIENT, **options)

    async def bench(self, start: Start) -> Bench:
        return await start(engines=Engines(self.upstreams, HealthRules(cooldown=3600.0)))


FIRST = 1000  # a weight that makes an engine the first of nearly every caller


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    with ExitStack() as holes:
        found = Fleet(holes)
        yield found
        for engine in found.started:
            await engine.close()


async def ask(bench: Bench, first: str, body: bytes = QUESTION) -> tuple[Reply, ReceiptClaims]:
    """Ask with a key whose first engine is `first`."""
    while True:
        key = bench.new_key()
        sub = subject_of(key.encode())
        if bench.upstream._order("m", sub.value)[0].name == first:
            break
    reply = await bench.ask(body, key=key)
    return reply, await bench.checked(reply, body, sub=sub)


def tries(claims: ReceiptClaims) -> list[tuple[str, bool, str]]:
    return [(one.upstream, one.local, one.outcome) for one in claims.attempts]


async def test_both_tries_stand_in_the_receipt(start: Start, fleet: Fleet) -> None:
    fleet.refusing("dead", weight=FIRST)
    engine = await fleet.add("alive", label="vllm/9")
    bench = await fleet.bench(start)
    reply, claims = await ask(bench, "dead")
    assert reply.status == 200
    assert tries(claims) == [("dead", False, "connect"), ("alive", False, "ok")]
    assert claims.response.end is End.COMPLETE
    assert claims.model.engine == "vllm/9"
    assert [request.header("x-request-id") for request in engine.requests] == [reply.jti + "-2"]


async def test_black_hole_costs_its_timeout_once_and_then_nothing_goes_there(
    start: Start, fleet: Fleet
) -> None:
    fleet.black_hole("hole", weight=FIRST)
    await fleet.add("alive")
    bench = await fleet.bench(start)
    _, claims = await ask(bench, "hole")
    assert tries(claims) == [("hole", False, "timeout_connect"), ("alive", False, "ok")]
    assert claims.attempts[0].milliseconds >= 300
    for _ in range(3):
        _, claims = await ask(bench, "hole")
        assert tries(claims) == [("alive", False, "ok")]


async def test_stream_comes_from_the_second_engine_when_the_first_drops_the_request(
    start: Start, fleet: Fleet
) -> None:
    await fleet.add("a", Script(close=Close.DROP), weight=FIRST)
    await fleet.add("b", STREAM)
    bench = await fleet.bench(start)
    reply, claims = await ask(bench, "a", b'{"model":"m","messages":[],"stream":true}')
    assert tries(claims) == [("a", False, "reset"), ("b", False, "ok")]
    assert claims.response.end is End.COMPLETE
    assert reply.body.startswith(EVENTS[0])


async def test_stream_that_breaks_is_not_begun_again(start: Start, fleet: Fleet) -> None:
    await fleet.add("a", Script(writes=EVENTS, close=Close.NO_LAST_CHUNK), weight=FIRST)
    other = await fleet.add("b", STREAM)
    bench = await fleet.bench(start)
    _, claims = await ask(bench, "a", b'{"model":"m","messages":[],"stream":true}')
    assert tries(claims) == [("a", False, "incomplete")]
    assert claims.response.end is End.UPSTREAM_ERROR
    assert other.requests == []


async def test_engine_whose_streams_never_end_as_they_should_is_left(
    start: Start, fleet: Fleet
) -> None:
    # As HTTP has it every answer is whole, and the engine's health would be good.
    await fleet.add("a", Script(writes=EVENTS, close=Close.CLEAN), weight=FIRST)
    await fleet.add("b", STREAM)
    bench = await fleet.bench(start)
    body = b'{"model":"m","messages":[],"stream":true}'
    for _ in range(3):
        _, claims = await ask(bench, "a", body)
        assert (tries(claims), claims.response.end) == ([("a", False, "ok")], End.UPSTREAM_ERROR)
    _, claims = await ask(bench, "a", body)
    assert (tries(claims), claims.response.end) == ([("b", False, "ok")], End.COMPLETE)


async def test_engine_that_did_not_take_the_request_stands_beside_the_one_that_did(
    start: Start, fleet: Fleet
) -> None:
    await fleet.add("a", Script(writes=(b"{}",), status=503), weight=FIRST)
    await fleet.add("b", label="vllm/9")
    bench = await fleet.bench(start)
    reply, claims = await ask(bench, "a")
    assert reply.status == 200
    assert tries(claims) == [("a", False, "status"), ("b", False, "ok")]
    assert (claims.response.end, claims.model.engine) == (End.COMPLETE, "vllm/9")


async def test_two_dead_engines_are_an_error_with_both_tries(start: Start, fleet: Fleet) -> None:
    fleet.refusing("a")
    fleet.refusing("b")
    bench = await fleet.bench(start)
    reply, claims = await ask(bench, "a")
    assert (reply.status, reply.error()["code"]) == (502, "upstream_connect")
    assert tries(claims) == [("a", False, "connect"), ("b", False, "connect")]
    assert claims.response.end is End.UPSTREAM_ERROR


async def test_no_engine_that_is_up_is_a_503_with_a_receipt_and_no_try(
    start: Start, fleet: Fleet
) -> None:
    fleet.black_hole("a")
    bench = await fleet.bench(start)
    await bench.ask()
    reply = await bench.ask()
    claims = await bench.checked(reply, QUESTION)
    assert (reply.status, reply.error()["code"]) == (503, "engines_unavailable")
    assert int(reply.headers["retry-after"]) >= 1
    assert claims.attempts == ()
    assert claims.response.end is End.UPSTREAM_ERROR
    assert claims.decision.code == "allow"
    assert bench.reported == []


async def test_model_that_no_engine_serves_is_refused_before_any_is_asked(
    start: Start, fleet: Fleet
) -> None:
    engine = await fleet.add("a", models=("m",))
    await fleet.add("b", models=("n",))
    bench = await fleet.bench(start)
    body = b'{"model":"other","messages":[]}'
    reply = await bench.ask(body)
    claims = await bench.checked(reply, body)
    assert (reply.status, reply.error()["code"]) == (404, "model_not_found")
    assert reply.error()["param"] == "model"
    assert (claims.decision.code, claims.response.end) == ("model_not_found", End.REFUSED)
    assert (claims.attempts, claims.model.id) == ((), "other")
    assert engine.requests == []
    reply = await bench.ask()
    assert (await bench.checked(reply, QUESTION)).attempts[0].upstream == "a"


async def test_engine_inside_this_domain_is_local_only_where_that_was_measured(
    start: Start, fleet: Fleet, tmp_path: Path
) -> None:
    # Nothing was measured of an engine here, so the notary believes no worker that it is local.
    engine = ScriptedEngine(PLAIN)
    address = await engine.start(uds=str(tmp_path / "engine.sock"))
    fleet.started.append(engine)
    fleet.place("here", parse_engine_url(address), local=True)
    bench = await fleet.bench(start)
    reply = await bench.ask()
    claims = await bench.checked(reply, QUESTION)
    (attempt,) = claims.attempts
    assert attempt == Attempt(
        upstream="here", local=False, outcome="ok", milliseconds=attempt.milliseconds
    )
    assert claims.model.digest is None
    assert json.loads(reply.body)["model"] == "m-served"
