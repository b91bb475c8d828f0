"""Padded streams through the SDKs that agents have, from gateways in processes of their own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from attestation.receipt.padding import without_filling
from attestation.receipt.signing import parse_receipt
from attestation.result import Status
from gateway.client.session import Session
from tests.e2e.conftest import Engines, Serve
from tests.support.serving import Served

pytestmark = pytest.mark.slow
MODEL = "stand-in-1"
ASK: Any = [{"role": "user", "content": "say it so that nobody counts"}]
PADDED = {"bucket_bytes": 512, "tick_ms": 5}


def texts(served: Served, session: Session) -> list[str]:
    """What three APIs' own clients make of one question each, streamed."""
    options: Any = {"api_key": served.key, "http_client": session.http_client()}
    with openai.OpenAI(base_url=session.base_url, **options) as client:
        chat = client.chat.completions.create(model=MODEL, messages=ASK, stream=True)
        said = ["".join(event.choices[0].delta.content or "" for event in chat if event.choices)]
        answer: Any = client.responses.create(model=MODEL, input="the same", stream=True)
        said.append("".join(e.delta for e in answer if e.type == "response.output_text.delta"))
    options["http_client"] = session.http_client()
    with (
        anthropic.Anthropic(base_url=session.origin, **options) as third,
        third.messages.stream(model=MODEL, max_tokens=64, messages=ASK) as stream,
    ):
        said.append("".join(stream.text_stream))
    return said


def test_sdks_read_a_padded_stream_as_any_other_and_verify_it(
    serve: Serve, standin: Engines
) -> None:
    engine = standin()
    plain, padded = serve(engine), serve(engine, padding=PADDED)
    expected = texts(plain, plain.connect())
    session = padded.connect()
    assert texts(padded, session) == expected
    assert all(expected)
    for call in session.calls:
        assert call.result is not None
        passed = {check.id for check in call.result.checks if check.status is Status.PASS}
        assert {"RESPONSE-BODY", "FORWARDED-BODY", "ENGINE-BODY"} <= passed
        claims = parse_receipt(call.receipt or "").claims
        assert claims.response.mods == ("padded", "batched")
        assert [splice.code for splice in claims.request.splices] == ["cache_salt"]
        assert len(without_filling(call.response_body)) < len(call.response_body)


def test_salts_and_their_key_are_in_no_file_of_a_gateway(serve: Serve, standin: Engines) -> None:
    served = serve(standin())
    session = served.connect()
    texts(served, session)
    inserted = [piece for call in session.calls for piece in _openings(call)]
    assert len(inserted) == 3
    assert len(set(inserted)) == 1
    salt = inserted[0].split(b'"')[3]
    for folder, _, names in os.walk(served.folder):
        for name in names:
            path = Path(folder) / name
            assert not path.is_file() or salt not in path.read_bytes(), name


def _openings(call: Any) -> tuple[bytes, ...]:
    assert call.openings is not None
    inserted: tuple[bytes, ...] = call.openings.inserted
    return inserted
