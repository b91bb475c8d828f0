"""`attested doctor` and the engine: version, routes that must not be there, how it was started."""

from __future__ import annotations

import asyncio
import json
import os
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.checkup.engine import ADAPTERS, BESIDE, DEVELOPMENT, DOCUMENTATION, engine_findings
from gateway.cli.checkup.finding import Finding, Level
from gateway.settings.engines import EngineSettings
from tests.gateway_cli.doctors import config, doctor

STOCK = {"/version": (200, {"version": "0.32.0"}), "/v1/models": (200, {"data": [{"id": "m"}]})}
Routes = dict[str, tuple[int, Any]]


class Fake:
    """An engine that answers GET as its routes say; everything else is 404 and any POST a bug."""

    def __init__(self, routes: Routes, path: Path | None) -> None:
        self.asked: list[str] = []
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                fake.asked.append(self.path)
                status, document = routes.get(self.path, (404, {"detail": "Not Found"}))
                body = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def address_string(self) -> str:
                return "somebody"

            def log_message(self, *_: object) -> None:
                """Print nothing."""

        if path is None:
            tcp = HTTPServer(("127.0.0.1", 0), Handler)
            self.server: socketserver.BaseServer = tcp
            self.where: dict[str, Any] = {"url": f"http://127.0.0.1:{tcp.server_port}"}
        else:
            self.server = socketserver.ThreadingUnixStreamServer(str(path), Handler)
            self.where = {"uds": path}
        self._thread = threading.Thread(target=self.server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()


@pytest.fixture
def engines() -> Iterator[Callable[..., Fake]]:
    with ExitStack() as stack:

        def make(path: Path | None = None, **routes: Any) -> Fake:
            fake = Fake(STOCK | routes, path)
            stack.callback(fake.close)
            return fake

        yield make


def look(fake: Fake, *, proc: Path = Path("/nowhere"), **settings: Any) -> dict[str, Finding]:
    asked = EngineSettings(name="e", **fake.where, **settings)
    found = asyncio.run(engine_findings(asked, alone=True, proc=proc))
    return {each.id: each for each in found}


def test_stock_engine_on_a_socket_is_well(engines: Callable[..., Fake], tmp_path: Path) -> None:
    fake = engines(tmp_path / "engine.sock")
    found = look(fake, engine="vllm/0.32.0")
    levels = {name.removeprefix("service.engine"): each.level for name, each in found.items()}
    assert levels == {
        "": Level.OK,
        ".version": Level.OK,
        ".routes": Level.OK,
        ".surface": Level.OK,
        ".flags": Level.ABSENT,
    }
    every = {*STOCK, *DEVELOPMENT, *ADAPTERS, *DOCUMENTATION, *BESIDE}
    assert set(fake.asked) == every


@pytest.mark.parametrize("path", DEVELOPMENT)
@pytest.mark.parametrize("status", [200, 405, 401, 500])
def test_route_of_development_mode_is_a_failure_however_it_answers(
    engines: Callable[..., Fake], path: str, status: int
) -> None:
    found = look(engines(**{path: (status, {})}))["service.engine.routes"]
    assert found.level is Level.FAIL
    assert path in found.seen
    assert "VLLM_SERVER_DEV_MODE" in found.todo


@pytest.mark.parametrize("path", ADAPTERS)
def test_route_that_loads_adapters_is_a_failure(engines: Callable[..., Fake], path: str) -> None:
    found = look(engines(**{path: (405, {})}))["service.engine.routes"]
    assert (found.level, found.data["open"]) == (Level.FAIL, [path])
    assert "--enable-lora" in found.todo


def test_answer_too_long_to_read_is_a_route_that_is_there(engines: Callable[..., Fake]) -> None:
    found = look(engines(**{"/server_info": (200, "x" * (2 << 20))}))["service.engine.routes"]
    assert found.level is Level.FAIL


def test_pages_of_documentation_are_a_warning(engines: Callable[..., Fake]) -> None:
    found = look(engines(**{"/docs": (200, {})}))["service.engine.surface"]
    assert (found.level, "--disable-fastapi-docs" in found.todo) == (Level.WARN, True)


def test_routes_past_the_gateway_are_named_but_no_fault_of_an_engine_nobody_else_reaches(
    engines: Callable[..., Fake],
) -> None:
    found = look(engines(**{"/invocations": (405, {}), "/metrics": (200, "")}))
    surface = found["service.engine.surface"]
    assert surface.level is Level.OK
    assert surface.data["open"] == ["/invocations", "/metrics"]


def test_engine_that_others_can_reach_is_a_warning(
    engines: Callable[..., Fake], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = engines(**{"/invocations": (405, {})})
    monkeypatch.setattr("gateway.cli.checkup.engine.is_loopback", lambda _host: False)
    surface = look(fake)["service.engine.surface"]
    assert surface.level is Level.WARN
    assert "/invocations" in surface.seen
    assert "--uds" in surface.todo


@pytest.mark.parametrize(
    ("answer", "level"),
    [
        ((200, {"version": "0.33.0"}), Level.WARN),
        ((404, {}), Level.ABSENT),
        ((200, {"version": 7}), Level.ABSENT),
        ((200, []), Level.ABSENT),
    ],
)
def test_version_that_is_another_or_none_is_told(
    engines: Callable[..., Fake], answer: tuple[int, Any], level: Level
) -> None:
    found = look(engines(**{"/version": answer}), engine="vllm/0.32.0")
    assert found["service.engine.version"].level is level


def test_version_is_shown_without_control_characters(engines: Callable[..., Fake]) -> None:
    fake = engines(**{"/version": (200, {"version": "1\x1b[2J" + "9" * 100})})
    seen = look(fake)["service.engine.version"].seen
    assert seen.isprintable()
    assert len(seen) < 80


def started(folder: Path, words: list[str], variables: dict[str, str]) -> Path:
    """A /proc in which this process, which serves the engine's socket, was started so."""
    own = folder / "proc" / str(os.getpid())
    own.mkdir(parents=True)
    (own / "cmdline").write_bytes(b"\0".join(word.encode() for word in words) + b"\0")
    pairs = [f"{name}={value}" for name, value in variables.items()]
    (own / "environ").write_bytes(b"\0".join(pair.encode() for pair in pairs) + b"\0")
    return folder / "proc"


@pytest.mark.parametrize(
    ("words", "variables", "named"),
    [
        (["--enable-log-requests"], {}, "--enable-log-requests"),
        (["--otlp-traces-endpoint=http://x"], {}, "--otlp-traces-endpoint"),
        (["--enable-lora", "--api-key", "canary"], {}, "--enable-lora"),
        ([], {"VLLM_SERVER_DEV_MODE": "1", "KEY": "canary"}, "VLLM_SERVER_DEV_MODE"),
        ([], {"VLLM_DEBUG_LOG_API_SERVER_RESPONSE": "True"}, "VLLM_DEBUG_LOG_API_SERVER_RESPONSE"),
    ],
)
def test_flag_or_variable_that_writes_content_down_is_named_and_nothing_else(
    engines: Callable[..., Fake],
    tmp_path: Path,
    words: list[str],
    variables: dict[str, str],
    named: str,
) -> None:
    fake = engines(tmp_path / "engine.sock")
    found = look(fake, proc=started(tmp_path, ["vllm", "serve", *words], variables))
    flags = found["service.engine.flags"]
    assert (flags.level, flags.data["flags"]) == (Level.WARN, [named])
    assert "canary" not in json.dumps(flags.to_json())


def test_engine_started_as_it_should_be_is_well(
    engines: Callable[..., Fake], tmp_path: Path
) -> None:
    fake = engines(tmp_path / "engine.sock")
    proc = started(
        tmp_path,
        ["vllm", "serve", "--no-enable-log-requests", "--served-model-name", "--enable-loraX"],
        {"VLLM_SERVER_DEV_MODE": "0", "VLLM_TRACE_FUNCTION": ""},
    )
    assert look(fake, proc=proc)["service.engine.flags"].level is Level.OK


def test_every_line_of_the_engine_is_in_the_report(
    tmp_path: Path, engine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = doctor(*config(tmp_path, engine), capsys=capsys)
    assert code == 0
    for part in ("", ".version", ".routes", ".surface", ".flags"):
        assert found[f"service.engine{part}"]["level"] in {"ok", "absent"}
