"""Content goes through the gateway on every path there is, and stays nowhere on the way."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from gateway.edge.limits import EdgeLimits
from gateway.engine.scripted import JSON, Close, Script
from tests.outcomes.bench import DONE, LATE_TO_BEGIN, LATE_TO_GO_ON, PATIENT, Bench
from tests.outcomes.conftest import Start
from tests.support.files import contents

CANARY = "canary-4b1f9e7c"
TOKEN = CANARY.encode()
QUESTION = b'{"model":"m","messages":[{"role":"user","content":"%b"}]}' % TOKEN
EVENT = b'data: {"choices":[{"delta":{"content":"%b"}}]}\n\n' % TOKEN
ANSWER = b'{"choices":[{"message":{"content":"%b"}}]}' % TOKEN

SCRIPTS = {
    "plain": Script(writes=(ANSWER,), content_type=JSON),
    "plain, broken": Script(writes=(b'{"a":"%b' % TOKEN,), content_type=JSON),
    "engine error": Script(writes=(ANSWER,), content_type=JSON, status=400),
    "stream": Script(writes=(EVENT, DONE)),
    "error event": Script(writes=(b'data: {"error":{"message":"%b"}}\n\n' % TOKEN, DONE)),
    "short": Script(writes=(ANSWER,), close=Close.SHORT, content_type=JSON),
    "stream, cut": Script(writes=(EVENT, EVENT[:-2]), close=Close.NO_LAST_CHUNK),
    "stream, forged": Script(writes=(EVENT, b": receipt %b\n\n" % TOKEN, DONE)),
    "stream, tail": Script(writes=(EVENT, DONE, EVENT)),
    "stream, huge event": Script(writes=(b"data: %b\n\n" % (TOKEN * 300), DONE)),
    "reset": Script(writes=(EVENT, DONE), close=Close.RST),
    "hang": Script(writes=(EVENT,), close=Close.HANG),
    "mute": Script(close=Close.MUTE),
    "drop": Script(close=Close.DROP),
    "no http": Script(writes=(TOKEN + b"\r\n\r\n",), close=Close.RAW),
    "odd field": Script(
        writes=(b"HTTP/1.1 200 OK\r\n%b: x\r\ncontent-length: 1\r\n\r\n" % TOKEN,), close=Close.RAW
    ),
    "odd type": Script(writes=(ANSWER,), content_type=f"x/y; {CANARY} \\"),
    "odd coding": Script(writes=(ANSWER,), headers=(("content-encoding", CANARY),)),
}
LATE = {"hang": LATE_TO_GO_ON, "mute": LATE_TO_BEGIN}
BODIES = (
    QUESTION,
    TOKEN,
    b'{"%b":NaN}' % TOKEN,
    b'{"%b":1,"%b":2}' % (TOKEN, TOKEN),
    b'{"model":"%b x"}' % TOKEN,
    b'{"cache_salt":"%b"}' % TOKEN,
    b'{"guided_%b":1}' % TOKEN,
    b'{"n":"%b"}' % TOKEN,
    b'{"messages":[{"image_url":"http://%b"}]}' % TOKEN,
    b'{"tools":[{"type":"mcp_%b"}]}' % TOKEN,
    b'{"a":"%b\xff"}' % TOKEN,
    b'{"a":"%b\\ud800"}' % TOKEN,
    QUESTION * 40,
)
HEADERS = (
    f"content-encoding: {CANARY}",
    f"x-receipt-nonce: {CANARY} with a space",
    f"x-task-id: {CANARY} with a space",
    f"x-receipt-parents: {CANARY} with a space",
    f"traceparent: {CANARY}",
    f"accept: {CANARY}",
    f"user-agent: {CANARY}",
    f"x-receipt: {CANARY}",
    f"{CANARY}: x",
)


async def provoke(bench: Bench) -> None:
    """Send every kind of request that can go wrong, one after the other."""
    for body in BODIES:
        await bench.ask(body)
    for header in HEADERS:
        await bench.ask(QUESTION, inline=False, headers=(header,))
    for path in (f"/v1/chat/completions?{CANARY}", f"/{CANARY}", f"/v1/messages/{CANARY}"):
        await bench.ask(QUESTION, path=path)
    await bench.ask(QUESTION, key=CANARY)
    for raw in (TOKEN, b"GET /%b HTTP/1.0\r\n%b: x\r\n\r\n" % (TOKEN, TOKEN), b"\x00" + TOKEN):
        client = await bench.connect()
        client.send(raw + b"\r\n\r\n")
        await client.closed()
    leaving = await bench.connect()
    leaving.send(bench.request(QUESTION)[:-9])
    leaving.leave()


def kept(folder: Path) -> dict[str, bytes]:
    return {str(path): data for path, data in contents(folder).items()}


@pytest.mark.parametrize("case", SCRIPTS)
async def test_content_is_found_in_no_output_file_metric_or_report(
    start: Start, tmp_path: Path, capfd: pytest.CaptureFixture[str], case: str
) -> None:
    limits = EdgeLimits(body_bytes=2000, frame_bytes=4096, response_bytes=4096)
    late = LATE.get(case, PATIENT)
    bench = await start(SCRIPTS[case], limits=limits, upstream_limits=late)
    for inline in (True, False):
        with contextlib.suppress(asyncio.IncompleteReadError):
            await bench.ask(QUESTION, inline=inline)
    assert bench.engine.requests[0].body == QUESTION
    if case == "plain":
        await provoke(bench)
    out, err = capfd.readouterr()
    assert CANARY not in out + err
    assert TOKEN not in bench.metrics.render()
    files = kept(tmp_path)
    assert any(TOKEN not in content and content for content in files.values())
    assert [name for name, content in files.items() if TOKEN in content] == []
    assert [error for error in bench.reported if CANARY in repr(error)] == []
    assert bench.reported == []


@pytest.mark.parametrize(
    ("bounds", "code"),
    [
        (EdgeLimits(in_flight=0), "overloaded"),
        (EdgeLimits(buffered_bytes=len(QUESTION) - 1), "no_memory"),
        (EdgeLimits(buffered_bytes=len(QUESTION) + 1), "no_memory_for_answer"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_content_of_what_is_turned_away_is_found_nowhere(
    start: Start,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    bounds: EdgeLimits,
    code: str,
) -> None:
    bench = await start(SCRIPTS["plain"], limits=bounds)
    reply = await bench.ask(QUESTION)
    assert reply.error()["code"] == code
    assert TOKEN not in reply.body
    out, err = capfd.readouterr()
    assert CANARY not in out + err
    assert TOKEN not in bench.metrics.render()
    assert [name for name, content in kept(tmp_path).items() if TOKEN in content] == []
    assert bench.reported == []
