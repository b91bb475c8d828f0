"""The scripted engine sends and breaks exactly what it was told to."""

from __future__ import annotations

import asyncio

import pytest

from gateway.engine.scripted import Close, Script, ScriptedEngine

REQUEST = b"POST /x HTTP/1.1\r\nhost: e\r\ncontent-length: 5\r\n\r\na\x00\xffbc"


async def exchange(script: Script) -> tuple[bytes, ScriptedEngine, bool]:
    """The raw bytes of the answer until the connection ends, and whether it ended by a reset."""
    engine = ScriptedEngine(script)
    address = await engine.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", int(address.rpartition(":")[2]))
    writer.write(REQUEST)
    got = bytearray()
    reset = False
    keeps_open = script.close in {Close.CLEAN, Close.LENGTH}
    try:
        while data := await reader.read(1 if keeps_open else 65536):
            got += data
            if keeps_open and got.endswith((b"0\r\n\r\n", b"END")):
                break
    except ConnectionResetError:
        reset = True
    writer.close()
    await engine.close()
    return bytes(got), engine, reset


async def test_requests_are_kept_with_their_exact_bytes() -> None:
    _, engine, _ = await exchange(Script(close=Close.DROP))
    (request,) = engine.requests
    assert (request.method, request.target, request.body) == ("POST", "/x", b"a\x00\xffbc")
    assert request.head + request.body == REQUEST
    assert request.header("host") == "e"


async def test_a_chunked_request_is_kept_without_its_chunks() -> None:
    engine = ScriptedEngine(Script(close=Close.DROP))
    address = await engine.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", int(address.rpartition(":")[2]))
    writer.write(
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"
    )
    await reader.read()
    writer.close()
    await engine.close()
    assert engine.requests[0].body == b"abcde"


@pytest.mark.parametrize(
    ("close", "tail", "reset"),
    [
        (Close.CLEAN, b"2\r\nhi\r\n0\r\n\r\n", False),
        (Close.RST, b"2\r\nhi\r\n0\r\n\r\n", True),
        (Close.NO_LAST_CHUNK, b"2\r\nhi\r\n", False),
        (Close.SHORT, b"content-length: 1002\r\n\r\nhi", False),
    ],
)
async def test_an_answer_ends_the_way_it_was_scripted(
    close: Close, tail: bytes, reset: bool
) -> None:
    got, _, was_reset = await exchange(Script(writes=(b"hi",), close=close))
    assert got.endswith(tail)
    assert was_reset is reset


async def test_an_exact_length_is_announced() -> None:
    got, _, _ = await exchange(Script(writes=(b"x", b"END"), close=Close.LENGTH))
    assert b"content-length: 4\r\n" in got
    assert got.endswith(b"\r\n\r\nxEND")


async def test_raw_bytes_are_the_whole_answer() -> None:
    got, _, _ = await exchange(Script(writes=(b"garbage",), close=Close.RAW))
    assert got == b"garbage"


@pytest.mark.parametrize("close", [Close.HANG, Close.MUTE])
async def test_a_hanging_answer_notices_that_its_peer_left(close: Close) -> None:
    engine = ScriptedEngine(Script(writes=(b"hi",), close=close))
    address = await engine.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", int(address.rpartition(":")[2]))
    writer.write(REQUEST)
    if close is Close.HANG:
        await reader.readuntil(b"hi\r\n")
    writer.close()
    await asyncio.wait_for(engine.left.wait(), 60)
    assert engine.requests
    await engine.close()


async def test_the_script_may_depend_on_the_request() -> None:
    engine = ScriptedEngine(
        lambda request: Script(writes=(request.target.encode(),), close=Close.RAW)
    )
    address = await engine.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", int(address.rpartition(":")[2]))
    writer.write(REQUEST)
    assert await reader.read() == b"/x"
    writer.close()
    await engine.close()
