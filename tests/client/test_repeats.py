"""An unmodified SDK that tries twice: both attempts verify, and the second names the first."""

from __future__ import annotations

from typing import Any

import openai

from attestation.result import Status, Verdict
from gateway.engine.scripted import JSON, Script
from gateway.engine.wire import EngineRequest
from tests.support.gateways import scripted

ASK: Any = [{"role": "user", "content": "hello"}]
BUSY = Script(writes=(b'{"error":{"message":"busy"}}',), status=503, content_type=JSON)
ANSWER = (
    b'{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,'
    b'"finish_reason":"stop","message":{"role":"assistant","content":"yes"}}]}'
)
BOUND = {"NONCE", "REQUEST-BODY", "RESPONSE-BODY", "RECEIPT-SIGNATURE", "LOG-INCLUSION"}


def test_both_attempts_of_an_sdk_verify_and_the_second_names_the_first() -> None:
    with scripted(BUSY, tls="self-signed") as (stack, engine):
        answers = iter([BUSY])

        def play(_request: EngineRequest) -> Script:
            return next(answers, Script(writes=(ANSWER,), content_type=JSON))

        engine.set(play)
        session = stack.session()
        client: Any = openai.OpenAI(
            base_url=session.base_url,
            api_key=stack.gateway.key,
            http_client=session.http_client(),
        )
        with client:
            said = client.chat.completions.create(model="m", messages=ASK)
        assert said.choices[0].message.content == "yes"
        assert session.anchor().complete
    first, second = session.calls
    assert (first.status, second.status) == (503, 200)
    assert first.request_body == second.request_body
    for call in (first, second):
        assert call.verdict is Verdict.SIMULATED
        assert call.result is not None
        passed = {check.id for check in call.result.checks if check.status is Status.PASS}
        assert passed >= BOUND
    attempt, repeat = first.parse_receipt(), second.parse_receipt()
    assert attempt is not None
    assert repeat is not None
    assert attempt.claims.lineage.retry_of is None
    assert repeat.claims.lineage.retry_of == attempt.digest
    assert second.result is not None
    assert f"retry of {attempt.digest.hex}" in {
        observed
        for check in second.result.checks
        for observed in check.observed.split("; ")
        if check.id == "RECEIPT-FORMAT"
    }
