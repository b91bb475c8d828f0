"""Topic `http1`: what the runner makes of listeners that are as they should be, and of others."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import pytest

from attestation.conformance.runner import run_topic
from attestation.errors import MalformedError
from gateway.conformance import http1, http1_listeners
from gateway.conformance.http1 import ANSWERS, REFUSALS
from gateway.conformance.http1_listeners import Listeners
from gateway.conformance.http1_reading import State, broken_rule, read_messages
from gateway.conformance.topics import TOPICS

POST = b"POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc"
CHUNKED = b"POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
GET = b"GET /y HTTP/1.1\r\nhost: a\r\n\r\n"
CLOSING = GET[:-2] + b"connection: close\r\n\r\n"
NO_HOST = b"GET /x HTTP/1.1\r\n\r\n"
OLD = b"GET /x HTTP/1.0\r\nhost: a\r\n\r\n"
BARE = b"GET /x HTTP/1.1\nhost: a\n\n"
UPGRADE = b"GET /x HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
DOCUMENT = Path(__file__).parents[2] / "docs" / "spec" / "http.md"


def case(name: str, data: bytes, expected: str) -> dict[str, str]:
    return {"name": name, "bytes_b64": base64.b64encode(data).decode(), "llhttp": expected}


def write(folder: Path, content: object, name: str = "cases.json") -> Path:
    data = json.dumps(content).encode()
    (folder / name).write_bytes(data)
    entry = {"file": name, "sha256": hashlib.sha256(data).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps({"files": [entry]}))
    return folder


def run(folder: Path) -> tuple[int, list[dict[str, Any]]]:
    lines: list[str] = []
    code = run_topic("http1", folder, topics=TOPICS, write_line=lines.append)
    return code, [json.loads(line) for line in lines][:-1]


def test_right_and_wrong_expectations_of_bytes_are_told_apart(tmp_path: Path) -> None:
    """Each row: name, bytes, expectation, whether it is right."""
    rows = [
        ("served", POST, "ok", True),
        ("served in turn", POST + GET + POST, "ok", True),
        ("served to the end", GET + CLOSING, "ok", True),
        ("refused by a stricter rule", NO_HOST, "ok", True),
        ("served, then refused by a stricter rule", GET + NO_HOST + GET, "ok", True),
        ("served in chunks", CHUNKED + b"3\r\nabc\r\n0\r\n\r\n", "ok", True),
        ("a body that is not over", POST[:-1], "ok", True),
        ("nothing at all", b"", "ok", True),
        ("no http", BARE, "error", True),
        ("fault behind a whole message", POST + BARE, "error", True),
        ("more after the last one", CLOSING + GET, "error", True),
        ("fault inside a body", CHUNKED + b"zz\r\n", "error", True),
        ("tunnel", UPGRADE + b"\x00\x01", "upgrade/pause", True),
        ("fault that is none", POST, "error", False),
        ("fault that is none, closed", CLOSING, "error", False),
        ("body that is not over, no fault", POST[:-1], "error", False),
        ("no http is not all right", BARE, "ok", False),
        ("nor is a tunnel", UPGRADE, "ok", True),
        ("no tunnel", POST, "upgrade", False),
    ]  # fmt: skip
    folder = write(tmp_path, [case(name, data, expected) for name, data, expected, _ in rows])
    code, lines = run(folder)
    assert {line["case"]: line["ok"] for line in lines} == {
        f"{name}#{index}": right for index, (name, _, _, right) in enumerate(rows)
    }
    assert code == 10
    assert lines[1]["got"]["forwarder"]["engine"] == 3
    assert lines[1]["got"]["gateway"]["engine"] == 0
    assert lines[4]["got"]["forwarder"]["rule"] == "host"


@pytest.mark.parametrize(
    "content", [[case("x", GET, "perhaps")], [{"name": "x", "llhttp": "ok"}], [3], {"a": []}]
)
def test_a_case_of_unknown_shape_makes_the_directory_malformed(
    content: object, tmp_path: Path
) -> None:
    with pytest.raises(MalformedError):
        run(write(tmp_path, content))


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (NO_HOST, "host"),
        (GET, None),
        (GET[:-2] + b"host: a\r\n\r\n", "host"),
        (OLD, "version"),
        (GET.replace(b"/y", b"http://a/y"), "target"),
        (GET.replace(b"/y", b"//y"), "target"),
        (GET.replace(b"/y", b"/y#z"), "target"),
        (GET.replace(b"a\r", b"a b\r"), "host-form"),
        (GET[:-2] + b"content-length: 0000000000000000000\r\n\r\n", "length"),
        (GET[:-2] + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "coding"),
        (GET[:-2] + b"upgrade: h2c\r\n\r\n", "upgrade"),
        (GET[:-2] + b"transfer-encoding: chunked\r\n\r\n0\r\na: b\r\n\r\n", "trailers"),
        (GET[:-2] + b"x: y\r\n" * 100 + b"\r\n", "head-size"),
        (GET[:-2] + b"x: " + b"y" * 40_000 + b"\r\n\r\n", "head-size"),
    ],
)
def test_a_stricter_rule_is_named_only_where_a_message_breaks_it(
    data: bytes, rule: str | None
) -> None:
    assert broken_rule(read_messages(data).messages[0]) == rule


@pytest.mark.parametrize(
    ("data", "whole", "state"),
    [
        (b"", 0, State.WHOLE),
        (POST + GET, 2, State.WHOLE),
        (POST + GET[:-1], 1, State.IN_HEAD),
        (POST + POST[:-1], 1, State.IN_BODY),
        (POST + BARE + GET, 1, State.ERROR),
        (POST + UPGRADE + GET, 1, State.UPGRADE),
    ],
)
def test_whole_messages_are_those_before_the_first_fault(
    data: bytes, whole: int, state: State
) -> None:
    reading = read_messages(data)
    assert (reading.whole, reading.state) == (whole, state)


def test_every_answer_the_runner_takes_is_documented() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for status, code in REFUSALS:
        assert re.search(rf"\| {status} \| `{code}` \|$", text, re.MULTILINE), code
    for status, code in ANSWERS:
        assert re.search(rf"^\| {status} \| `{code}` \|", text, re.MULTILINE), code


# -- listeners that do what none of ours may ---------------------------------------------------

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
REFUSED = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-length: 40\r\nconnection: close\r\n\r\n"
    b'{"error":{"code":"malformed_request"}}  '
)


class Fake:
    """Listeners that answer what is said first with `said`, and then close or answer once more.

    `engine` is what the engine is said to have got.
    """

    def __init__(self, said: bytes, closes: bool, engine: list[bytes]) -> None:
        self._said = said
        self._closes = closes
        self._engine = engine
        self._server = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def address(self, _listener: str) -> tuple[str, int]:
        host, port = self._server.getsockname()[:2]
        return host, port

    def forget(self) -> None:
        """Nothing is kept."""

    def engine_bodies(self) -> list[bytes]:
        return list(self._engine)

    def close(self) -> None:
        self._server.close()
        self._thread.join(60)

    def _serve(self) -> None:
        peer, _ = self._server.accept()
        with peer:
            peer.recv(65536)
            peer.sendall(self._said)
            if not self._closes and peer.recv(65536):
                self._engine.append(b"")
                peer.sendall(OK)


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., bool]]:
    # At the gateway no engine is asked; here the one listener is the forwarder.
    monkeypatch.setattr(http1, "_LISTENERS", (http1_listeners.FORWARDER,))
    with ExitStack() as stack:

        def judge(data: bytes, expected: str, said: bytes, closes: bool, engine: Any = ()) -> bool:
            fake = Fake(said, closes, list(engine))
            stack.callback(fake.close)
            got = http1._say(cast("Listeners", fake), data)
            return http1._agrees(expected, got)

        yield judge


def test_fake_listeners_that_behave_are_found_to(judged: Callable[..., bool]) -> None:
    assert judged(POST, "ok", OK, False, [b"abc"])
    assert judged(NO_HOST, "ok", REFUSED, True)
    assert judged(BARE, "error", REFUSED, True)
    assert judged(BARE, "error", b"", True)
    assert judged(UPGRADE, "upgrade/pause", REFUSED, True)


@pytest.mark.parametrize(
    ("data", "expected", "said", "closes", "engine"),
    [
        (POST, "ok", OK, False, []),
        (POST, "ok", OK, False, [b"abc", b"abc"]),
        (POST, "ok", OK, False, [b"ab"]),
        (POST, "ok", OK + OK, True, [b"abc"]),
        (POST, "ok", b"HTTP/1.1 502 x\r\ncontent-length: 0\r\n\r\n", True, []),
        (POST, "ok", b"HTTP/1.1 101 x\r\n\r\n", True, []),
        (POST, "ok", b"HTTP/1.1 418 x\r\ncontent-length: 0\r\n\r\n", True, []),
        (POST, "ok", REFUSED, True, []),
        (POST, "ok", b"", True, []),
        (POST, "ok", OK + b"stray", True, [b"abc"]),
        (NO_HOST, "ok", REFUSED, False, []),
        (BARE, "error", OK, True, [b""]),
        (BARE, "error", REFUSED, True, [b""]),
        (BARE, "error", REFUSED, False, []),
        (CLOSING, "error", OK, True, [b""]),
        (UPGRADE, "upgrade/pause", b"HTTP/1.1 101 x\r\n\r\n", True, []),
        (UPGRADE, "upgrade/pause", OK, True, [b""]),
    ],
)
def test_listeners_that_misbehave_are_found_out(
    judged: Callable[..., bool],
    data: bytes,
    expected: str,
    said: bytes,
    closes: bool,
    engine: list[bytes],
) -> None:
    assert not judged(data, expected, said, closes, engine)
