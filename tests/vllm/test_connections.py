"""An engine that closes idle connections after a second: nobody notices, nothing runs twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import openai
import pytest

from gateway.client.session import Session
from tests.support.relay import LateRelay, late_relay
from tests.support.serving import Served, serving, wait_until
from tests.vllm.audit import audited
from tests.vllm.clients import openai_client
from tests.vllm.conftest import BRIEF_SECONDS
from tests.vllm.engine import Engine

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1200)]

CALLERS, ROUNDS = 8, 4
RUNNING, ENDED = "vllm:num_requests_running", "vllm:request_success_total"
READ, WRITTEN = "vllm:prompt_tokens_total", "vllm:generation_tokens_total"
STRAIGHT, AGAIN = ["ok"], ["reset", "ok"]


@pytest.fixture
def brief(brief_engine: Engine) -> Engine:
    """The engine that closes idle connections early, running."""
    brief_engine.require_running()
    return brief_engine


@pytest.fixture
def relay(brief: Engine) -> Iterator[LateRelay]:
    """The way to that engine, on which its closing is seen late."""
    with late_relay(brief.host, brief.port) as made:
        yield made


@contextmanager
def counted_once(engine: Engine, answers: list[Any]) -> Iterator[None]:
    """The engine did exactly what `answers` has at the end, by its own counters."""
    before = engine.metrics()
    yield
    wait_until(lambda: engine.metrics()[ENDED] - before[ENDED] >= len(answers))
    wait_until(lambda: engine.metrics()[RUNNING] == 0)
    after = engine.metrics()
    done = {name: after[name] - before[name] for name in (ENDED, READ, WRITTEN)}
    assert done == {
        ENDED: len(answers),
        READ: sum(answer.usage.prompt_tokens for answer in answers),
        WRITTEN: sum(answer.usage.completion_tokens for answer in answers),
    }


@contextmanager
def callers(session: Session, key: str) -> Iterator[Callable[[Callable[[int], Any]], list[Any]]]:
    """Threads with a client each; the function runs `work(number)` in all of them at once."""
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(CALLERS))
        clients = [stack.enter_context(openai_client(session, key)) for _ in range(CALLERS)]

        def ask(number: int, before: Callable[[int], Any]) -> Any:
            before(number)
            return _ask(clients[number], number)

        def everybody(before: Callable[[int], Any]) -> list[Any]:
            asked = [pool.submit(ask, number, before) for number in range(CALLERS)]
            return [one.result() for one in asked]

        yield everybody


def _ask(client: openai.OpenAI, number: int) -> Any:
    return client.chat.completions.create(
        model="tiny",
        messages=[{"role": "user", "content": f"caller {number}"}],
        max_tokens=2,
        temperature=0,
    )


def outcomes(session: Session, served: Served) -> list[list[str]]:
    """What came of each try of each request, by the audited receipts."""
    claims = audited(session, served)
    assert {one.response.status for one in claims} == {200}
    return [[attempt.outcome for attempt in one.attempts] for one in claims]


def test_request_on_a_connection_that_the_engine_has_closed_runs_once_and_is_answered(
    brief: Engine, relay: LateRelay, tmp_path_factory: pytest.TempPathFactory
) -> None:
    answers: list[Any] = []
    with serving(tmp_path_factory.mktemp("late"), relay.address) as served:
        session = served.connect()
        with counted_once(brief, answers), callers(session, served.key) as everybody:
            for _ in range(ROUNDS):
                answers += everybody(lambda _: None)
                # The engine has closed them all; the gateway has heard of none.
                wait_until(lambda: relay.held == 0)
        seen = outcomes(session, served)
    assert len(seen) == len(answers) == CALLERS * ROUNDS
    assert seen[0] == STRAIGHT
    assert all(tries in (STRAIGHT, AGAIN) for tries in seen)
    # Had the machine been too slow for it once, the gateway would have dropped the connections
    # itself before it used them, but not in every round.
    assert AGAIN in seen


def test_requests_spaced_as_the_engine_closes_connections_never_fail(
    brief: Engine, tmp_path_factory: pytest.TempPathFactory
) -> None:
    answers: list[Any] = []

    def pause(number: int) -> None:
        """About as long as the engine waits, from 20 ms less to 22 ms more."""
        time.sleep(BRIEF_SECONDS + (number - 3.5) * 0.006)

    with serving(tmp_path_factory.mktemp("spaced"), brief.base_url) as served:
        session = served.connect()
        with counted_once(brief, answers), callers(session, served.key) as everybody:
            for _ in range(ROUNDS):
                answers += everybody(pause)
        seen = outcomes(session, served)
    assert len(seen) == len(answers) == CALLERS * ROUNDS
    assert all(tries in (STRAIGHT, AGAIN) for tries in seen)
