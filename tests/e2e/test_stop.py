"""How a gateway ends: by a signal, with what runs; by force, with what was durable."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx2
import openai
import pytest

from attestation.receipt.block import find_block
from attestation.receipt.claims import End
from attestation.receipt.signing import Receipt, parse_receipt
from gateway.client.session import Session
from gateway.engine.scripted import Close, Script, ScriptedEngine
from gateway.notary.log.segments import Kind
from tests.e2e.conftest import Engines, Serve
from tests.support.logs import is_at_rest, leaves_of, tokens_of
from tests.support.serving import Served, wait_until

pytestmark = pytest.mark.slow

EVENT = b'data: {"id":"c","model":"m","choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'


def receipts(served: Served) -> list[Receipt]:
    """Every whole receipt in the segments; a torn record at their end is none."""
    return [parse_receipt(token) for token in tokens_of(served.boot)]


def ends(served: Served) -> list[End]:
    return [receipt.claims.response.end for receipt in receipts(served)]


@contextmanager
def openai_client(session: Session, key: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=session.base_url, api_key=key, http_client=session.http_client(), max_retries=0
    ) as client:
        yield client


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_lets_an_open_stream_end_with_its_receipt(
    serve: Serve, standin: Engines, number: signal.Signals
) -> None:
    served = serve(standin(delay=0.05))
    session, key = served.connect(), served.key
    with openai_client(session, key) as client:
        stream = client.chat.completions.create(
            model="stand-in-1",
            messages=[{"role": "user", "content": "tell me"}],
            max_tokens=40,
            stream=True,
        )
        next(stream)
        served.process.send_signal(number)
        wait_until(lambda: any(event["event"] == "stopping" for event in served.events))
        wait_until(lambda: not _accepts(served.port))
        finish = [chunk.choices[0].finish_reason for chunk in stream if chunk.choices]
    assert finish[-1] is not None
    (call,) = session.calls
    assert call.result is not None
    assert call.result.verdict == "SIMULATED"
    assert served.process.wait(60) == 0
    assert ends(served) == [End.COMPLETE]
    assert served.events[-1]["event"] == "boot.ended"
    assert served.events[-1]["reason"] == "closed"


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_what_does_not_end_in_time_is_ended_with_an_error_and_its_receipt(
    serve: Serve, scripted: Callable[[Script], ScriptedEngine]
) -> None:
    engine = scripted(Script(writes=(EVENT,) * 3, close=Close.HANG))
    served = serve(engine.address, limits={"drain_seconds": 1.0})
    body = b""
    with (
        httpx2.Client(trust_env=False, timeout=60) as client,
        client.stream(
            "POST",
            f"{served.url}/v1/chat/completions",
            json={"model": "m", "messages": [], "stream": True},
            headers={"authorization": f"Bearer {served.key}", "x-receipt": "inline"},
        ) as answer,
    ):
        jti = answer.headers["x-receipt-id"]
        pieces = answer.iter_raw()
        while len(body) < 3 * len(EVENT):
            body += next(pieces)
        served.process.send_signal(signal.SIGTERM)
        body += b"".join(pieces)
    assert served.process.wait(60) == 0
    (receipt,) = receipts(served)
    assert receipt.claims.jti == jti
    assert receipt.claims.response.end is End.GATEWAY_FAILURE
    block = find_block(body)
    assert block is not None
    assert block.token == receipt.jws.token
    # Nobody can take it for a whole answer.
    assert body.startswith(3 * EVENT)
    assert b"[DONE]" not in body
    last = body[block.offset + block.length :]
    assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "gateway_stopping"


def test_gateway_without_requests_stops_at_once(serve: Serve, standin: Engines) -> None:
    served = serve(standin())
    assert served.stop() == 0
    assert ends(served) == []


def test_killed_gateway_leaves_every_receipt_that_anybody_got(
    serve: Serve, standin: Engines
) -> None:
    engine = standin()
    served = serve(engine)
    session, key = served.connect(), served.key

    def ask(client: httpx2.Client) -> None:
        while True:
            client.post(
                f"{session.base_url}/chat/completions",
                json={"model": "stand-in-1", "messages": [{"role": "user", "content": "x"}]},
                headers={"authorization": f"Bearer {key}"},
            )

    with session.http_client() as client, ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(ask, client) for _ in range(8)]
        wait_until(lambda: sum(call.receipt is not None for call in session.calls) >= 40)
        # At one moment for all of them: who stands still sees nobody else die.
        pids = (served.process.pid, *served.pids["workers"], served.notary_pid)
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in pids:
                os.kill(pid, number)
        failures = [one.exception() for one in asking]
    assert all(isinstance(failure, httpx2.TransportError) for failure in failures)
    assert served.process.wait(60) == -signal.SIGKILL
    got = {call.receipt for call in session.calls if call.receipt is not None}
    kept = receipts(served)
    assert len(got) >= 40
    assert got <= {receipt.jws.token for receipt in kept}
    # Every receipt stands where it says that it does.
    leaves = enumerate(leaves_of(served.boot))
    places = [receipt.claims.log.index for receipt in kept]
    assert places == [index for index, leaf in leaves if leaf.kind is Kind.RECEIPT]
    # The next gateway starts beside what is left.
    origin = served.lines["log origin"]
    again = serve(engine, folder=served.folder)
    assert again.lines["log origin"] != origin


@pytest.mark.parametrize("log_too", [False, True], ids=["segment", "segment-and-events"])
def test_full_disk_ends_the_boot_and_the_answer_is_discarded(
    serve: Serve, standin: Engines, log_too: bool
) -> None:
    # After the first, no epoch is due: what fails is the receipt, and nothing before it.
    served = serve(standin(), log={"epoch_seconds": 3600, "forced_epoch_seconds": 3600})

    def ask() -> httpx2.Response:
        return httpx2.post(
            f"{served.url}/v1/chat/completions",
            json={"model": "stand-in-1", "messages": [{"role": "user", "content": "x"}]},
            headers={"authorization": f"Bearer {served.key}"},
            trust_env=False,
        )

    # The limit is one for all files: with receipts before it, the log still has room below it.
    earlier = 0 if log_too else 10
    assert [ask().status_code for _ in range(earlier)] == [200] * earlier
    wait_until(lambda: is_at_rest(served.boot))
    size = (served.boot / "segments" / "000000.seg").stat().st_size
    resource.prlimit(served.notary_pid, resource.RLIMIT_FSIZE, (size, size))
    answer = ask()
    assert answer.status_code == 503
    assert answer.headers["x-should-retry"] == "false"
    assert answer.json()["error"]["code"] == "receipt_unavailable"
    assert served.process.wait(60) != 0
    assert ends(served) == [End.COMPLETE] * earlier
    if not log_too:
        assert served.process.returncode == 14
        assert "log_failed" in served.stderr
        assert "Traceback" not in served.stderr


def test_log_lines_are_json_with_declared_fields_only(serve: Serve, standin: Engines) -> None:
    served = serve(standin())
    served.stop()
    for line in served.stderr.splitlines():
        if line.startswith("{"):
            assert json.loads(line).keys() >= {"event", "time"}
