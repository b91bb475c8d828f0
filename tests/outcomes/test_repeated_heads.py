"""Requests with the head of the one before them: each is served, and receipted, as if alone."""

from __future__ import annotations

import pytest

from gateway.access.keyfile import revoke_key
from gateway.access.principal import subject_of
from gateway.edge import repeats
from gateway.edge.protocol import EdgeProtocol
from tests.outcomes.bench import ANSWER, PLAIN, STREAM
from tests.outcomes.conftest import Start


@pytest.fixture
def again(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The bodies that were taken without a parser."""
    taken: list[bytes] = []
    cut = repeats.KnownHead.cut

    def counted(known: repeats.KnownHead, data: bytes) -> bytes | None:
        body = cut(known, data)
        if body is not None:
            taken.append(body)
        return body

    monkeypatch.setattr(repeats.KnownHead, "cut", counted)
    return taken


def question(words: int) -> bytes:
    return b'{"model":"m","messages":[{"role":"user","content":"%b"}]}' % (b"word " * words)


@pytest.mark.parametrize("script", [PLAIN, STREAM])
async def test_requests_with_one_head_get_receipts_of_their_own(
    start: Start, again: list[bytes], script: object
) -> None:
    bench = await start(script)
    client = await bench.connect()
    spans, sent = set(), [question(words) for words in (1, 2, 300, 1, 2)]
    for body in sent:
        client.send(bench.request(body))
        reply = await client.reply()
        assert reply.status == 200
        claims = await bench.checked(reply, body)
        assert claims.lineage.parent_span is None
        spans.add((claims.lineage.txn, claims.lineage.span))
    assert len(spans) == len(sent)
    # Once when it is first known, to check it; then for every request but the first.
    assert again == [sent[0], *sent[1:]]


async def test_what_a_head_says_of_tasks_and_traces_holds_each_time(
    start: Start, again: list[bytes]
) -> None:
    bench = await start(PLAIN)
    client = await bench.connect()
    said = (
        "x-task-id: nightly",
        "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )
    for words in (1, 2, 3, 4):
        body = question(words)
        client.send(bench.request(body, headers=said))
        lineage = (await bench.checked(await client.reply(), body)).lineage
        assert (lineage.txn, lineage.parent_span) == ("nightly", "b7ad6b7169203331")
        assert lineage.call == words - 1
    assert len(again) == 4


async def test_head_that_is_refused_is_refused_each_time(start: Start, again: list[bytes]) -> None:
    bench = await start(PLAIN)
    client = await bench.connect()
    for words in (1, 2, 3):
        client.send(bench.request(question(words), headers=("x-receipt-nonce: short",)))
        reply = await client.reply()
        assert (reply.status, reply.error()["code"]) == (400, "receipt_nonce")
        assert (await bench.sealed(reply.jti)).claims.decision.code == "receipt_nonce"
    assert len(again) == 3


async def test_key_that_was_revoked_is_nobodys_on_a_connection_that_knows_it(
    start: Start, again: list[bytes]
) -> None:
    bench = await start(PLAIN)
    key = bench.new_key()
    client = await bench.connect()
    for _ in range(3):
        client.send(bench.request(key=key))
        assert (await client.reply()).status == 200
    revoke_key(bench.keys_file, name=subject_of(key.encode()).base64url, now=0)
    bench.routes._keys._looked -= 1.0
    client.send(bench.request(key=key))
    assert (await client.reply()).status == 401
    assert len(again) == 4


async def test_other_requests_in_between_are_read_by_the_parser(
    start: Start, again: list[bytes]
) -> None:
    bench = await start(PLAIN)
    client = await bench.connect()
    other = bench.new_key()
    known, new = bench.request(), bench.request(key=other)
    for data, status in ((known, 200), (known, 200), (new, 200), (known, 200)):
        client.send(data)
        assert (await client.reply()).status == status
    client.send(b"GET /v1/chat/completions HTTP/1.1\r\nhost: h\r\n\r\n")
    assert (await client.reply()).status == 405
    client.send(known)
    assert (await client.reply()).body == ANSWER
    assert len(again) == 1 + 1 + 1 + 1 + 1  # each head once when it was new, and one again
    assert bench.receipts == 5


@pytest.mark.parametrize("cut", [1, 30, 120, -1])
async def test_known_head_that_comes_in_pieces_is_read_by_the_parser(
    start: Start, again: list[bytes], cut: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    received, whole = EdgeProtocol.data_received, [True]

    def in_pieces(protocol: EdgeProtocol, data: bytes) -> None:
        if whole:
            received(protocol, data)
            return
        received(protocol, data[:cut])
        received(protocol, data[cut:])

    # The event loop takes the method when a connection is made.
    monkeypatch.setattr(EdgeProtocol, "data_received", in_pieces)
    bench = await start(PLAIN)
    client = await bench.connect()
    client.send(bench.request())
    assert (await client.reply()).body == ANSWER
    whole.clear()
    for _ in range(2):
        client.send(bench.request())
        assert (await client.reply()).body == ANSWER
    assert len(again) == 1
    assert bench.receipts == 3


async def test_requests_sent_ahead_with_one_head_are_answered_in_order(start: Start) -> None:
    bench = await start(PLAIN)
    client = await bench.connect()
    client.send(bench.request())
    await client.reply()
    client.send(bench.request(question(1)) + bench.request(question(2)))
    client.send(bench.request(question(3)))
    for words in (1, 2, 3):
        await bench.checked(await client.reply(), question(words))
    assert bench.receipts == 4


CHUNKED = (b"2\r\n{}\r\n0\r\n\r\n", ("transfer-encoding: chunked",))


@pytest.mark.parametrize(("body", "headers", "status"), [(b"", (), 400), (*CHUNKED, 200)])
async def test_request_without_a_length_behind_one_with_a_length_is_answered_too(
    start: Start, body: bytes, headers: tuple[str, ...], status: int
) -> None:
    bench = await start(PLAIN)
    client = await bench.connect()
    second = bench.request(body, headers=headers, drop=("content-length",))
    client.send(bench.request() + second)
    assert (await client.reply()).body == ANSWER
    assert (await client.reply()).status == status
    assert bench.receipts == 2


async def test_nonsense_after_a_known_head_is_refused(start: Start) -> None:
    bench = await start(PLAIN)
    client = await bench.connect()
    for _ in range(2):
        client.send(bench.request())
        assert (await client.reply()).status == 200
    client.send(b"nonsense\r\n\r\n")
    reply = await client.reply()
    assert (reply.status, reply.headers["connection"]) == (400, "close")
    assert reply.error()["code"] == "malformed_request"
    assert await client.closed()
