"""Real engines and gateways for all end-to-end tests, one engine at a time as far as possible."""

from __future__ import annotations

import json
from collections.abc import Iterator

import openai
import pytest

from gateway.client.session import Session
from tests.support.serving import Served, serving
from tests.vllm.clients import openai_client
from tests.vllm.engine import GENERATING, POOLING, Engine

BRIEF_SECONDS = 1  # after which the second engine closes an idle connection


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of the pooling engine come last: it is started when the other one has stopped."""
    items.sort(key=_needs_pooling)


def _needs_pooling(item: pytest.Item) -> bool:
    callspec = getattr(item, "callspec", None)
    return callspec is not None and callspec.params.get("vllm_server") == POOLING


@pytest.fixture(scope="session")
def vllm_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    """A healthy vLLM over TCP on loopback, started once for all tests, since it takes a minute.

    Its parameter are flags; tests with other flags end the engine of the tests before them.
    """
    flags = getattr(request, "param", GENERATING)
    engine = Engine(scratch=tmp_path_factory.mktemp("vllm"), flags=flags)
    try:
        engine.start()
        yield engine
    finally:
        engine.stop()


@pytest.fixture(scope="session")
def brief_engine(vllm_server: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A second engine of the same kind, which closes idle connections early and may be killed.

    It is not started yet: who uses it calls `require_running`.  It ends before the first one.
    """
    engine = Engine(
        scratch=tmp_path_factory.mktemp("brief"),
        flags=vllm_server.flags,
        variables={"VLLM_HTTP_TIMEOUT_KEEP_ALIVE": str(BRIEF_SECONDS)},
    )
    try:
        yield engine
    finally:
        engine.stop()


@pytest.fixture(scope="session")
def gateway(vllm_server: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """`attested serve` with TLS in front of the engine, for the whole run."""
    version = json.loads(vllm_server.version)["version"].partition("+")[0]
    folder = tmp_path_factory.mktemp("gateway")
    with serving(
        folder,
        vllm_server.base_url,
        tls={"mode": "self-signed"},
        upstream={"engine": f"vllm/{version}", "name": "cpu"},
    ) as served:
        yield served


@pytest.fixture(scope="session")
def key(gateway: Served) -> str:
    """A key that may do everything, made by `attested keys add`."""
    return gateway.key


@pytest.fixture
def session(gateway: Served) -> Session:
    """A session of its own for each test, connected to a key of the attested keyset."""
    return gateway.connect()


@pytest.fixture
def client(session: Session, key: str) -> Iterator[openai.OpenAI]:
    """The unmodified OpenAI client; every answer's receipt is checked before it is given out."""
    with openai_client(session, key) as made:
        yield made
