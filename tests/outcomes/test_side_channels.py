"""What caches, sizes, times and headers tell others: as little as is set, and receipts say it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from attestation.encoding.strict_json import parse_json_object
from attestation.receipt.block import find_block, remove_block
from attestation.receipt.claims import End
from attestation.receipt.commitments import Openings, parse_openings_header
from attestation.receipt.padding import filling, without_filling
from attestation.receipt.signing import parse_receipt
from attestation.receipt.splices import apply_splices
from gateway.access.principal import subject_of
from gateway.edge import routes
from gateway.edge.padding import StreamPadding
from gateway.edge.salt import SALTED, BodyRewriter, cache_salt
from gateway.engine.scripted import Close, Script
from tests.outcomes.bench import ANSWER, DONE, EVENTS, PLAIN, QUESTION, STREAM, Bench, Reply, opened
from tests.outcomes.conftest import Start
from tests.support.files import contents

BUCKET = 512
PADDING = StreamPadding(bucket=BUCKET)


def openings_of(reply: Reply) -> Openings:
    return parse_openings_header(reply.headers["x-receipt-openings"])


async def salt_seen(bench: Bench, body: bytes = QUESTION, **request: object) -> str:
    reply = await bench.ask(body, **request)
    assert reply.status == 200, reply.body
    salt = parse_json_object(bench.engine.requests[-1].body)["cache_salt"]
    assert isinstance(salt, str)
    return salt


# -- the cache salt ------------------------------------------------------------------------


async def test_engine_gets_the_body_with_the_salt_and_the_receipt_shows_it(start: Start) -> None:
    bench = await start(PLAIN, salt="tenant")
    reply = await bench.ask()
    assert (reply.status, reply.body) == (200, ANSWER)
    (request,) = bench.engine.requests
    salt = cache_salt(bench.notary.boot.cache_salt_key, "tenant", bench.sub)
    member = b'"cache_salt":"%b",' % salt.encode()
    assert request.body == QUESTION[:1] + member + QUESTION[1:]
    claims, openings = parse_receipt(reply.headers["x-receipt"]).claims, openings_of(reply)
    (splice,) = claims.request.splices
    assert (splice.code, splice.offset, splice.deleted) == ("cache_salt", 1, 0)
    assert openings.inserted == (member,)
    assert apply_splices(QUESTION, claims.request.splices, openings.inserted) == request.body
    opened(claims.request.commitment, openings, "req", QUESTION)
    opened(claims.request.forwarded, openings, "fwd", request.body)
    # The notary stores nothing of what was inserted, but its worker can say it again.
    again = BodyRewriter("tenant", bench.notary.boot.cache_salt_key).again(claims)
    assert again == openings.inserted
    sealed = await bench.sealed(reply.jti)
    assert sealed.openings == replace(openings, inserted=())


async def test_stream_whose_request_had_a_salt_is_opened_by_its_block(start: Start) -> None:
    bench = await start(STREAM, salt="tenant")
    reply = await bench.ask()
    block = find_block(reply.body)
    assert block is not None
    openings = parse_openings_header(block.openings)
    claims = parse_receipt(block.token).claims
    forwarded = apply_splices(QUESTION, claims.request.splices, openings.inserted)
    assert forwarded == bench.engine.requests[0].body != QUESTION
    opened(claims.request.forwarded, openings, "fwd", forwarded)
    assert claims.response.end is End.COMPLETE


async def test_tenants_never_share_a_salt_and_one_tenant_always_does(start: Start) -> None:
    bench = await start(PLAIN, salt="tenant")
    other = bench.new_key()
    ours = {await salt_seen(bench) for _ in range(2)}
    theirs = {await salt_seen(bench, key=other)}
    assert len(ours) == len(theirs) == 1
    assert ours.isdisjoint(theirs)
    # Not even by naming it.
    named = b'{"model":"m","cache_salt":"%b"}' % ours.pop().encode()
    assert await salt_seen(bench, named, key=other) not in json.loads(named).values()
    key = bench.notary.boot.cache_salt_key
    assert theirs == {cache_salt(key, "tenant", subject_of(other.encode()))}


async def test_tasks_share_a_salt_where_tasks_are_to(start: Start) -> None:
    bench = await start(PLAIN, salt="task")
    one, again, other = [
        await salt_seen(bench, headers=(f"x-task-id: {task}",)) for task in ("t-1", "t-1", "t-2")
    ]
    assert one == again != other


async def test_requests_share_none_where_they_are_not_to(start: Start) -> None:
    bench = await start(PLAIN, salt="request")
    assert await salt_seen(bench) != await salt_seen(bench)


async def test_callers_salt_gives_way_and_the_receipt_shows_how_much_of_it(start: Start) -> None:
    bench = await start(PLAIN, salt="tenant")
    body = b'{"model":"m", "cache\\u005fsalt" : "mine\\u0021"}'
    reply = await bench.ask(body)
    (splice,) = parse_receipt(reply.headers["x-receipt"]).claims.request.splices
    assert body[splice.offset :][: splice.deleted] == b'"mine\\u0021"'
    expected = cache_salt(bench.notary.boot.cache_salt_key, "tenant", bench.sub, caller="mine!")
    assert parse_json_object(bench.engine.requests[0].body)["cache_salt"] == expected


@pytest.mark.parametrize("path", sorted(routes.PATHS))
async def test_salt_goes_where_the_engine_has_a_cache(start: Start, path: str) -> None:
    bench = await start(PLAIN, salt="tenant")
    reply = await bench.ask(path=path)
    claims = parse_receipt(reply.headers["x-receipt"]).claims
    assert (bench.engine.requests[0].body != QUESTION) == (path in SALTED)
    assert (claims.request.forwarded is not None) == (path in SALTED)
    assert bool(claims.request.splices) == bool(openings_of(reply).inserted) == (path in SALTED)


async def test_refused_request_is_not_forwarded_and_says_nothing_of_a_salt(start: Start) -> None:
    bench = await start(PLAIN, salt="tenant")
    reply = await bench.ask(b'{"model":"m","cache_salt":7}')
    assert (reply.status, reply.error()["code"]) == (400, "refused_cache_salt")
    claims = parse_receipt(reply.headers["x-receipt"]).claims
    assert (claims.request.forwarded, claims.request.splices) == (None, ())
    assert not bench.engine.requests


async def test_salt_key_is_in_no_file_and_no_evidence(start: Start) -> None:
    bench = await start(PLAIN, salt="tenant")
    await bench.ask()
    boot = bench.notary.boot
    key, salt = boot.cache_salt_key, cache_salt(boot.cache_salt_key, "tenant", bench.sub).encode()
    assert key.hex() not in repr(boot)
    files = contents(bench.keys_file.parent)
    assert any(path.name == "boot.json" for path in files)
    for path, data in files.items():
        assert key not in data, path
        assert key.hex().encode() not in data, path
        assert salt not in data, path


# -- padding and ticks ---------------------------------------------------------------------


async def chunks_of(bench: Bench, *, inline: bool = True) -> list[bytes]:
    """The chunks that one stream came in, as the gateway framed them."""
    client = await bench.connect()
    client.send(bench.request(inline=inline))
    status, headers = await client.head()
    assert status == 200
    assert headers["content-type"].startswith("text/event-stream")
    chunks = []
    while chunk := await client.chunk():
        chunks.append(chunk)
    return chunks


async def test_padded_stream_comes_in_chunks_of_one_size(start: Start) -> None:
    bench = await start(STREAM, padding=PADDING)
    chunks = await chunks_of(bench, inline=False)
    assert {len(chunk) for chunk in chunks} == {BUCKET}
    assert without_filling(b"".join(chunks)) == b"".join((*EVENTS, DONE))


async def test_receipt_of_a_padded_stream_commits_to_both_sides(start: Start) -> None:
    bench = await start(STREAM, padding=PADDING)
    body = b"".join(await chunks_of(bench))
    block = find_block(body)
    assert block is not None
    claims, openings = parse_receipt(block.token).claims, parse_openings_header(block.openings)
    delivered = remove_block(body, block.offset, body[block.offset :][: block.length])
    opened(claims.response.commitment, openings, "res", delivered)
    opened(claims.response.engine, openings, "eng", b"".join((*EVENTS, DONE)))
    assert claims.response.mods == ("padded",)
    assert claims.response.block_offset == block.offset
    assert delivered.endswith(DONE)
    assert delivered[: block.offset].endswith(b"p\n\n")
    assert claims.response.events == 3
    assert claims.response.end is End.COMPLETE


async def test_plain_answers_are_not_padded(start: Start) -> None:
    bench = await start(PLAIN, padding=PADDING)
    reply = await bench.ask()
    assert reply.body == ANSWER
    assert parse_receipt(reply.headers["x-receipt"]).claims.response.mods == ()


async def test_stream_released_on_a_tick_is_the_engines_and_says_so(start: Start) -> None:
    bench = await start(STREAM, padding=StreamPadding(seconds=0.005))
    reply = await bench.ask()
    claims = await bench.checked(reply, QUESTION)
    assert (claims.response.mods, claims.response.engine) == (("batched",), None)
    assert claims.response.events == 3


async def test_padding_and_tick_go_together(start: Start) -> None:
    bench = await start(STREAM, padding=StreamPadding(bucket=BUCKET, seconds=0.005))
    reply = await bench.ask(inline=False)
    claims = await bench.checked(reply, QUESTION)
    assert claims.response.mods == ("padded", "batched")
    assert len(reply.body) % BUCKET == 0


async def test_engine_that_breaks_off_is_reported_in_padding_too(start: Start) -> None:
    broken = Script(writes=EVENTS, close=Close.RST)
    bench = await start(broken, padding=StreamPadding(bucket=BUCKET, seconds=0.005))
    reply = await bench.ask(inline=False)
    claims = await bench.checked(reply, QUESTION)
    assert claims.response.end is End.UPSTREAM_ERROR
    assert claims.response.mods == ("padded", "batched")
    assert b'"error"' in reply.body


# -- headers and compression ---------------------------------------------------------------

TELLING = (
    ("endpoint-load-metrics", '{"kv_cache_usage_perc":0.42}'),
    ("x-request-id", "the-engines-own"),
    ("server", "uvicorn"),
    ("date", "Thu, 01 Jan 1970 00:00:00 GMT"),
    ("openai-processing-ms", "17"),
    ("x-ratelimit-remaining-requests", "3"),
    ("set-cookie", "who=me"),
    ("via", "1.1 engine"),
    ("vary", "origin"),
    ("x-queue-depth", "12"),
)
OWN = {
    "x-receipt-id", "x-request-id", "x-keyset-digest", "cache-control", "content-type",
    "content-length", "transfer-encoding", "x-receipt", "x-receipt-openings",
}  # fmt: skip


@pytest.mark.parametrize("script", [PLAIN, STREAM], ids=["plain", "stream"])
async def test_of_the_engines_headers_only_the_content_type_comes_back(
    start: Start, script: Script
) -> None:
    bench = await start(replace(script, headers=TELLING))
    reply = await bench.ask()
    assert reply.status == 200
    assert set(reply.headers) <= OWN
    assert reply.headers["x-request-id"] == reply.jti
    assert not {value for _, value in TELLING} & set(reply.headers.values())


@pytest.mark.parametrize("script", [PLAIN, STREAM], ids=["plain", "stream"])
@pytest.mark.parametrize("accepted", ["gzip, deflate, br, zstd", "gzip;q=1, identity;q=0", "*"])
async def test_no_answer_is_compressed_whatever_the_caller_accepts(
    start: Start, script: Script, accepted: str
) -> None:
    bench = await start(script)
    reply = await bench.ask(inline=False, headers=(f"accept-encoding: {accepted}",))
    assert reply.body == b"".join(script.writes)
    assert "content-encoding" not in reply.headers
    # Nor is the engine invited to.
    assert bench.engine.requests[0].header("accept-encoding") in (None, "", "identity")


async def test_compressed_answer_of_the_engine_is_refused(start: Start) -> None:
    bench = await start(replace(PLAIN, headers=(("content-encoding", "gzip"),)))
    reply = await bench.ask()
    assert reply.status == 502


def test_padding_frame_is_what_the_documents_show() -> None:
    assert filling(55, 64) == b": ppppp\n\n"
