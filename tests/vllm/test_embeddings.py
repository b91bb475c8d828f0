"""Embeddings of a real vLLM with the pooling runner, with the unmodified OpenAI client."""

from __future__ import annotations

import array
import base64
import http.client
import json
import math
from pathlib import Path
from typing import Any

import openai
import pytest

from attestation.receipt.claims import End, ReceiptClaims
from gateway.client.session import Session
from tests.support.serving import Served, attested
from tests.vllm.audit import audited, audited_one
from tests.vllm.engine import POOLING, Engine

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(900),
    pytest.mark.parametrize("vllm_server", [POOLING], indirect=True, ids=["pooling"]),
]

PATH = "/v1/embeddings"
TEXTS = ["What is bound into a receipt?", "Grüße aus Wien", "one"]
WIDTH = 256  # of the tiny model


def numbers(encoded: str) -> list[float]:
    """The floats of a base64 answer, little-endian as the SDKs read them."""
    return list(array.array("f", base64.b64decode(encoded, validate=True)))


def asked_directly(engine: Engine, body: bytes) -> tuple[int, Any]:
    """The engine's own answer to the same bytes, without the gateway."""
    connection = http.client.HTTPConnection(engine.host, engine.port, timeout=120)
    try:
        connection.request("POST", PATH, body, {"content-type": "application/json"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def require_complete(claims: ReceiptClaims, usage: Any) -> None:
    """A receipt of a whole embedding, with the tokens that the answer names."""
    assert claims.response.end is End.COMPLETE
    assert (claims.response.status, claims.decision.code) == (200, "allow")
    assert claims.request.path == PATH
    assert (claims.model.id, claims.model.served) == ("tiny", "tiny")
    assert [(a.upstream, a.outcome) for a in claims.attempts] == [("cpu", "ok")]
    assert claims.usage is not None
    assert (claims.usage.input, claims.usage.total) == (usage.prompt_tokens, usage.total_tokens)
    assert usage.prompt_tokens > 0
    assert [splice.code for splice in claims.request.splices] == ["cache_salt"]


def test_floats_are_the_engines_own(
    client: openai.OpenAI, session: Session, gateway: Served, vllm_server: Engine
) -> None:
    answer = client.embeddings.create(model="tiny", input=TEXTS, encoding_format="float")
    require_complete(audited_one(session, gateway), answer.usage)
    assert [item.index for item in answer.data] == [0, 1, 2]
    assert {len(item.embedding) for item in answer.data} == {WIDTH}
    assert len({tuple(item.embedding) for item in answer.data}) == len(TEXTS)
    for item in answer.data:
        assert math.isclose(sum(x * x for x in item.embedding), 1.0, rel_tol=1e-4)
    (call,) = session.calls
    status, same = asked_directly(vllm_server, call.request_body)
    assert status == 200
    for ours, own in zip(answer.data, same["data"], strict=True):
        assert ours.embedding == pytest.approx(own["embedding"], abs=1e-5)


def test_base64_carries_the_same_numbers(
    client: openai.OpenAI, session: Session, gateway: Served
) -> None:
    packed: Any = client.embeddings.create(model="tiny", input=TEXTS, encoding_format="base64")
    plain = client.embeddings.create(model="tiny", input=TEXTS, encoding_format="float")
    for one, other in zip(packed.data, plain.data, strict=True):
        assert isinstance(one.embedding, str)
        assert numbers(one.embedding) == pytest.approx(other.embedding, abs=1e-5)
    packed_claims, plain_claims = audited(session, gateway)
    require_complete(packed_claims, packed.usage)
    require_complete(plain_claims, plain.usage)
    assert packed_claims.usage == plain_claims.usage


def test_what_the_sdk_asks_for_by_itself_is_base64(
    client: openai.OpenAI, session: Session, gateway: Served
) -> None:
    answer = client.embeddings.create(model="tiny", input=TEXTS[0])
    (call,) = session.calls
    # The SDK saves bytes on the wire and unpacks; the receipt is about the bytes on the wire.
    assert json.loads(call.request_body)["encoding_format"] == "base64"
    on_the_wire = json.loads(call.response_body)["data"][0]["embedding"]
    assert answer.data[0].embedding == numbers(on_the_wire)
    require_complete(audited_one(session, gateway), answer.usage)


async def test_async_client_and_token_ids_as_input(
    session: Session, key: str, gateway: Served
) -> None:
    async with openai.AsyncOpenAI(
        base_url=session.base_url,
        api_key=key,
        http_client=session.async_http_client(),
        max_retries=0,
    ) as client:
        answer = await client.embeddings.create(
            model="tiny", input=[[5, 6, 7], [8, 9]], encoding_format="float"
        )
    assert answer.usage.prompt_tokens == 5
    assert [len(item.embedding) for item in answer.data] == [WIDTH] * 2
    require_complete(audited_one(session, gateway), answer.usage)


@pytest.mark.parametrize(
    "wrong",
    [{"input": "x", "model": "nobody"}, {"input": [[-1]]}, {"input": "word " * 5000}],
    ids=["unknown-model", "no-such-token", "too-long"],
)
def test_what_the_engine_refuses_is_a_complete_exchange(
    client: openai.OpenAI, session: Session, gateway: Served, wrong: dict[str, Any]
) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        client.embeddings.create(**({"model": "tiny"} | wrong))
    claims = audited_one(session, gateway)
    assert 400 <= caught.value.status_code < 500
    assert caught.value.request_id == claims.jti
    assert (claims.response.status, claims.response.end) == (
        caught.value.status_code,
        End.COMPLETE,
    )
    assert claims.usage is None


def test_engine_that_only_embeds_has_no_chat_and_says_so_with_a_receipt(
    client: openai.OpenAI, session: Session, gateway: Served
) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": "anybody?"}]
        )
    claims = audited_one(session, gateway)
    assert claims.response.status == caught.value.status_code
    assert claims.decision.code == "allow"


def test_sdk_lists_the_embedding_model(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]


def test_auditor_verifies_the_exported_embeddings_with_the_command(
    client: openai.OpenAI, session: Session, gateway: Served, tmp_path: Path
) -> None:
    client.embeddings.create(model="tiny", input=TEXTS, encoding_format="float")
    client.embeddings.create(model="tiny", input=TEXTS[0])
    bundle = session.export(tmp_path / "record")
    assert not session.unanchored
    bodies = bundle.parent / "bodies"
    (tmp_path / "policy.toml").write_bytes(gateway.policy())
    grounds = ["--policy", "policy.toml", "--root", str(gateway.boot / "root.pem"), "--json"]

    def verified() -> tuple[int, bytes]:
        done = attested(tmp_path, "verify", str(bundle), *grounds, "--contents", str(bodies))
        return done.returncode, done.stdout

    simulated, said = verified()
    assert simulated == 15, said
    assert said.count(b'"FORWARDED-BODY"') >= 2
    changed = next(bodies.glob("*.response"))
    changed.write_bytes(changed.read_bytes().replace(b"embedding", b"embedded!", 1))
    rejected, said = verified()
    assert rejected == 10, said
