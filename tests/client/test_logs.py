"""`attested log` over the network: bounded, without credentials, the checks those of folders."""

from __future__ import annotations

import builtins
import gzip
import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from attestation.cli.log_folder import open_folder
from attestation.errors import MalformedError, UnavailableError, UsageError
from gateway.cli.log import open_log
from gateway.cli.main import main
from gateway.client import logs
from gateway.client.logs import HttpLog, parse_log_address
from tests.refusals import refusal
from tests.support.gateways import Stack, closed_port
from tests.support.tiled_logs import TiledLog, gateway_entries

Reply = Callable[[BaseHTTPRequestHandler], None]


class LogServer:
    """Serves the files of a log under `/copy`; `replies` take the place of single paths."""

    def __init__(self, log: TiledLog) -> None:
        self.log = log
        self.replies: dict[str, Reply] = {}
        self.seen: list[tuple[str, dict[str, str]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                path = self.path.removeprefix("/copy/")
                headers = {name.lower(): value for name, value in self.headers.items()}
                outer.seen.append((path, headers))
                reply = outer.replies.get(path)
                if reply is not None:
                    reply(self)
                else:
                    answer(self, outer.log.files.get(path))

            def log_message(self, *arguments: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/copy"


def answer(
    handler: BaseHTTPRequestHandler, data: bytes | None, status: int = 200, **headers: str
) -> None:
    body = data if data is not None else b"no such resource"
    handler.send_response(status if data is not None else 404)
    handler.send_header("Content-Length", str(len(body)))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


@contextmanager
def serving(log: TiledLog) -> Iterator[LogServer]:
    server = LogServer(log)
    thread = threading.Thread(target=server.server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.server.shutdown()
        thread.join()
        server.server.server_close()


@pytest.fixture
def served() -> Iterator[LogServer]:
    with serving(TiledLog(entries=gateway_entries(700))) as server:
        yield server


def verify(server: LogServer, *arguments: str) -> int:
    return main(["log", "verify", server.url, "--vkey", server.log.vkey_text, *arguments])


def test_copy_of_a_log_is_verified(served: LogServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(served, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["logs"][0]["size"] == 700
    assert {path for path, _ in served.seen} == set(served.log.files)
    for _, headers in served.seen:
        assert headers["accept-encoding"] == "gzip, identity"
        assert not {"authorization", "cookie"} & headers.keys()


def test_log_is_monitored_as_it_grows(served: LogServer, tmp_path: Path) -> None:
    arguments = ["log", "monitor", served.url, "--vkey", served.log.vkey_text]
    arguments += ["--state", str(tmp_path / "seen.json")]
    served.log.publish(300)
    assert main(arguments) == 0
    served.log.publish(700)
    assert main(arguments) == 0
    served.log.publish(300)
    assert main(arguments) == 10
    assert len(list(tmp_path.glob("seen.json.conflict-*"))) == 2


def test_partial_tile_that_is_gone_is_replaced_by_the_full_one(served: LogServer) -> None:
    served.log.publish(600)
    served.log.files = {
        path: data for path, data in served.log.files.items() if not path.endswith(".p/88")
    } | {
        path.removesuffix(".p/88"): data
        for path, data in TiledLog(entries=gateway_entries(768)).files.items()
        if path in {"tile/0/002", "tile/entries/002"}
    }
    assert verify(served) == 0


def test_changed_byte_is_refused(served: LogServer) -> None:
    served.log.flip("tile/entries/001", 40)
    assert verify(served) == 10


def test_log_without_a_checkpoint_is_refused(served: LogServer) -> None:
    del served.log.files["checkpoint"]
    assert verify(served) == 10


def test_copy_shows_no_evidence_and_needs_a_key(served: LogServer) -> None:
    assert main(["log", "verify", served.url]) == 2


def test_compressed_bundles_are_read(served: LogServer) -> None:
    packed = gzip.compress(served.log.files["tile/entries/000"])
    served.replies["tile/entries/000"] = lambda handler: answer(
        handler, packed, Content_Encoding="gzip"
    )
    assert verify(served) == 0


@pytest.mark.parametrize("status", [301, 401, 403, 429, 500, 503])
def test_other_answers_than_yes_and_no_are_no_evidence(served: LogServer, status: int) -> None:
    served.replies["tile/0/000"] = lambda handler: answer(
        handler, b"", status, Location="/elsewhere"
    )
    assert verify(served) == 14


@pytest.mark.parametrize("status", [404, 410])
def test_denied_resource_is_missing(served: LogServer, status: int) -> None:
    served.replies["tile/0/000"] = lambda handler: answer(handler, b"gone", status)
    assert verify(served) == 10


def test_resource_that_does_not_end_is_cut_off(served: LogServer) -> None:
    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(1 << 40))
        handler.end_headers()
        try:
            while True:
                handler.wfile.write(bytes(1 << 16))
        except OSError:
            handler.close_connection = True

    served.replies["tile/0/000"] = endless
    assert verify(served) == 13


def test_compressed_resource_that_grows_beyond_its_limit_is_cut_off(served: LogServer) -> None:
    bomb = gzip.compress(bytes(1 << 22))
    served.replies["checkpoint"] = lambda handler: answer(handler, bomb, Content_Encoding="gzip")
    assert verify(served) == 13


def test_broken_compression_is_no_answer(served: LogServer) -> None:
    served.replies["checkpoint"] = lambda handler: answer(
        handler, b"no gzip at all", Content_Encoding="gzip"
    )
    assert verify(served) == 14


def test_resource_that_comes_too_slowly_is_given_up(
    served: LogServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "RESOURCE_SECONDS", -1.0)
    assert verify(served) == 14


def test_server_that_is_not_there_is_unavailable() -> None:
    address = parse_log_address(f"http://127.0.0.1:{closed_port()}")
    log = HttpLog(address)
    try:
        assert refusal(log.read, "checkpoint", limit=9, error=UnavailableError) == "unreachable"
    finally:
        log.close()


def test_resource_is_bounded_by_what_is_asked(served: LogServer) -> None:
    log = HttpLog(parse_log_address(served.url))
    try:
        data = served.log.files["checkpoint"]
        assert log.read("checkpoint", limit=len(data)) == data
        code = refusal(log.read, "checkpoint", limit=len(data) - 1, error=MalformedError)
        assert code == "log_resource"
        assert log.read("absent", limit=1) is None
    finally:
        log.close()


@pytest.mark.parametrize(
    ("url", "origin", "path"),
    [
        ("https://gateway:8443", "https://gateway:8443", "/v1/log"),
        ("https://gateway:443/v1/", "https://gateway", "/v1/log"),
        ("https://gateway/v1/log/", "https://gateway", "/v1/log"),
        ("https://mirror.example/logs/a", "https://mirror.example", "/logs/a"),
        ("http://127.0.0.1:80/v1/log", "http://127.0.0.1", "/v1/log"),
        ("unix:/run/gateway.sock", "http://localhost", "/v1/log"),
    ],
)
def test_address_of_a_log(url: str, origin: str, path: str) -> None:
    address = parse_log_address(url)
    assert (address.endpoint.origin, address.path) == (origin, path)
    assert address.of_gateway == (path == "/v1/log")


@pytest.mark.parametrize(
    "url",
    [
        "http://mirror.example/v1/log",
        "ftp://mirror.example/v1/log",
        "https://user:secret@gateway/v1/log",
        "https://gateway/v1/log?x=1",
        "https://[gateway/v1/log",
        "https:///v1/log",
        "unix:relative",
    ],
)
def test_address_that_is_none_is_refused_without_being_repeated(url: str) -> None:
    assert refusal(parse_log_address, url, error=UsageError) == "address"
    with pytest.raises(UsageError) as caught:
        parse_log_address(url)
    assert "secret" not in str(caught.value)


def test_folder_is_opened_as_in_the_base_install(tmp_path: Path) -> None:
    TiledLog(entries=gateway_entries(3)).write(tmp_path)
    (one,), (other,) = open_log(str(tmp_path)), open_folder(str(tmp_path))
    assert one.name == other.name == str(tmp_path)


def test_missing_client_is_named_only_where_an_address_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = TiledLog(entries=gateway_entries(3))
    log.write(tmp_path)
    real = builtins.__import__

    def without(name: str, *arguments: Any, **more: Any) -> Any:
        if name.startswith("httpx"):
            raise ModuleNotFoundError(name=name)
        return real(name, *arguments, **more)

    for name in [name for name in sys.modules if name.partition(".")[0] == "httpx2"]:
        monkeypatch.delitem(sys.modules, name)
    for name in [name for name in sys.modules if name.startswith("gateway.client")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without)
    assert main(["log", "verify", str(tmp_path), "--vkey", log.vkey_text]) == 0
    assert refusal(open_log, "https://gateway", error=UsageError) == "extra"


def test_gateway_s_own_log_is_verified_with_the_evidence_it_shows(
    stack: Stack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["log", "verify", stack.gateway.url]) == 0
    assert "of the boot beside the log, NOT checked against a quote" in capsys.readouterr().out
    state = ["--state", str(tmp_path / "seen.json")]
    assert main(["log", "monitor", f"{stack.gateway.url}/v1/log", *state]) == 0
    assert main(["log", "monitor", f"{stack.gateway.url}/v1/log", *state]) == 0
