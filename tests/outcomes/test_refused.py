"""What is refused: its error, its receipt and its reason, and the engine never hears of it."""

from __future__ import annotations

import asyncio
import json

import pytest

from attestation.receipt.claims import End
from gateway.access.principal import subject_of
from gateway.access.slots import RefusalBudget
from gateway.edge.limits import EdgeLimits
from gateway.edge.routes import CHAT, MESSAGES, PATHS, RESPONSES
from gateway.engine.scripted import Close, Script
from gateway.upstream import UpstreamLimits
from tests.outcomes.bench import PLAIN, QUESTION, Bench, Reply, opened
from tests.outcomes.conftest import Start

SECRET = "canary-5f1d"
JSON = "content-type: application/json"
SEVENTEEN = ",".join(f"p{number}" for number in range(17))


async def refused(bench: Bench, reply: Reply, sent: bytes, code: str) -> None:
    """The reply is a refusal with this code, in a receipt over exactly what was sent."""
    claims = await bench.checked(reply, sent)
    assert claims.response.end is End.REFUSED
    assert claims.decision.code == code
    assert claims.attempts == ()
    assert bench.engine.requests == []
    assert bench.receipts == 1
    assert SECRET.encode() not in reply.body


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/v1/chat/completions", {"message", "type", "param", "code"}),
        (MESSAGES, {"type", "message"}),
    ],
)
@pytest.mark.parametrize(
    "credentials",
    [
        (),
        ("authorization: Bearer ag-wrong",),
        ("authorization: Basic eDp5",),
        ("x-api-key: ag-wrong",),
        ("authorization: Bearer ",),
    ],
)
async def test_request_without_a_known_key_is_counted_and_gets_no_receipt(
    start: Start, path: str, form: set[str], credentials: tuple[str, ...]
) -> None:
    bench = await start(PLAIN)
    reply = await bench.ask(path=path, headers=credentials, drop=("authorization",))
    assert reply.status == 401
    assert set(reply.error()) == form
    assert reply.error()["type"] == "authentication_error"
    assert "x-receipt-id" not in reply.headers
    assert bench.metric("attested_unauthenticated_total") == 1
    assert bench.receipts == 0
    assert bench.engine.requests == []


async def test_both_key_headers_are_understood(start: Start) -> None:
    bench = await start(PLAIN)
    for header in (f"x-api-key: {bench.key}", f"authorization: bearer {bench.key}"):
        reply = await bench.ask(headers=(header,), drop=("authorization",))
        await bench.checked(reply, QUESTION)


@pytest.mark.parametrize(
    ("headers", "drop", "status", "code"),
    [
        (("content-encoding: gzip",), (), 415, "content_encoding"),
        (("content-encoding: identity", "content-encoding: br"), (), 400, "duplicate_header"),
        ((), ("content-type",), 415, "content_type"),
        (("content-type: text/plain",), ("content-type",), 415, "content_type"),
        ((f"{JSON}; charset=utf-16",), ("content-type",), 415, "content_type"),
        ((JSON,), (), 400, "duplicate_header"),
        (("x-receipt-nonce: short",), (), 400, "receipt_nonce"),
        ((f"x-receipt-nonce: {'n' * 89}",), (), 400, "receipt_nonce"),
        (("x-receipt-nonce: has space in it",), (), 400, "receipt_nonce"),
        (("x-receipt-nonce: abcdefgh", "x-receipt-nonce: abcdefgh"), (), 400, "duplicate_header"),
        (("x-task-id: no spaces please",), (), 400, "lineage_task_id"),
        ((f"x-task-id: {'t' * 129}",), (), 400, "lineage_task_id"),
        ((f"x-receipt-parents: {SEVENTEEN}",), (), 400, "lineage_parents"),
        (("x-receipt-parents: a b",), (), 400, "lineage_parents"),
    ],
)  # fmt: skip
async def test_head_that_cannot_be_served_is_refused(
    start: Start, headers: tuple[str, ...], drop: tuple[str, ...], status: int, code: str
) -> None:
    bench = await start(PLAIN)
    reply = await bench.ask(headers=headers, drop=drop)
    assert (reply.status, reply.error()["code"]) == (status, code)
    await refused(bench, reply, QUESTION, code)


async def test_unknown_delivery_is_refused(start: Start) -> None:
    bench = await start(PLAIN)
    reply = await bench.ask(inline=False, headers=("x-receipt: trailer",))
    assert (reply.status, reply.error()["code"]) == (400, "receipt_delivery")
    await refused(bench, reply, QUESTION, "receipt_delivery")


async def test_query_string_is_refused(start: Start) -> None:
    bench = await start(PLAIN)
    reply = await bench.ask(path=f"{CHAT}?user={SECRET}")
    assert (reply.status, reply.error()["code"]) == (400, "query_string")
    await refused(bench, reply, QUESTION, "query_string")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "json_syntax"),
        (b"{", "json_syntax"),
        (b"[]", "json_syntax"),
        (b'{"model":"m","model":"m"}', "json_duplicate_member"),
        (b'{"model":"m","a":NaN}', "json_syntax"),
        (b'\xef\xbb\xbf{"model":"m"}', "json_encoding"),
        ('{"model":"m"}'.encode("utf-16"), "json_encoding"),
        (b'{"model":"m","a":"\\ud800"}', "json_surrogate"),
        (b'{"model":"m","a":' + b"[" * 200 + b"]" * 200 + b"}", "json_depth"),
        (b'{"model":"m","a":1e999}', "json_number"),
        (f'{{"model":"m","{SECRET}":NaN}}'.encode(), "json_syntax"),
        (f'{{"model":"{SECRET} x"}}'.encode(), "model_name"),
        (b'{"model":7}', "model_name"),
        (b'{"model":""}', "model_name"),
        (f'{{"model":"m","cache_salt":"{SECRET}"}}'.encode(), "refused_cache_salt"),
        (f'{{"model":"m","guided_{SECRET}":"x"}}'.encode(), "refused_guided"),
        (b'{"model":"m","n":17}', "refused_n"),
        (
            f'{{"model":"m","messages":[{{"content":[{{"image_url":"http://{SECRET}/"}}]}}]}}'.encode(),
            "refused_remote_media",
        ),
    ],
)  # fmt: skip
async def test_body_that_cannot_be_admitted_is_refused(
    start: Start, body: bytes, code: str
) -> None:
    bench = await start(PLAIN)
    reply = await bench.ask(body)
    assert (reply.status, reply.error()["code"]) == (400, code)
    assert reply.error()["type"] == "invalid_request_error"
    await refused(bench, reply, body, code)


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("rest", [b"zz\r\n", b"0\r\nx-trailer: 1\r\n\r\n"])
async def test_body_that_breaks_http_is_receipted_as_the_refusal_it_got(
    start: Start, rest: bytes, apart: bool
) -> None:
    bench = await start(PLAIN)
    client = await bench.connect()
    head = bench.request(b"", headers=("transfer-encoding: chunked",), drop=("content-length",))
    client.send(head + b"2\r\n{}\r\n" + (b"" if apart else rest))
    if apart:
        async with asyncio.timeout(60):
            while not bench.notary._ledger.admitted:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        client.send(rest)
    reply = await client.reply()
    assert (reply.status, reply.error()["code"]) == (400, "malformed_request")
    assert reply.headers["connection"] == "close"
    assert await client.closed()
    sealed = await bench.sealed(reply.jti)
    claims = sealed.claims
    assert (claims.response.end, claims.response.status) == (End.REFUSED, 400)
    assert (claims.decision.code, claims.request.partial) == ("malformed_request", True)
    opened(claims.response.commitment, sealed.openings, "res", reply.body)
    assert bench.engine.requests == []


async def test_model_that_cannot_be_recorded_stands_as_null(start: Start) -> None:
    bench = await start(PLAIN)
    for body, recorded in ((b'{"model":"a b"}', None), (b'{"model":"m","n":99}', "m")):
        claims = await bench.checked(await bench.ask(body), body)
        assert claims.model.id == recorded


@pytest.mark.parametrize(
    ("grant", "path", "body", "status", "code"),
    [
        ({"routes": (RESPONSES,)}, CHAT, QUESTION, 403, "route_not_granted"),
        ({"routes": ()}, CHAT, QUESTION, 403, "route_not_granted"),
        ({"models": ("other",)}, CHAT, QUESTION, 404, "model_not_found"),
        ({"models": ()}, CHAT, QUESTION, 404, "model_not_found"),
        ({"models": ("m",)}, CHAT, b'{"messages":[]}', 400, "model_missing"),
        ({"models": ("m",)}, CHAT, b'{"model":null}', 400, "model_missing"),
        ({"concurrency": 0}, CHAT, QUESTION, 429, "concurrency"),
    ],
)
async def test_grant_decides_on_route_model_and_concurrency(
    start: Start, grant: dict[str, object], path: str, body: bytes, status: int, code: str
) -> None:
    bench = await start(PLAIN)
    if grant == {"concurrency": 0}:
        # A key file never holds this; a slot that somebody else has comes to the same.
        bench.key = bench.new_key(concurrency=1)
        principal = bench.routes._keys.authenticate(
            [(b"authorization", b"Bearer " + bench.key.encode())]
        )
        assert principal is not None
        assert bench.routes._keys.slots.acquire(principal)
    else:
        bench.key = bench.new_key(**grant)
    reply = await bench.ask(body, path=path)
    assert (reply.status, reply.error()["code"]) == (status, code)
    await refused(bench, reply, body, code)


async def test_slot_is_given_back_whatever_the_request_came_to(start: Start) -> None:
    drop = Script(close=Close.DROP)
    # The kept connection is dropped first, then the fresh one: only that is a failure.
    scripts = iter([PLAIN, drop, drop, Script(close=Close.MUTE), PLAIN])
    patient = UpstreamLimits(first_byte_timeout=60)
    bench = await start(lambda _: next(scripts), upstream_limits=patient)
    bench.key = bench.new_key(concurrency=1)
    assert (await bench.ask()).status == 200
    assert (await bench.ask(b"not json")).status == 400
    assert (await bench.ask()).status == 502
    client = await bench.connect()
    client.send(bench.request())
    async with asyncio.timeout(60):
        while len(bench.engine.requests) < 4:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    busy = await bench.ask()
    assert (busy.status, busy.headers["retry-after"]) == (429, "1")
    client.leave()
    await asyncio.wait_for(bench.engine.left.wait(), 60)
    jti = bench.engine.requests[3].header("x-request-id")
    assert jti is not None
    await bench.sealed(jti)
    assert (await bench.ask()).status == 200
    assert bench.routes._keys.slots.running(bench.sub) == 0


async def test_key_that_is_refused_endlessly_is_counted_instead_of_receipted(
    start: Start,
) -> None:
    now = 0.0
    budget = RefusalBudget(per_second=1.0, clock=lambda: now)
    bench = await start(PLAIN, refusals=budget)
    for _ in range(2):
        assert (await bench.ask(b"x")).status == 400
    reply = await bench.ask()
    assert (reply.status, reply.error()["code"]) == (429, "too_many_refusals")
    assert bench.receipts == 2
    assert bench.metric("attested_refused_unreceipted_total") == 1
    assert await bench.notary.find(reply.jti, bench.sub) is None
    now = 10.0
    assert (await bench.ask()).status == 200


async def test_body_that_is_too_large_spends_the_refusal_budget(start: Start) -> None:
    bench = await start(
        PLAIN,
        limits=EdgeLimits(body_bytes=100),
        refusals=RefusalBudget(per_second=0.5, clock=lambda: 0.0),
    )
    first, second = await bench.ask(b"x" * 101), await bench.ask(b"x" * 101)
    assert (first.status, second.status) == (413, 429)
    assert bench.receipts == 1


async def test_answer_of_the_engine_does_not_spend_the_refusal_budget(start: Start) -> None:
    budget = RefusalBudget(per_second=1.0, clock=lambda: 0.0)
    bench = await start(lambda _: PLAIN, refusals=budget)
    for _ in range(5):
        assert (await bench.ask()).status == 200


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
async def test_other_methods_are_not_taken(start: Start, method: str) -> None:
    bench = await start(PLAIN)
    client = await bench.connect()
    client.send(bench.request().replace(b"POST", method.encode(), 1))
    reply = await client.reply()
    assert (reply.status, reply.headers["allow"]) == (405, "POST")
    assert reply.error()["code"] == "method_not_allowed"
    assert bench.receipts == 0


@pytest.mark.parametrize(
    "path",
    [
        "/", "/v1/chat/completions/", "/v1//chat/completions", "/v1/chat%2Fcompletions",
        "/v1/./chat/completions", "/v1/x/../chat/completions", "/V1/chat/completions",
        "/v1/chat/completions%00", "/v1/chat/completions;x", "/invocations",
        "/v1/load_lora_adapter",
        "/metrics", "/reset_prefix_cache", "/v1/score", "/v1/rerank", "/v1/audio/transcriptions",
    ],
)  # fmt: skip
async def test_other_paths_never_reach_the_engine(start: Start, path: str) -> None:
    bench = await start(PLAIN)
    reply = await bench.ask(path=path)
    assert reply.status == 404
    assert reply.error()["code"] == "not_found"
    assert bench.engine.requests == []
    assert bench.receipts == 0


@pytest.mark.parametrize("path", sorted(PATHS))
async def test_each_route_answers_refusals_in_its_own_form(start: Start, path: str) -> None:
    bench = await start(PLAIN)
    reply = await bench.ask(b"{", path=path)
    document = json.loads(reply.body)
    if path.startswith("/v1/messages"):
        assert document["type"] == "error"
        assert document["error"]["type"] == "invalid_request_error"
        assert document["error"]["message"].startswith("json_syntax: ")
    else:
        assert document["error"]["code"] == "json_syntax"
    await refused(bench, reply, b"{", "json_syntax")


async def test_refusal_belongs_to_the_key_that_was_refused(start: Start) -> None:
    bench = await start(PLAIN)
    other = bench.new_key()
    reply = await bench.ask(b"{", key=other)
    await bench.checked(reply, b"{", sub=subject_of(other.encode()))
    assert await bench.notary.find(reply.jti, bench.sub) is None
