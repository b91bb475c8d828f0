"""Control routes under inputs made from their description: no error of ours, answers as described.

schemathesis makes the inputs, right and wrong ones, the same in every run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx2
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from gateway.cli.local.loop import LoopThread
from gateway.engine.standin import StandInEngine
from tests.api.described import described
from tests.support.serving import Served, serving, wait_until

pytestmark = pytest.mark.slow

EXAMPLES = 40
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
BODY = {"model": "stand-in-1", "messages": [{"role": "user", "content": "x"}]}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A gateway whose log is quoted at once, so that nobody waits for a proof for long."""
    with ExitStack() as stack:
        loop = stack.enter_context(LoopThread())
        engine = StandInEngine()
        address = loop.call(engine.start())
        stack.callback(lambda: loop.call(engine.close()))
        folder = tmp_path_factory.mktemp("described")
        soon = {"epoch_seconds": 0.2, "forced_epoch_seconds": 0.2, "export_seconds": 0.2}
        yield stack.enter_context(serving(folder, address, log=soon))


@pytest.fixture(scope="module")
def document(served: Served) -> dict[str, Any]:
    """The description, with receipts that the key owns and that are anchored."""
    headers = {"authorization": f"Bearer {served.key}"}
    with httpx2.Client(base_url=served.url, headers=headers, trust_env=False, timeout=60) as client:
        answers = [client.post("/v1/chat/completions", json=BODY) for _ in range(3)]
        ids = [answer.headers["x-receipt-id"] for answer in answers]

        def anchored() -> bool:
            found = [client.get(f"/v1/receipts/{jti}?wait=anchored") for jti in ids]
            return {one.headers["x-receipt-state"] for one in found} == {"anchored"}

        wait_until(anchored)
    return described(ids)


OPERATIONS = sorted(
    (path, method) for path, methods in described([])["paths"].items() for method in methods
)


# Of a path any text is a right one, so that only what takes parameters can be asked wrongly.
RIGHT, WRONG = GenerationMode.POSITIVE, GenerationMode.NEGATIVE
CASES = [(path, method, RIGHT) for path, method in OPERATIONS]
CASES += [(path, "get", WRONG) for path in ("/v1/attestation", "/v1/receipts/{receipt_id}")]


@pytest.mark.parametrize(("path", "method", "mode"), CASES)
def test_answers_are_as_described_and_none_is_an_error_of_ours(
    served: Served, document: dict[str, Any], path: str, method: str, mode: GenerationMode
) -> None:
    operation = schemathesis.openapi.from_dict(document)[path][method.upper()]
    session = requests.Session()
    session.trust_env = False
    statuses: Counter[int] = Counter()

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def ask(case: schemathesis.Case[Any]) -> None:
        # Every second one comes without a key.
        keyed = sum(statuses.values()) % 2 == 0
        headers = {"authorization": f"Bearer {served.key}"} if keyed else {}
        answer = case.call(base_url=served.url, headers=headers, session=session)
        statuses[answer.status_code] += 1
        case.validate_response(answer, checks=CHECKS)

    with session:
        ask()
    assert statuses
    assert served.process.poll() is None
    assert not [event for event in served.events if event["event"] == "internal_error"]


def test_description_is_reached_and_not_only_refused(
    served: Served, document: dict[str, Any]
) -> None:
    """Each route gives the good answer of its description to somebody."""
    headers = {"authorization": f"Bearer {served.key}"}
    known = document["paths"]["/v1/receipts/{receipt_id}"]["get"]["parameters"][0]["schema"]
    jti = known["anyOf"][0]["enum"][0]
    paths = (
        "/v1/attestation", f"/v1/attestation?nonce={'0' * 64}", "/v1/attestation?format=bundle",
        f"/v1/receipts/{jti}", f"/v1/receipts/{jti}?format=bundle", "/v1/log/checkpoint",
        "/v1/log/epoch/latest", "/v1/models", "/healthz", "/readyz",
    )  # fmt: skip
    with httpx2.Client(base_url=served.url, headers=headers, trust_env=False, timeout=60) as client:
        assert {path: client.get(path).status_code for path in paths} == dict.fromkeys(paths, 200)
