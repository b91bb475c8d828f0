"""Unmodified SDKs, and curl, in front of a real gateway: every call has a checked receipt."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from typing import Any

import anthropic
import httpx
import openai
import pytest

from attestation.receipt.signing import parse_receipt
from attestation.result import Status, Verdict
from gateway.client.call import Call
from gateway.client.legacy import AsyncReceiptTransport, ReceiptTransport
from gateway.client.session import Session
from tests.support.gateways import MODEL, Stack

ASK: Any = [{"role": "user", "content": "hello"}]


BOUND = {"NONCE", "REQUEST-BODY", "RESPONSE-BODY", "CHANNEL", "RECEIPT-SIGNATURE"}
ANCHORED = {"LOG-INCLUSION", "LOG-CHECKPOINT", "EPOCH-QUOTE"}


def passed(call: Call) -> set[str]:
    assert call.result is not None
    return {check.id for check in call.result.checks if check.status is Status.PASS}


def assert_proved(session: Session, count: int) -> None:
    """Every call was bound when it ended, and is anchored after waiting for that."""
    assert len(session.calls) == count
    for call in session.calls:
        assert call.verdict is Verdict.INCOMPLETE
        assert passed(call) >= BOUND
        assert not call.anchored
    report = session.anchor()
    assert (report.anchored, report.complete) == (count, True)
    for call in session.calls:
        assert call.verdict is Verdict.SIMULATED
        assert passed(call) >= BOUND | ANCHORED


# The SDKs' types are their own affair; their behaviour is what is tested.
def sync_openai(session: Session, key: str) -> Any:
    return openai.OpenAI(base_url=session.base_url, api_key=key, http_client=session.http_client())


def test_openai_plain_and_streaming_say_the_same_with_a_receipt_each(stack: Stack) -> None:
    session = stack.session()
    with sync_openai(session, stack.gateway.key) as client:
        plain = client.chat.completions.create(model=MODEL, messages=ASK)
        chunks = client.chat.completions.create(
            model=MODEL, messages=ASK, stream=True, stream_options={"include_usage": True}
        )
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert plain.choices[0].message.content == text
    assert_proved(session, 2)
    for call in session.calls:
        receipt = call.parse_receipt()
        assert receipt is not None
        assert receipt.claims.usage is not None
        assert receipt.claims.response.finish_reasons == ("stop",)
    assert plain.id == f"chatcmpl-{session.calls[0].receipt_id}"


def test_openai_on_every_other_route(stack: Stack) -> None:
    session = stack.session()
    with sync_openai(session, stack.gateway.key) as client:
        client.completions.create(model=MODEL, prompt="hello")
        client.embeddings.create(model=MODEL, input="hello")
        client.responses.create(model=MODEL, input="hello", store=False)
        for _ in client.responses.create(model=MODEL, input="hello", store=False, stream=True):
            pass
        with client.chat.completions.stream(model=MODEL, messages=ASK) as stream:
            for _ in stream:
                pass
        assert [model.id for model in client.models.list()] == [MODEL]
    assert_proved(session, 5)


async def test_openai_async_plain_and_streaming(stack: Stack) -> None:
    session = stack.session()
    client: Any = openai.AsyncOpenAI(
        base_url=session.base_url,
        api_key=stack.gateway.key,
        http_client=session.async_http_client(),
    )
    async with client:
        await client.chat.completions.create(model=MODEL, messages=ASK)
        async for _ in await client.chat.completions.create(model=MODEL, messages=ASK, stream=True):
            pass
    assert_proved(session, 2)


def test_openai_with_tools_and_several_choices(stack: Stack) -> None:
    session = stack.session()
    tool = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}
    with sync_openai(session, stack.gateway.key) as client:
        answer = client.chat.completions.create(
            model=MODEL, messages=ASK, n=2, tools=[tool], tool_choice="required"
        )
    assert [choice.finish_reason for choice in answer.choices] == ["tool_calls"] * 2
    assert_proved(session, 1)


def test_an_sdk_built_on_the_older_httpx_gets_the_same(stack: Stack) -> None:
    session = stack.session()
    wrapped = httpx.HTTPTransport(verify=session.tls_context())
    http: Any = httpx.Client(transport=ReceiptTransport(wrapped, recorder=session.recorder))
    client: Any = openai.OpenAI(
        base_url=session.base_url, api_key=stack.gateway.key, http_client=http
    )
    with client:
        client.chat.completions.create(model=MODEL, messages=ASK)
        list(client.chat.completions.create(model=MODEL, messages=ASK, stream=True))
    assert_proved(session, 2)


async def test_the_older_httpx_gets_the_same_asynchronously(stack: Stack) -> None:
    session = stack.session()
    wrapped = httpx.AsyncHTTPTransport(verify=session.tls_context())
    transport = AsyncReceiptTransport(wrapped, recorder=session.recorder)
    headers = {"authorization": f"Bearer {stack.gateway.key}"}
    async with httpx.AsyncClient(
        transport=transport, base_url=session.base_url, headers=headers
    ) as http:
        body = {"model": MODEL, "messages": ASK, "stream": True}
        async with http.stream("POST", "/chat/completions", json=body) as answer:
            assert [line async for line in answer.aiter_lines()][-2] == "data: [DONE]"
    assert_proved(session, 1)


def test_anthropic_plain_and_streaming(stack: Stack) -> None:
    session = stack.session()
    client: Any = anthropic.Anthropic(
        base_url=session.origin, api_key=stack.gateway.key, http_client=session.http_client()
    )
    with client:
        plain = client.messages.create(model=MODEL, max_tokens=64, messages=ASK)
        with client.messages.stream(model=MODEL, max_tokens=64, messages=ASK) as stream:
            text = "".join(stream.text_stream)
        client.messages.count_tokens(model=MODEL, messages=ASK)
    assert plain.content[0].text == text
    assert_proved(session, 3)


async def test_anthropic_async(stack: Stack) -> None:
    session = stack.session()
    client: Any = anthropic.AsyncAnthropic(
        base_url=session.origin,
        api_key=stack.gateway.key,
        http_client=session.async_http_client(),
    )
    async with client:
        await client.messages.create(model=MODEL, max_tokens=64, messages=ASK)
    assert_proved(session, 1)


def test_errors_of_the_engine_and_refusals_reach_the_sdk_with_receipts(stack: Stack) -> None:
    session = stack.session()
    with sync_openai(session, stack.gateway.key) as client:
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(model="no-such-model", messages=ASK)
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(model=MODEL, messages=ASK, extra_body={"priority": 1})
    ends = [receipt.claims.response.end for c in session.calls if (receipt := c.parse_receipt())]
    assert ends == ["complete", "refused"]
    assert_proved(session, 2)


def test_a_wrong_key_is_an_authentication_error_and_no_receipt(stack: Stack) -> None:
    session = stack.session()
    with sync_openai(session, "ag-wrong") as client, pytest.raises(openai.AuthenticationError):
        client.chat.completions.create(model=MODEL, messages=ASK)
    assert session.calls[0].receipt is None
    assert session.recorder.failure is None


def curl(stack: Stack, *arguments: str) -> tuple[dict[str, str], bytes]:
    program = shutil.which("curl")
    if program is None:
        pytest.skip("curl is not installed")
    done = subprocess.run(
        [program, "--silent", "--insecure", "--include", "--http1.1", "--max-time", "20",
         "-H", f"authorization: Bearer {stack.gateway.key}",
         "-H", "content-type: application/json", *arguments],
        capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    head, _, body = done.stdout.partition(b"\r\n\r\n")
    fields = (line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    return {name.lower(): value for name, value in fields}, body


def test_curl_gets_receipts_inline_and_by_id(stack: Stack) -> None:
    url = stack.gateway.url
    body = json.dumps({"model": MODEL, "messages": ASK})
    headers, _ = curl(stack, "-H", "X-Receipt: inline", "-d", body, f"{url}/v1/chat/completions")
    receipt = parse_receipt(headers["x-receipt"])
    openings = headers["x-receipt-openings"]
    opened = json.loads(base64.urlsafe_b64decode(openings + "==="))
    assert set(opened) == {"req", "fwd", "res", "ins"}
    assert receipt.claims.jti == headers["x-receipt-id"] == headers["x-request-id"]
    _, later = curl(stack, f"{url}/v1/receipts/{receipt.claims.jti}")
    assert json.loads(later)["receipt"] == headers["x-receipt"]
    assert json.loads(later)["openings"] == opened


def test_curl_gets_the_receipt_of_a_stream_before_its_end(stack: Stack) -> None:
    body = json.dumps({"model": MODEL, "messages": ASK, "stream": True})
    url = f"{stack.gateway.url}/v1/chat/completions"
    headers, answer = curl(stack, "-H", "X-Receipt: inline", "-d", body, url)
    block, done = answer.split(b"\n\n")[-3:-1]
    assert done == b"data: [DONE]"
    token = block.split(b"\n")[0].removeprefix(b": receipt ")
    assert parse_receipt(token).claims.jti == headers["x-receipt-id"]
