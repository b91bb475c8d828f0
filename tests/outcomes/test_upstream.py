"""The engine breaks: what the caller is told, and what the receipt says."""

from __future__ import annotations

import socket

import pytest

from attestation.receipt.claims import End
from gateway.edge.limits import EdgeLimits
from gateway.engine.scripted import EVENT_STREAM, JSON, Close, Script
from gateway.upstream import UpstreamLimits
from tests.outcomes.bench import (
    ANSWER,
    DONE,
    EVENTS,
    LATE_TO_BEGIN,
    LATE_TO_CONNECT,
    LATE_TO_GO_ON,
    PATIENT,
    QUESTION,
    Bench,
    Reply,
)
from tests.outcomes.conftest import Start

RAW_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
STREAMED = b"".join(EVENTS)


async def refused_address() -> str:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{sock.getsockname()[1]}"


async def test_engine_that_refuses_the_connection(start: Start) -> None:
    bench = await start(engine_address=await refused_address())
    reply = await bench.ask()
    claims = await bench.checked(reply, QUESTION)
    assert (reply.status, reply.error()["code"]) == (502, "upstream_connect")
    assert claims.response.end is End.UPSTREAM_ERROR
    assert [attempt.outcome for attempt in claims.attempts] == ["connect"]
    assert claims.decision.code == "allow"
    assert bench.receipts == 1


BEFORE_OR_INSIDE_A_PLAIN_ANSWER = {
    "dies before the head": (Script(close=Close.DROP), "reset"),
    "dies inside the head": (Script(writes=(RAW_HEAD,), close=Close.RAW), "reset"),
    "dies inside a body of known length": (
        Script(writes=(ANSWER,), close=Close.SHORT, content_type=JSON), "incomplete",
    ),
    "dies inside a chunked body": (
        Script(writes=(ANSWER,), close=Close.NO_LAST_CHUNK, content_type=JSON), "incomplete",
    ),
    "speaks another protocol": (
        Script(writes=(b"SSH-2.0-OpenSSH\r\n",), close=Close.RAW), "malformed",
    ),
    "says two lengths": (
        Script(
            writes=(RAW_HEAD + b"content-length: 2\r\ncontent-length: 3\r\n\r\nok!",),
            close=Close.RAW,
        ),
        "malformed",
    ),
    "compresses": (
        Script(writes=(ANSWER,), content_type=JSON, headers=(("content-encoding", "gzip"),)),
        "malformed",
    ),
    "never ends its head": (
        Script(writes=(RAW_HEAD + b"x: " + b"y" * 70_000,), close=Close.RAW), "malformed",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BEFORE_OR_INSIDE_A_PLAIN_ANSWER)
async def test_engine_that_breaks_before_its_answer_is_whole(start: Start, case: str) -> None:
    script, kind = BEFORE_OR_INSIDE_A_PLAIN_ANSWER[case]
    bench = await start(script)
    reply = await bench.ask()
    claims = await bench.checked(reply, QUESTION)
    assert (reply.status, reply.error()["code"]) == (502, f"upstream_{kind}")
    assert ANSWER not in reply.body
    assert claims.response.end is End.UPSTREAM_ERROR
    assert [attempt.outcome for attempt in claims.attempts] == [kind]
    assert bench.receipts == 1
    assert len(bench.engine.requests) == 1


async def test_partial_answer_of_the_engine_is_committed_to_although_it_was_not_delivered(
    start: Start,
) -> None:
    bench = await start(Script(writes=(ANSWER,), close=Close.SHORT, content_type=JSON))
    reply = await bench.ask()
    claims = await bench.checked(reply, QUESTION)
    assert claims.response.engine is not None
    assert claims.response.engine != claims.response.commitment


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
async def test_failure_is_told_in_anthropics_form_on_its_routes(start: Start, path: str) -> None:
    bench = await start(Script(close=Close.DROP))
    reply = await bench.ask(path=path)
    await bench.checked(reply, QUESTION)
    error = reply.error()
    assert error["type"] == "api_error"
    assert str(error["message"]).startswith("upstream_reset: ")
    assert set(error) == {"type", "message"}


BROKEN_STREAMS = {
    "no terminal frame": Script(writes=EVENTS),
    "cut between frames": Script(writes=EVENTS, close=Close.NO_LAST_CHUNK),
    "cut inside a frame": Script(writes=(*EVENTS, b'data: {"half'), close=Close.NO_LAST_CHUNK),
    "terminal frame, message cut": Script(writes=(*EVENTS, DONE), close=Close.NO_LAST_CHUNK),
    "forged receipt": Script(writes=(*EVENTS, b": receipt eyJ\n: receipt-openings e30\n\n", DONE)),
    "forged receipt without a space": Script(writes=(*EVENTS, b":receipt eyJ\n\n", DONE)),
    "forged receipt after a line": Script(writes=(*EVENTS, b"data: x\n: receipt eyJ\n\n", DONE)),
}


@pytest.mark.parametrize("case", BROKEN_STREAMS)
async def test_stream_that_breaks_ends_with_our_error_event(start: Start, case: str) -> None:
    bench = await start(BROKEN_STREAMS[case])
    reply = await bench.ask()
    claims = await bench.checked(reply, QUESTION)
    await same_without_inline(bench, reply)
    assert reply.ended
    assert reply.body.startswith(STREAMED)
    assert DONE not in reply.body
    assert b'"code":"upstream_' in reply.body.rsplit(b"data: ", 1)[1]
    assert claims.response.end is End.UPSTREAM_ERROR
    assert bench.receipts == 2


async def same_without_inline(bench: Bench, reply: Reply) -> None:
    other = await bench.ask(inline=False)
    claims = await bench.checked(other, QUESTION)
    assert claims.response.block_offset is None
    assert b": receipt" not in other.body


async def test_terminal_frame_with_a_tail_is_delivered_and_the_tail_is_not(start: Start) -> None:
    bench = await start(Script(writes=(*EVENTS, DONE, b"data: more\n\n")))
    reply = await bench.ask()
    claims = await bench.checked(reply, QUESTION)
    assert reply.body.endswith(DONE)
    assert b"more" not in reply.body
    assert claims.response.end is End.UPSTREAM_ERROR
    assert claims.response.mods == ("tail",)
    assert claims.response.engine is not None


@pytest.mark.parametrize(
    ("path", "event", "member"),
    [
        ("/v1/responses", b"event: error\n", b'"sequence_number"'),
        ("/v1/messages", b"event: error\n", b'{"type":"error","error":{"type":"api_error"'),
        ("/v1/completions", b"", b'{"error":{"message"'),
    ],
)
async def test_error_event_has_the_form_of_its_dialect(
    start: Start, path: str, event: bytes, member: bytes
) -> None:
    bench = await start(Script(writes=(b"event: x\ndata: {}\n\n",), close=Close.NO_LAST_CHUNK))
    reply = await bench.ask(path=path)
    await bench.checked(reply, QUESTION)
    last = reply.body.rsplit(b"\n\n", 2)[1]
    assert last.startswith(event + b"data: ")
    assert member in last


async def test_engine_that_resets_after_its_last_chunk_was_complete(start: Start) -> None:
    bench = await start(Script(writes=(*EVENTS, DONE), close=Close.RST))
    reply = await bench.ask()
    claims = await bench.checked(reply, QUESTION)
    assert claims.response.end is End.COMPLETE


# -- timeouts ------------------------------------------------------------------------------


async def test_engine_that_accepts_nothing(start: Start) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        bench = await start(engine_address=address, upstream_limits=LATE_TO_CONNECT)
        reply = await bench.ask()
        claims = await bench.checked(reply, QUESTION)
        for filler in fillers:
            filler.close()
    assert (reply.status, reply.error()["code"]) == (504, "upstream_timeout_connect")
    assert claims.response.end is End.TIMEOUT
    assert [attempt.outcome for attempt in claims.attempts] == ["timeout_connect"]


async def test_engine_that_never_begins(start: Start) -> None:
    bench = await start(Script(close=Close.MUTE), upstream_limits=LATE_TO_BEGIN)
    reply = await bench.ask()
    claims = await bench.checked(reply, QUESTION)
    assert (reply.status, reply.error()["code"]) == (504, "upstream_timeout_first_byte")
    assert claims.response.end is End.TIMEOUT
    assert bench.engine.left.is_set()


async def test_engine_that_stops_inside_a_plain_answer(start: Start) -> None:
    plain = Script(writes=(ANSWER,), close=Close.HANG, content_type=JSON)
    bench = await start(plain, upstream_limits=LATE_TO_GO_ON)
    reply = await bench.ask()
    claims = await bench.checked(reply, QUESTION)
    assert (reply.status, reply.error()["code"]) == (504, "upstream_timeout_idle")
    assert claims.response.end is End.TIMEOUT


async def test_engine_that_stops_inside_a_stream(start: Start) -> None:
    stream = Script(writes=EVENTS, close=Close.HANG)
    bench = await start(stream, upstream_limits=LATE_TO_GO_ON)
    reply = await bench.ask()
    claims = await bench.checked(reply, QUESTION)
    assert reply.status == 200
    assert reply.body.startswith(STREAMED)
    assert b"upstream_timeout_idle" in reply.body
    assert claims.response.end is End.TIMEOUT
    assert bench.engine.left.is_set()


async def test_engine_that_sends_a_streams_head_and_no_event(start: Start) -> None:
    bench = await start(Script(close=Close.HANG), upstream_limits=LATE_TO_BEGIN)
    reply = await bench.ask()
    claims = await bench.checked(reply, QUESTION)
    assert reply.headers["content-type"] == EVENT_STREAM
    assert b"upstream_timeout_first_byte" in reply.body
    assert claims.response.end is End.TIMEOUT


async def test_total_time_ends_a_stream_that_goes_on(start: Start) -> None:
    limits = UpstreamLimits(first_byte_timeout=60, idle_timeout=60, total_timeout=0.4)
    bench = await start(Script(writes=EVENTS, close=Close.HANG), upstream_limits=limits)
    reply = await bench.ask()
    claims = await bench.checked(reply, QUESTION)
    assert b"upstream_timeout_total" in reply.body
    assert claims.response.end is End.TIMEOUT


# -- limits --------------------------------------------------------------------------------


@pytest.mark.parametrize("close", [Close.LENGTH, Close.CLEAN, Close.HANG])
async def test_plain_answer_over_the_limit_is_not_delivered(start: Start, close: Close) -> None:
    bench = await start(
        Script(writes=(b"x" * 600, b"y" * 600), close=close, content_type=JSON),
        limits=EdgeLimits(response_bytes=1000),
        upstream_limits=PATIENT,
    )
    reply = await bench.ask()
    claims = await bench.checked(reply, QUESTION)
    assert (reply.status, reply.error()["code"]) == (502, "response_too_large")
    assert reply.headers["x-should-retry"] == "false"
    assert claims.response.end is End.LIMIT
    assert bench.receipts == 1


async def test_event_over_the_limit_ends_the_stream(start: Start) -> None:
    bench = await start(
        Script(writes=(EVENTS[0], b"data: " + b"x" * 5000, b"\n\n", DONE), close=Close.HANG),
        limits=EdgeLimits(frame_bytes=4096),
        upstream_limits=PATIENT,
    )
    reply = await bench.ask()
    claims = await bench.checked(reply, QUESTION)
    assert reply.body.startswith(EVENTS[0])
    assert b"xxx" not in reply.body
    assert claims.response.end is End.LIMIT
    assert claims.response.mods == ("oversize",)


async def test_request_over_the_limit_is_refused_before_it_is_sent(start: Start) -> None:
    bench = await start(limits=EdgeLimits(body_bytes=100))
    client = await bench.connect()
    body = b"x" * 101
    # The head alone decides: nothing of the body has been sent yet.
    client.send(bench.request(body)[: -len(body)])
    reply = await client.reply()
    claims = await bench.checked(reply, b"")
    assert (reply.status, reply.error()["code"]) == (413, "request_too_large")
    assert claims.response.end is End.LIMIT
    assert claims.request.partial
    assert claims.decision.code == "request_too_large"
    assert bench.engine.requests == []
    # What the client still sends is dropped, and the connection stays good.
    client.send(body + bench.request(b"{}"))
    assert (await client.reply()).status == 200


async def test_chunked_request_over_the_limit_is_receipted_as_far_as_it_was_read(
    start: Start,
) -> None:
    bench = await start(limits=EdgeLimits(body_bytes=100))
    client = await bench.connect()
    head = bench.request(b"", drop=("content-length",), headers=("transfer-encoding: chunked",))
    client.send(head + b"3c\r\n" + b"a" * 60 + b"\r\n3c\r\n" + b"b" * 60 + b"\r\n0\r\n\r\n")
    reply = await client.reply()
    claims = (await bench.sealed(reply.jti)).claims
    assert (reply.status, reply.error()["code"]) == (413, "request_too_large")
    assert claims.request.partial
    assert claims.request.length is not None
    assert claims.request.length <= 100
    assert claims.response.end is End.LIMIT
    assert bench.engine.requests == []


async def test_request_body_that_does_not_arrive_is_a_timeout(start: Start) -> None:
    bench = await start(limits=EdgeLimits(body_seconds=0.2))
    client = await bench.connect()
    client.send(bench.request()[:-5])
    reply = await client.reply()
    claims = await bench.checked(reply, QUESTION[:-5])
    assert (reply.status, reply.error()["code"]) == (408, "request_timeout")
    assert claims.response.end is End.TIMEOUT
    assert claims.request.partial
    assert bench.engine.requests == []
