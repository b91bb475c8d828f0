"""The transports keep exact bytes and pass nothing on whose receipt does not hold."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import httpx
import httpx2
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import EvidenceError, MalformedError
from attestation.receipt.dialect import Dialect
from gateway.client import legacy, transport
from gateway.client.call import Call, Ended
from gateway.client.hold import StreamHold
from gateway.client.recorder import Recorder
from gateway.engine.scripted import Close, Script, ScriptedEngine
from tests.client import fakes
from tests.client.fakes import FORGED, GOOD, ThreadedEngine, TokenJudge, block, headers

PATH = "/v1/chat/completions"
BODY = b'{"model": "m",  "messages":[]}'
EVENT = (
    b'data: {"id":"x","object":"chat.completion.chunk","created":1,"model":"m","choices":[]}\n\n'
)
DONE = b"data: [DONE]\n\n"
PLAIN = Script(writes=(b'{"a":1}',), close=Close.LENGTH, content_type="application/json")


def plain(*, status: int = 200, headers: tuple[tuple[str, str], ...] = fakes.headers()) -> Script:
    return Script(
        writes=(b'{"a":1}',),
        close=Close.LENGTH,
        content_type="application/json",
        status=status,
        headers=headers,
    )


def stream(*writes: bytes, close: Close = Close.CLEAN) -> Script:
    return Script(writes=writes, close=close)


def post(script: Script, library: ModuleType = httpx2) -> tuple[Recorder, Any, ThreadedEngine]:
    """One POST through the blocking transport; the exception, if any, instead of the answer."""
    module = transport if library is httpx2 else legacy
    recorder = Recorder(TokenJudge())
    with ThreadedEngine(script) as server:
        sender = module.ReceiptTransport(recorder=recorder)
        with library.Client(transport=sender, base_url=server.address) as client:
            try:
                return recorder, client.post(PATH, content=BODY), server
            except Exception as error:  # noqa: BLE001 - the test says which one it wants
                return recorder, error, server


@pytest.mark.parametrize("library", [httpx2, httpx])
def test_a_plain_answer_is_kept_byte_for_byte_with_its_receipt(library: ModuleType) -> None:
    recorder, answer, server = post(plain(), library)
    assert answer.content == b'{"a":1}'
    (call,) = recorder.calls
    assert (call.request_body, call.response_body, call.receipt) == (BODY, b'{"a":1}', GOOD)
    assert call.ended is Ended.COMPLETE
    assert call.openings is not None
    (request,) = server.engine.requests
    assert request.body == BODY
    assert request.header("x-receipt") == "inline"
    assert request.header("x-receipt-nonce") == call.nonce
    assert request.header("accept-encoding") == "identity"


def test_every_call_has_a_nonce_of_its_own_and_the_callers_own_is_kept() -> None:
    recorder = Recorder(TokenJudge())
    with ThreadedEngine(plain()) as server:
        sender = transport.ReceiptTransport(recorder=recorder)
        with httpx2.Client(transport=sender, base_url=server.address) as client:
            client.post(PATH, content=BODY)
            client.post(PATH, content=BODY)
            client.post(PATH, content=BODY, headers={"x-receipt-nonce": "my-own-nonce"})
    nonces = [call.nonce for call in recorder.calls]
    assert len(set(nonces)) == 3
    assert nonces[2] == "my-own-nonce"


def test_a_streams_receipt_is_taken_from_the_block_and_all_bytes_are_kept() -> None:
    recorder, answer, _ = post(stream(EVENT, EVENT, block(), DONE))
    assert answer.content == EVENT + EVENT + block() + DONE
    (call,) = recorder.calls
    assert call.response_body == answer.content
    assert call.receipt == GOOD


@pytest.mark.parametrize("library", [httpx2, httpx])
@pytest.mark.parametrize(
    "script",
    [
        plain(headers=()),
        stream(EVENT, DONE),
        stream(EVENT, block(), EVENT, DONE),
        stream(EVENT, DONE, block()),
        stream(EVENT, block()),
    ],
    ids=["plain", "stream", "block-too-early", "block-after-the-end", "block-without-an-end"],
)
def test_an_answer_without_its_receipt_in_place_is_refused(
    library: ModuleType, script: Script
) -> None:
    recorder, error, _ = post(script, library)
    assert isinstance(error, EvidenceError)
    assert error.code == "no_receipt"
    assert recorder.failure is error


@pytest.mark.parametrize("library", [httpx2, httpx])
@pytest.mark.parametrize(
    "script", [plain(headers=headers(FORGED)), stream(EVENT, block(FORGED), DONE)]
)
def test_an_answer_whose_receipt_does_not_hold_is_refused(
    library: ModuleType, script: Script
) -> None:
    _, error, _ = post(script, library)
    assert isinstance(error, EvidenceError)
    assert error.code == "test"


def test_two_receipts_in_the_headers_are_none() -> None:
    _, error, _ = post(plain(headers=(*headers(), ("x-receipt", GOOD))))
    assert isinstance(error, EvidenceError)


def test_a_compressed_answer_is_refused() -> None:
    _, error, _ = post(plain(headers=(*headers(), ("content-encoding", "gzip"))))
    assert isinstance(error, EvidenceError)
    assert error.code == "content_encoding"


@pytest.mark.parametrize(
    "script",
    [
        plain(headers=(("x-receipt", GOOD), ("x-receipt-openings", "e30"[:-1]))),
        stream(EVENT, b": receipt a.b.c\n: receipt-openings AAAA\n\n", DONE),
    ],
)
def test_openings_that_do_not_parse_are_refused(script: Script) -> None:
    recorder, error, _ = post(script)
    assert isinstance(error, MalformedError)
    assert recorder.failure is error


def test_nothing_is_sent_after_a_failure() -> None:
    recorder = Recorder(TokenJudge())
    with ThreadedEngine(plain(headers=())) as server:
        sender = transport.ReceiptTransport(recorder=recorder)
        with httpx2.Client(transport=sender, base_url=server.address) as client:
            with pytest.raises(EvidenceError):
                client.post(PATH, content=BODY)
            with pytest.raises(EvidenceError, match="this session has ended"):
                client.post(PATH, content=BODY)
            with pytest.raises(EvidenceError, match="this session has ended"):
                client.get("/v1/models")
        assert len(server.engine.requests) == 1


def test_an_error_answer_may_come_without_a_receipt() -> None:
    recorder, answer, _ = post(plain(status=401, headers=()))
    assert answer.status_code == 401
    assert recorder.failure is None
    assert recorder.calls[0].receipt is None


def test_an_error_answers_receipt_is_checked_all_the_same() -> None:
    recorder, error, _ = post(plain(status=400, headers=headers(FORGED)))
    assert isinstance(error, EvidenceError)
    assert recorder.failure is error


def test_other_routes_pass_untouched_and_unrecorded() -> None:
    recorder = Recorder(TokenJudge())
    with ThreadedEngine(PLAIN) as server:
        sender = transport.ReceiptTransport(recorder=recorder)
        with httpx2.Client(transport=sender, base_url=server.address) as client:
            assert client.get("/v1/models").content == b'{"a":1}'
            assert client.post("/v1/other").content == b'{"a":1}'
        assert all(request.header("x-receipt") is None for request in server.engine.requests)
    assert recorder.calls == ()


@pytest.mark.parametrize(
    "script",
    [stream(EVENT, close=Close.NO_LAST_CHUNK), Script(close=Close.DROP)],
    ids=["inside-the-stream", "before-the-head"],
)
def test_a_cut_connection_is_recorded_as_cut_and_ends_no_session(script: Script) -> None:
    recorder, error, _ = post(script)
    assert isinstance(error, httpx2.TransportError)
    assert recorder.calls[0].ended is Ended.CUT
    assert recorder.failure is None


def test_an_answer_too_large_to_keep_is_refused() -> None:
    recorder = Recorder(TokenJudge(), max_answer_bytes=100)
    with ThreadedEngine(stream(EVENT * 2, block(), DONE)) as server:
        sender = transport.ReceiptTransport(recorder=recorder)
        with (
            httpx2.Client(transport=sender, base_url=server.address) as client,
            pytest.raises(EvidenceError, match="too large"),
        ):
            client.post(PATH, content=BODY)


@pytest.mark.parametrize("library", [httpx2, httpx])
def test_events_flow_before_the_end_and_leaving_early_is_recorded(library: ModuleType) -> None:
    module = transport if library is httpx2 else legacy
    recorder = Recorder(TokenJudge())
    with ThreadedEngine(stream(EVENT, close=Close.HANG)) as server:
        sender = module.ReceiptTransport(recorder=recorder)
        with library.Client(transport=sender, base_url=server.address) as client:
            with client.stream("POST", PATH, content=BODY) as answer:
                assert next(answer.iter_raw()) == EVENT
            (call,) = recorder.calls
    assert call.ended is Ended.LEFT
    assert call.response_body == EVENT


@pytest.mark.parametrize("library", [httpx2, httpx])
async def test_async_clients_get_the_same_checks(library: ModuleType) -> None:
    module = transport if library is httpx2 else legacy
    for script, expected in [
        (plain(), b'{"a":1}'),
        (stream(EVENT, block(), DONE), EVENT + block() + DONE),
        (stream(EVENT, DONE), None),
        (plain(headers=headers(FORGED)), None),
        (plain(headers=(*headers(), ("content-encoding", "br"))), None),
    ]:
        engine = ScriptedEngine(script)
        address = await engine.start()
        recorder = Recorder(TokenJudge())
        sender = module.AsyncReceiptTransport(recorder=recorder)
        async with library.AsyncClient(transport=sender, base_url=address) as client:
            if expected is None:
                with pytest.raises(EvidenceError):
                    await client.post(PATH, content=BODY)
            else:
                assert (await client.post(PATH, content=BODY)).content == expected
                assert recorder.calls[0].response_body == expected
        await engine.close()


@pytest.mark.parametrize("library", [httpx2, httpx])
async def test_an_async_stream_left_early_is_recorded(library: ModuleType) -> None:
    module = transport if library is httpx2 else legacy
    engine = ScriptedEngine(stream(EVENT, close=Close.HANG))
    address = await engine.start()
    recorder = Recorder(TokenJudge())
    sender = module.AsyncReceiptTransport(recorder=recorder)
    async with (
        library.AsyncClient(transport=sender, base_url=address) as client,
        client.stream("POST", PATH, content=BODY) as answer,
    ):
        async for data in answer.aiter_raw():
            assert data == EVENT
            break
    await engine.close()
    assert [call.ended for call in recorder.calls] == [Ended.LEFT]


def test_a_blocking_transport_under_an_async_one_is_refused() -> None:
    recorder = Recorder(TokenJudge())
    wrapped: Any = httpx2.MockTransport(lambda _: httpx2.Response(200, stream=Odd()))
    with (
        httpx2.Client(
            transport=transport.ReceiptTransport(wrapped, recorder=recorder), base_url="http://x"
        ) as client,
        pytest.raises(TypeError, match="blocking"),
    ):
        client.post(PATH, content=BODY)


class Odd(httpx2.AsyncByteStream):
    """A stream of the wrong kind."""


def test_openai_raises_our_error_and_sends_no_second_request() -> None:
    recorder = Recorder(TokenJudge())
    with ThreadedEngine(stream(EVENT, DONE)) as server:
        http = httpx2.Client(transport=transport.ReceiptTransport(recorder=recorder))
        with openai.OpenAI(base_url=f"{server.address}/v1", api_key="k", http_client=http) as sdk:
            chunks = sdk.chat.completions.create(model="m", messages=[], stream=True)
            seen: list[Any] = []
            with pytest.raises(EvidenceError, match="without a receipt"):
                seen.extend(chunks)
        assert len(server.engine.requests) == 1


@given(
    parts=st.lists(st.sampled_from([EVENT, b": ping\n\n", block(), DONE, b"data: x\r\r"])),
    cuts=st.lists(st.integers(min_value=1, max_value=40), min_size=1, max_size=30),
)
def test_however_a_stream_is_cut_no_byte_is_lost_and_no_end_passes(
    parts: list[bytes], cuts: list[int]
) -> None:
    body = b"".join(parts)
    hold = StreamHold(Dialect.CHAT)
    passed, at, turn = b"", 0, 0
    while at < len(body):
        step = cuts[turn % len(cuts)]
        passed += hold.feed(body[at : at + step])
        at, turn = at + step, turn + 1
    assert passed + hold.rest() == body
    assert b"[DONE]" not in passed
    assert b": receipt" not in passed


def test_text_that_only_mentions_the_end_flows_on() -> None:
    hold = StreamHold(Dialect.CHAT)
    mention = b'data: {"content":"say [DONE] when done"}\n\n'
    assert hold.feed(mention) == mention


def test_a_call_shows_no_body_and_no_opening_in_its_repr() -> None:
    recorder, _, _ = post(plain())
    call: Call = recorder.calls[0]
    assert "messages" not in repr(call)
    assert GOOD not in repr(call)


def test_calls_are_replaced_in_place() -> None:
    recorder, _, _ = post(plain())
    (call,) = recorder.calls
    recorder.replace(call, recorder.check(call))
    assert len(recorder.calls) == 1
