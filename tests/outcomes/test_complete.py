"""What ends well: exact bytes both ways, one receipt, delivered as asked."""

from __future__ import annotations

from attestation.receipt.claims import End
from gateway.engine.scripted import JSON, Close, Script
from tests.outcomes.bench import ANSWER, DONE, EVENTS, PLAIN, QUESTION, STREAM
from tests.outcomes.conftest import Start


async def test_plain_answer_comes_back_byte_for_byte_with_its_receipt(start: Start) -> None:
    bench = await start(PLAIN)
    reply = await bench.ask()
    assert (reply.status, reply.body) == (200, ANSWER)
    claims = await bench.checked(reply, QUESTION)
    assert claims.response.end is End.COMPLETE
    assert claims.response.engine is None
    assert claims.response.finish_reasons == ("stop",)
    assert (claims.model.id, claims.model.served, claims.model.engine) == (
        "m", "m-served", "vllm/test",
    )  # fmt: skip
    assert claims.decision.code == "allow"
    assert [(a.upstream, a.local, a.outcome) for a in claims.attempts] == [("e1", False, "ok")]
    (request,) = bench.engine.requests
    assert request.body == QUESTION
    assert request.header("x-request-id") == reply.jti
    assert bench.receipts == 1
