"""What reaches the application: requests that everybody reads alike, within limits."""

from __future__ import annotations

import asyncio
import socket

import pytest

from gateway.edge.caller import Caller
from gateway.telemetry.edge import EdgeMetrics
from tests.edge.conftest import Counting, Seen, Serve

GOOD = b"GET /x HTTP/1.1\r\nhost: h\r\n\r\n"


def head(*lines: bytes, start: bytes = b"POST /x HTTP/1.1") -> bytes:
    return b"\r\n".join((start, *lines, b"", b""))


async def test_good_request_is_served_on_a_connection_that_stays(serve: Serve) -> None:
    served = await serve()
    client = await served.connect()
    for _ in range(3):
        client.send(GOOD)
        assert (await client.reply()).body == b"ok"
    assert len(served.app.seen) == 3


REFUSED = {
    "no host": head(b"content-length: 0"),
    "two hosts": head(b"host: a", b"host: b", b"content-length: 0"),
    "two equal hosts": head(b"host: a", b"host: a", b"content-length: 0"),
    "length and chunks": head(b"host: a", b"content-length: 3", b"transfer-encoding: chunked")
    + b"0\r\n\r\n",
    "two lengths": head(b"host: a", b"content-length: 0", b"content-length: 0"),
    "list of lengths": head(b"host: a", b"content-length: 0, 0"),
    "signed length": head(b"host: a", b"content-length: +0"),
    "huge length": head(b"host: a", b"content-length: 9999999999999999999"),
    "two codings": head(b"host: a", b"transfer-encoding: chunked", b"transfer-encoding: chunked"),
    "other coding": head(b"host: a", b"transfer-encoding: gzip, chunked"),
    "identity coding": head(b"host: a", b"transfer-encoding: identity"),
    "odd coding": head(b"host: a", b"transfer-encoding: xchunked"),
    "bare line feeds": b"GET /x HTTP/1.1\nhost: a\n\n",
    "folded field": head(b"host: a", b"x: 1", b" 2"),
    "space before colon": head(b"host : a"),
    "no field name": head(b"host: a", b": x"),
    "nul in a field": head(b"host: a", b"x: a\x00b"),
    "carriage return in a field": head(b"host: a", b"x: a\rb"),
    "absolute target": head(b"host: a", start=b"GET http://a/x HTTP/1.1"),
    "authority target": head(b"host: a", start=b"CONNECT a:443 HTTP/1.1"),
    "asterisk target": head(b"host: a", start=b"OPTIONS * HTTP/1.1"),
    "double slash target": head(b"host: a", start=b"GET //a/x HTTP/1.1"),
    "target with a fragment": head(b"host: a", start=b"GET /x#y HTTP/1.1"),
    "target beyond ascii": head(b"host: a", start=b"GET /\xc3\xa9 HTTP/1.1"),
    "http 1.0": head(b"host: a", start=b"GET /x HTTP/1.0"),
    "http 2.0": head(b"host: a", start=b"GET /x HTTP/2.0"),
    "http 0.9": b"GET /x\r\n\r\n",
    "http 2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "unknown method": head(b"host: a", start=b"BREW /x HTTP/1.1"),
    "upgrade": head(b"host: a", b"connection: upgrade", b"upgrade: websocket"),
    "upgrade alone": head(b"host: a", b"upgrade: h2c", start=b"GET /x HTTP/1.1"),
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 40,
    "chunk size of rubbish": head(b"host: a", b"transfer-encoding: chunked") + b"zz\r\n",
    "trailers": head(b"host: a", b"transfer-encoding: chunked")
    + b"0\r\nauthorization: Bearer x\r\n\r\n",
}


@pytest.mark.parametrize("case", REFUSED)
async def test_doubtful_request_never_reaches_the_application(serve: Serve, case: str) -> None:
    served = await serve(Counting())
    client = await served.connect()
    client.send(REFUSED[case])
    reply = await client.reply()
    assert reply.status == 400
    assert reply.error()["code"] == "malformed_request"
    assert reply.headers["connection"] == "close"
    assert {"server", "date"}.isdisjoint(reply.headers)
    assert await client.closed()
    assert served.app.seen == []


async def test_what_follows_a_doubtful_request_is_not_looked_at(serve: Serve) -> None:
    served = await serve()
    client = await served.connect()
    client.send(GOOD)
    await client.reply()
    client.send(REFUSED["two hosts"] + GOOD)
    assert (await client.reply()).status == 400
    assert await client.closed()
    assert len(served.app.seen) == 1


@pytest.mark.parametrize("before", [1, 3])
@pytest.mark.parametrize("at_once", [True, False])
async def test_doubtful_request_is_answered_after_those_before_it(
    serve: Serve, before: int, at_once: bool
) -> None:
    app = Counting(hold=asyncio.Event())
    served = await serve(app)
    client = await served.connect()
    client.send(GOOD * before + (REFUSED["two hosts"] + GOOD if at_once else b""))
    await app.started.wait()
    if not at_once:
        client.send(REFUSED["two hosts"] + GOOD)
    assert app.hold is not None
    app.hold.set()
    for _ in range(before):
        assert (await client.reply()).status == 200
    assert (await client.reply()).status == 400
    assert await client.closed()
    assert len(app.seen) == before


@pytest.mark.parametrize(
    "broken",
    [
        head(b"host: a", b"transfer-encoding: chunked") + b"3\r\nabc\r\nzz\r\n",
        head(b"host: a", b"content-length: 70000") + b"x" * 70_000,
    ],
    ids=["not http", "too much"],
)
async def test_body_that_cannot_wait_its_turn_is_refused_in_its_turn(
    serve: Serve, broken: bytes
) -> None:
    app = Counting(hold=asyncio.Event())
    served = await serve(app)
    client = await served.connect()
    client.send(GOOD)
    await app.started.wait()
    client.send(GOOD + broken + GOOD)
    assert app.hold is not None
    app.hold.set()
    assert [(await client.reply()).status for _ in range(3)] == [200, 200, 400]
    assert await client.closed()
    assert len(app.seen) == 2


async def test_request_that_says_it_is_the_last_is_the_last(serve: Serve) -> None:
    served = await serve()
    client = await served.connect()
    client.send(head(b"host: a", b"connection: close", start=b"GET /x HTTP/1.1") + GOOD)
    assert (await client.reply()).status == 200
    assert await client.closed()
    assert len(served.app.seen) == 1


@pytest.mark.parametrize(
    "request_head",
    [
        head(b"host: a", b"x: " + b"y" * 33_000),
        head(b"host: a", start=b"GET /" + b"y" * 33_000 + b" HTTP/1.1"),
        head(b"host: a", *(b"x: y" for _ in range(100))),
        head(b"host: a", *(b"x: " + b"y" * 400 for _ in range(90))),
    ],
    ids=["long field", "long target", "many fields", "long together"],
)
async def test_head_beyond_the_limits_is_refused(serve: Serve, request_head: bytes) -> None:
    served = await serve()
    client = await served.connect()
    client.send(request_head)
    reply = await client.reply()
    assert (reply.status, reply.error()["code"]) == (431, "head_too_large")
    assert await client.closed()
    assert served.app.seen == []


@pytest.mark.parametrize("endless", [b"x: " + b"y" * 40_000, b"y" * 40_000])
async def test_head_that_does_not_end_is_bounded(serve: Serve, endless: bytes) -> None:
    served = await serve()
    client = await served.connect()
    client.send(b"GET /x HTTP/1.1\r\nhost: a\r\n" + endless)
    assert (await client.reply()).status == 431
    assert await client.closed()


async def test_head_within_the_limits_is_taken_however_it_is_cut(serve: Serve) -> None:
    served = await serve()
    client = await served.connect()
    for byte in head(b"host: a", b"x: " + b"y" * 300, start=b"GET /x HTTP/1.1"):
        client.send(bytes((byte,)))
        await asyncio.sleep(0)
    assert (await client.reply()).status == 200


@pytest.mark.parametrize("begun", [b"", b"GET /x HT", b"GET /x HTTP/1.1\r\nhost: a\r\n"])
async def test_head_that_is_late_ends_the_connection(serve: Serve, begun: bytes) -> None:
    served = await serve(header_seconds=0.2)
    client = await served.connect()
    client.send(begun)
    if begun:
        reply = await client.reply()
        assert (reply.status, reply.error()["code"]) == (408, "head_timeout")
    assert await client.closed()
    assert served.app.seen == []


async def test_later_head_on_a_kept_connection_has_its_time_too(serve: Serve) -> None:
    served = await serve(header_seconds=0.2)
    client = await served.connect()
    client.send(GOOD)
    await client.reply()
    client.send(b"GET /x HTTP/1.1\r\nho")
    assert (await client.reply()).status == 408
    assert await client.closed()


async def test_idle_connection_is_closed(serve: Serve) -> None:
    served = await serve(keep_alive_seconds=0)
    client = await served.connect()
    client.send(GOOD)
    await client.reply()
    assert await client.closed()


async def test_rest_of_an_answered_body_is_dropped_within_bounds(serve: Serve) -> None:
    served = await serve(Counting(reads=False), discard_bytes=1000)
    client = await served.connect()
    client.send(head(b"host: a", b"content-length: 900"))
    assert (await client.reply()).status == 200
    client.send(b"x" * 900 + GOOD)
    assert (await client.reply()).status == 200
    client.send(head(b"host: a", b"content-length: 5000"))
    assert (await client.reply()).status == 200
    client.send(b"x" * 5000)
    assert await client.closed()


async def test_rest_of_an_answered_body_has_bounded_time(serve: Serve) -> None:
    served = await serve(Counting(reads=False), discard_seconds=0.2)
    client = await served.connect()
    client.send(head(b"host: a", b"content-length: 900") + b"x")
    assert (await client.reply()).status == 200
    assert await client.closed()


async def test_caller_that_takes_nothing_is_cut(serve: Serve) -> None:
    served = await serve(Counting(answer=b"x" * (16 << 20)), stall_seconds=0.2)
    client = await served.connect()
    client.send(GOOD)
    await client.reader.readexactly(100)
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    async with asyncio.timeout(60):
        while served.server._server.server_state.connections:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_too_many_requests_ahead_end_the_connection(serve: Serve) -> None:
    app = Counting(hold=asyncio.Event())
    served = await serve(app, pipelined=2)
    client = await served.connect()
    client.send(GOOD * 5)
    await app.started.wait()
    assert app.hold is not None
    app.hold.set()
    assert [(await client.reply()).status for _ in range(4)] == [200, 200, 200, 400]
    assert await client.closed()
    assert len(app.seen) == 3


async def test_exception_of_the_application_tells_the_caller_nothing(
    serve: Serve, capfd: pytest.CaptureFixture[str]
) -> None:
    served = await serve(Counting(failure=RuntimeError("canary-9d2e")))
    reply = await served.say(GOOD)
    assert reply.status == 500
    assert b"canary" not in reply.body
    captured = capfd.readouterr()
    assert "canary" not in captured.out + captured.err


async def test_chunked_body_arrives_without_its_chunks(serve: Serve) -> None:
    served = await serve()
    await served.say(
        head(b"host: a", b"transfer-encoding: Chunked") + b"2\r\nab\r\n1;ext=1\r\nc\r\n0\r\n\r\n"
    )
    assert served.app.seen[0].body == b"abc"


async def test_refused_head_request_gets_no_body(serve: Serve) -> None:
    served = await serve()
    client = await served.connect()
    client.send(head(b"content-length: 0", start=b"HEAD /x HTTP/1.1"))
    answer = await client.reader.read()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.endswith(b"\r\n\r\n")
    assert served.app.seen == []


CHUNKED = head(b"host: a", b"transfer-encoding: chunked")


@pytest.mark.parametrize(
    "body",
    [
        b"1;" + b"x" * 900_000,
        b"1;x=" + b"y" * 900_000 + b"\r\na\r\n0\r\n\r\n",
        b"1;x\r\na\r\n" * 100_000,
        b"1\r\na\r\n" * 150_000,
        b"0" * 900_000,
    ],
    ids=["endless extension", "long extension", "many extensions", "tiny chunks", "endless size"],
)
async def test_framing_that_outweighs_the_body_is_refused(serve: Serve, body: bytes) -> None:
    served = await serve()
    client = await served.connect()
    client.send(CHUNKED)
    await asyncio.sleep(0)
    client.send(body)
    try:
        reply = await client.reply()
        assert (reply.status, reply.error()["code"]) == (400, "malformed_request")
    except (ConnectionError, asyncio.IncompleteReadError):
        # What was not read when the connection closed may take the answer with it.
        assert served.app.seen == []
    assert await client.closed()
    assert served.app.seen == []


@pytest.mark.parametrize(
    "chunk",
    [b"x" * 20, b"x" * 60_000, b"x"],
    ids=["tokens", "large", "few single bytes"],
)
async def test_framing_of_honest_chunks_is_taken(serve: Serve, chunk: bytes) -> None:
    count = 1000 if len(chunk) == 1 else 600_000 // len(chunk)
    served = await serve()
    client = await served.connect()
    framed = b"%x;e=1\r\n%b\r\n" % (len(chunk), chunk)
    for _ in range(2):
        client.send(CHUNKED + framed * count + b"0\r\n\r\n")
        assert (await client.reply()).status == 200
    assert [len(seen.body) for seen in served.app.seen] == [count * len(chunk)] * 2


async def test_newcomer_takes_the_place_of_one_that_says_nothing(serve: Serve) -> None:
    """Half heads, however many, keep nobody out, and nobody is cut in his request."""
    app = Counting(hold=asyncio.Event())
    served = await serve(app, connections=50)
    busy = await served.connect()
    busy.send(GOOD)
    await app.started.wait()
    silent = [await served.connect() for _ in range(300)]
    for client in silent:
        client.send(b"GET /x HTTP/1.1\r\nhost: h\r\nx: ")
    late = await served.connect()
    late.send(GOOD)
    assert app.hold is not None
    app.hold.set()
    assert (await late.reply()).status == 200
    assert (await busy.reply()).status == 200
    assert len(served.server._server.server_state.connections) <= 50
    assert await silent[0].closed()


async def test_connection_beyond_the_bound_is_told_so(serve: Serve) -> None:
    app = Counting(hold=asyncio.Event())
    served = await serve(app, connections=1)
    busy = await served.connect()
    busy.send(GOOD)
    await app.started.wait()
    refused = await served.connect()
    reply = await refused.reply()
    assert (reply.status, reply.error()["code"]) == (503, "too_many_connections")
    assert reply.headers["retry-after"] == "1"
    assert await refused.closed()
    assert app.hold is not None
    app.hold.set()
    assert (await busy.reply()).status == 200
    busy.send(GOOD)
    assert (await busy.reply()).status == 200


async def test_single_address_has_a_bound_of_its_own_where_one_is_set(serve: Serve) -> None:
    served = await serve(connections_per_address=2)
    first, _ = await served.connect(), await served.connect()
    refused = await served.connect()
    assert (await refused.reply()).status == 503
    assert await refused.closed()
    elsewhere = await served.connect(local_addr=("127.0.0.2", 0))
    elsewhere.send(GOOD)
    assert (await elsewhere.reply()).status == 200
    first.send(GOOD)
    assert (await first.reply()).status == 200


async def test_caller_that_ends_its_side_before_the_answer_is_gone(serve: Serve) -> None:
    app = Counting(hold=asyncio.Event())
    served = await serve(app)
    client = await served.connect()
    client.send(GOOD)
    await app.started.wait()
    client.writer.write_eof()
    assert await client.closed()
    assert app.hold is not None
    app.hold.set()


async def test_caller_that_ends_its_side_after_the_answer_gets_the_whole_of_it(
    serve: Serve,
) -> None:
    answer = b"x" * (8 << 20)
    served = await serve(Counting(answer=answer))
    client = await served.connect()
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    client.send(GOOD)
    await served.app.started.wait()
    async with asyncio.timeout(60):
        while not served.server._server.server_state.total_requests:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    client.writer.write_eof()
    client.writer.transport.resume_reading()  # type: ignore[attr-defined]
    assert (await client.reply()).body == answer


async def test_caller_that_takes_nothing_of_a_last_answer_is_cut_too(serve: Serve) -> None:
    served = await serve(Counting(answer=b"x" * (16 << 20)), stall_seconds=0.2)
    client = await served.connect()
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    client.send(GOOD[:-2] + b"connection: close\r\n\r\n")
    async with asyncio.timeout(60):
        while served.server._server.server_state.connections or not served.app.seen:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


class Conversing(Counting):
    """Answers requests to inference routes without ASGI."""

    async def converse(self, caller: Caller) -> None:
        self.seen.append(Seen(caller.path, caller.headers, b""))
        caller.answer(200, (), self.answer)


@pytest.mark.parametrize("path", ["/x", "/v1/chat/completions"])
async def test_caller_that_takes_nothing_of_a_small_last_answer_is_cut_too(
    serve: Serve, path: str
) -> None:
    app = Conversing(answer=b"x" * 50_000)
    served = await serve(app, stall_seconds=0.2)
    # The kernel takes little, and what waits in here is too little for the transport to pause.
    served.server._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, served.server.address)
        client.send(b"POST %b HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n" % path.encode())
        async with asyncio.timeout(60):
            while served.server._server.server_state.connections or not app.seen:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


async def test_connections_and_what_becomes_of_them_are_counted(serve: Serve) -> None:
    metrics = EdgeMetrics()
    served = await serve(metrics=metrics, connections=2, header_seconds=60.0)
    await served.say(REFUSED["two hosts"])
    await served.say(head(b"host: a", b"x: " + b"y" * 33_000))
    held = [await served.connect() for _ in range(3)]
    held[2].send(GOOD)
    assert (await held[2].reply()).status == 200
    assert await held[0].closed()
    counted = metrics.snapshot()
    assert counted["attested_connections_accepted"] == [[[], 5]]
    assert sorted(counted["attested_connections_refused"]) == [
        [["connections"], 1], [["header_size"], 1], [["malformed"], 1],
    ]  # fmt: skip
    await served.server.stop()
    assert metrics.snapshot()["attested_connections_open"] == [[[], 0]]


async def test_caller_that_is_cut_for_taking_nothing_is_counted(serve: Serve) -> None:
    metrics = EdgeMetrics()
    served = await serve(Counting(answer=b"x" * (16 << 20)), metrics=metrics, stall_seconds=0.2)
    client = await served.connect()
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    client.send(GOOD)
    await served.app.started.wait()
    async with asyncio.timeout(60):
        while served.server._server.server_state.connections:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert metrics.snapshot()["attested_slow_clients"] == [[[], 1]]
