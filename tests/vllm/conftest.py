"""A real vLLM with a tiny model, started once for all end-to-end tests and ended by its pid."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import openai
import pytest

from gateway.client.session import Session
from tests.support.serving import Served, serving

HERE = Path(__file__).parent
# Three Python processes import torch; on two busy cores that alone has taken four minutes.
START_SECONDS = 420
STOP_SECONDS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """A running vLLM: where it is, what it serves, and its own view of what it does."""

    host: str
    port: int
    model: str
    version: str
    log: Path

    @property
    def base_url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body of one GET, sent to the engine directly."""
        return _get(self.host, self.port, path)

    def metrics(self) -> dict[str, float]:
        """The engine's metrics, summed over labels: `{"vllm:num_requests_running": 0.0, …}`."""
        status, body = self.get("/metrics")
        assert status == 200, f"expected 200 from /metrics, saw {status}"
        totals: dict[str, float] = {}
        for line in body.decode().splitlines():
            if line and not line.startswith("#"):
                sample, _, number = line.rpartition(" ")
                name = sample.partition("{")[0]
                totals[name] = totals.get(name, 0.0) + float(number)
        return totals


def _get(host: str, port: int, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(host, port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def _prepared_folder() -> Path:
    told = subprocess.run(
        [HERE / "prepare", "--where"], check=True, capture_output=True, text=True
    ).stdout.strip()
    folder = Path(told)
    if not (folder / "models.stamp").exists():
        pytest.fail(f"expected a prepared engine in {folder}, saw none: run `make test-vllm`")
    return folder


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _environment(folder: Path, scratch: Path) -> dict[str, str]:
    # Named one by one: nothing of the caller's environment may steer or slow the engine.
    return {
        "PATH": f"{folder / 'bin'}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(scratch),
        "LANG": "C.UTF-8",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
        "VLLM_PLUGINS": "",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CONFIG_ROOT": str(scratch / "config"),
        # Compiled kernels and byte code are the same every time: kept with the engine.
        "VLLM_CACHE_ROOT": str(folder / "var" / "cache"),
        "HF_HOME": str(scratch / "hf"),
    }


def _command(folder: Path, port: int) -> list[str]:
    return [
        *(str(folder / "bin" / "vllm"), "serve", str(folder / "models" / "tiny-random")),
        *("--served-model-name", "tiny", "--host", "127.0.0.1", "--port", str(port)),
        *("--dtype", "float32", "--max-model-len", "4096", "--max-num-seqs", "16"),
        *("--enforce-eager", "--enable-auto-tool-choice", "--tool-call-parser", "hermes"),
        *("--enable-request-id-headers", "--enable-prompt-tokens-details"),
    ]


def _wait_until_healthy(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            pytest.fail(f"vLLM ended with {process.returncode}; its last words:\n{_tail(log)}")
        try:
            if _get("127.0.0.1", port, "/health")[0] == 200:
                return
        except OSError:
            pass  # not listening yet
        time.sleep(0.5)
    pytest.fail(f"vLLM did not answer /health in {START_SECONDS} s; its last words:\n{_tail(log)}")


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-40:])


def _stop(process: subprocess.Popen[bytes]) -> None:
    # The server has two child processes; its own session makes one signal reach all three.
    for what in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, what)
            process.wait(STOP_SECONDS)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


@pytest.fixture(scope="session")
def vllm_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A healthy vLLM over TCP on loopback; one for the whole run, since it takes a minute."""
    folder, scratch, port = _prepared_folder(), tmp_path_factory.mktemp("vllm"), _free_port()
    log = scratch / "engine.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            _command(folder, port),
            env=_environment(folder, scratch),
            cwd=scratch,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_until_healthy(process, port, log)
        version = _get("127.0.0.1", port, "/version")[1].decode()
        yield Engine(host="127.0.0.1", port=port, model="tiny", version=version, log=log)
    finally:
        _stop(process)


@pytest.fixture(scope="session")
def gateway(vllm_server: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """`attested serve` with TLS in front of the engine, for the whole run."""
    version = json.loads(vllm_server.version)["version"].partition("+")[0]
    folder = tmp_path_factory.mktemp("gateway")
    with serving(
        folder,
        vllm_server.base_url,
        tls={"mode": "self-signed"},
        upstream={"engine": f"vllm/{version}", "name": "cpu"},
    ) as served:
        yield served


@pytest.fixture(scope="session")
def key(gateway: Served) -> str:
    """A key that may do everything, made by `attested keys add`."""
    return gateway.key


@pytest.fixture
def session(gateway: Served) -> Session:
    """A session of its own for each test, connected to a key of the attested keyset."""
    return gateway.connect()


@pytest.fixture
def client(session: Session, key: str) -> Iterator[openai.OpenAI]:
    """The unmodified OpenAI client; every answer's receipt is checked before it is given out."""
    with openai.OpenAI(
        base_url=session.base_url,
        api_key=key,
        http_client=session.http_client(),
        max_retries=0,
    ) as made:
        yield made
