"""Control routes that end without an answer: the API's error form, never a server's plain text."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.app import _Surface
from tests.edge.conftest import Counting, Serve, Served

GET = b"GET /v1/receipts/x HTTP/1.1\r\nhost: h\r\n\r\n"
SECRET = "canary-19fe"


async def raises(_scope: Any, _receive: Any, _send: Any) -> None:
    raise RuntimeError(SECRET)


async def says_nothing(_scope: Any, _receive: Any, _send: Any) -> None:
    return


async def begins_and_raises(_scope: Any, _receive: Any, send: Any) -> None:
    headers = [(b"content-length", b"9")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    raise RuntimeError(SECRET)


async def surface(serve: Serve, control: Any) -> tuple[Served, list[BaseException]]:
    reported: list[BaseException] = []
    inference = cast("Any", SimpleNamespace(converse=None))
    app = cast("Counting", _Surface(inference, control, reported.append))
    return await serve(app), reported


@pytest.mark.parametrize("control", [raises, says_nothing])
async def test_control_route_that_does_not_answer_is_a_500_in_json(
    serve: Serve, control: Any
) -> None:
    served, reported = await surface(serve, control)
    reply = await served.say(GET)
    assert (reply.status, reply.error()["code"]) == (500, "internal_error")
    assert reply.headers["content-type"] == "application/json"
    assert SECRET.encode() not in reply.body
    assert len(reported) == (control is raises)


async def test_control_route_that_fails_inside_its_answer_is_cut(serve: Serve) -> None:
    served, reported = await surface(serve, begins_and_raises)
    client = await served.connect()
    client.send(GET)
    assert not (await client.reply()).ended
    assert len(reported) == 1


async def test_control_route_that_outlasts_a_stop_is_a_503_in_json(serve: Serve) -> None:
    asked = asyncio.Event()

    async def waits(_scope: Any, _receive: Any, _send: Any) -> None:
        asked.set()
        await asyncio.Event().wait()

    served, reported = await surface(serve, waits)
    client = await served.connect()
    client.send(GET)
    await asyncio.wait_for(asked.wait(), 60)
    stopping = asyncio.create_task(served.server.stop())
    reply = await client.reply()
    assert (reply.status, reply.error()["code"]) == (503, "gateway_stopping")
    assert reply.headers["retry-after"] == "1"
    await stopping
    assert reported == []
