"""What one key's prompts leave in the engine's prefix cache, no other key finds there."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from attestation.receipt.claims import ReceiptClaims
from gateway.client.session import Session
from tests.support.serving import Served, serving
from tests.vllm.audit import audited
from tests.vllm.clients import new_key, openai_client
from tests.vllm.engine import Engine

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]

HITS, QUERIES = "vllm:prefix_cache_hits_total", "vllm:prefix_cache_queries_total"


class Tenant:
    """A caller with a key, as the unmodified client; sees what the engine had of its prompt."""

    def __init__(self, client: openai.OpenAI, engine: Engine) -> None:
        self._client = client
        self._engine = engine

    def cached(self, prompt: str, **body: Any) -> int:
        """Ask, and return how many tokens of the prompt the engine had: it says so twice."""
        before = self._engine.metrics()
        answer = self._client.chat.completions.create(
            model="tiny",
            messages=[{"role": "user", "content": prompt}],
            max_tokens=1,
            temperature=0,
            extra_body=body,
        )
        after = self._engine.metrics()
        assert answer.usage is not None
        details = answer.usage.prompt_tokens_details
        told = 0 if details is None or details.cached_tokens is None else details.cached_tokens
        assert after[HITS] - before[HITS] == told
        assert after[QUERIES] - before[QUERIES] == answer.usage.prompt_tokens
        return told


def new_prompt() -> str:
    """Several hundred tokens that no cache has seen: even the first block is new."""
    return f"{secrets.token_hex(64)}: " + "the auditor reads every line of the bundle, " * 40


@pytest.fixture(scope="module")
def unsalted(vllm_server: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The same gateway, told to leave the engine's cache to everybody."""
    folder = tmp_path_factory.mktemp("unsalted")
    with serving(folder, vllm_server.base_url, cache={"salt": "off"}) as served:
        yield served


@pytest.fixture(scope="module")
def other_key(gateway: Served) -> str:
    return new_key(gateway, "other tenant")


def splices_of(claims: list[ReceiptClaims]) -> list[list[str]]:
    return [[splice.code for splice in one.request.splices] for one in claims]


def test_second_tenant_finds_nothing_of_the_firsts_prompt(
    session: Session, key: str, other_key: str, gateway: Served, vllm_server: Engine
) -> None:
    prompt = new_prompt()
    with openai_client(session, key) as ours, openai_client(session, other_key) as theirs:
        first, second = Tenant(ours, vllm_server), Tenant(theirs, vllm_server)
        assert first.cached(prompt) == 0
        again = first.cached(prompt)
        assert again > 200  # what a tenant's own second request gains is untouched
        assert second.cached(prompt) == 0
        assert second.cached(prompt) == again
    claims = audited(session, gateway)
    assert splices_of(claims) == [["cache_salt"]] * 4
    # Equal bytes came in, and what went out differs by key: nothing else of it was changed.
    bodies = {call.request_body for call in session.calls}
    assert len(bodies) == 1
    assert all(b"cache_salt" not in body for body in bodies)


def test_without_salt_the_second_tenant_does_find_it(unsalted: Served, vllm_server: Engine) -> None:
    session, prompt = unsalted.connect(), new_prompt()
    other = new_key(unsalted, "other tenant")
    with openai_client(session, unsalted.key) as ours, openai_client(session, other) as theirs:
        assert Tenant(ours, vllm_server).cached(prompt) == 0
        assert Tenant(theirs, vllm_server).cached(prompt) > 200
    assert splices_of(audited(session, unsalted)) == [[]] * 2


@pytest.mark.parametrize(("mode", "shared"), [("task", True), ("request", False)])
def test_tasks_and_requests_of_one_tenant_are_kept_apart_where_they_are_to(
    vllm_server: Engine, tmp_path_factory: pytest.TempPathFactory, mode: str, shared: bool
) -> None:
    folder, prompt = tmp_path_factory.mktemp(mode), new_prompt()
    with serving(folder, vllm_server.base_url, cache={"salt": mode}) as served:
        session = served.connect()
        with openai_client(session, served.key) as client:
            one, other = (
                Tenant(client.with_options(default_headers={"X-Task-Id": task}), vllm_server)
                for task in ("one", "other")
            )
            assert one.cached(prompt) == 0
            assert (one.cached(prompt) > 200) == shared
            assert other.cached(prompt) == 0
        assert splices_of(audited(session, served)) == [["cache_salt"]] * 3


def test_callers_own_salt_separates_its_requests_and_reaches_nobody_elses(
    session: Session, key: str, other_key: str, gateway: Served, vllm_server: Engine
) -> None:
    prompt = new_prompt()
    with openai_client(session, key) as ours, openai_client(session, other_key) as theirs:
        first, second = Tenant(ours, vllm_server), Tenant(theirs, vllm_server)
        assert first.cached(prompt, cache_salt="blue") == 0
        assert first.cached(prompt) == 0
        assert first.cached(prompt, cache_salt="blue") > 200
        assert second.cached(prompt, cache_salt="blue") == 0
    claims = audited(session, gateway)
    assert splices_of(claims) == [["cache_salt"]] * 4
    replaced = [one.request.splices[0].deleted for one in claims]
    assert replaced == [len('"blue"'), 0, len('"blue"'), len('"blue"')]


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/responses", "/v1/messages"])
def test_every_route_with_a_prompt_keeps_tenants_apart(
    session: Session, key: str, other_key: str, gateway: Served, vllm_server: Engine, path: str
) -> None:
    prompt = new_prompt()
    body: dict[str, Any] = {
        "/v1/completions": {"prompt": prompt, "max_tokens": 1},
        "/v1/responses": {"input": prompt, "max_output_tokens": 1, "store": False},
        "/v1/messages": {"messages": [{"role": "user", "content": prompt}], "max_tokens": 1},
    }[path]

    def hits(bearer: str) -> float:
        before = vllm_server.metrics()[HITS]
        with session.http_client() as http:
            answer = http.post(
                session.origin + path,
                json={"model": "tiny", "temperature": 0, **body},
                headers={"authorization": f"Bearer {bearer}"},
            )
        assert answer.status_code == 200, answer.text
        return vllm_server.metrics()[HITS] - before

    seen = [hits(key), hits(other_key), hits(key)]
    assert seen[:2] == [0, 0]
    assert seen[2] > 200
    assert splices_of(audited(session, gateway)) == [["cache_salt"]] * 3
