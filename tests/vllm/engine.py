"""One real vLLM on CPU with a tiny model: started, asked, killed and started again."""

from __future__ import annotations

import http.client
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

HERE = Path(__file__).parent
HOST, MODEL = "127.0.0.1", "tiny"
# Three Python processes import torch; on two busy cores that alone has taken four minutes.
START_SECONDS = 420
STOP_SECONDS = 30
GENERATING = (
    *("--enable-auto-tool-choice", "--tool-call-parser", "hermes"),
    *("--enable-request-id-headers", "--enable-prompt-tokens-details"),
)
POOLING = ("--runner", "pooling", "--convert", "embed")


def free_port() -> int:
    """A port that nobody listens on, and that the system gives to nobody's connection.

    An engine that is started again needs its port back; one of the ephemeral range could be
    taken by then.
    """
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for port in random.sample(range(10_000, max(first, 20_000)), 100):
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    pytest.fail("expected a free port among a hundred, saw none")


@dataclass(slots=True, kw_only=True)
class Engine:
    """A vLLM: where it is, what it serves, its own view of what it does, and its processes.

    `flags` are added to the command line, `variables` to the environment.  It keeps its port
    when it is killed and started again.
    """

    scratch: Path
    flags: tuple[str, ...] = GENERATING
    variables: Mapping[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    host: str = HOST
    model: str = MODEL
    version: str = ""
    process: subprocess.Popen[bytes] | None = None

    @property
    def base_url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def log(self) -> Path:
        return self.scratch / "engine.log"

    def start(self) -> None:
        """Start it, and wait until it is healthy."""
        folder = _prepared_folder()
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                _command(folder, self.port, self.flags),
                env=_environment(folder, self.scratch) | dict(self.variables),
                cwd=self.scratch,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # Not a session: a session is a scheduling group of its own (sched_autogroup), and
                # in one of those Linux 6.18 lets processes that poll with sched_yield, as this
                # engine's do, keep both cores from all others for five seconds and more.
                process_group=0,
            )
        self._wait_until_healthy(self.process)
        self.version = self.get("/version")[1].decode()

    def require_running(self) -> None:
        """Start it unless it runs."""
        if self.process is None or self.process.poll() is not None:
            self.start()

    def stop(self) -> None:
        """End it as an operator would, by force if that takes too long."""
        for what in (signal.SIGTERM, signal.SIGKILL):
            if self._signal(what):
                return

    def kill(self) -> None:
        """Let it die without a word: its connections are closed by the system."""
        assert self._signal(signal.SIGKILL)

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body of one GET, sent to the engine directly."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

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

    def _wait_until_healthy(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if process.poll() is not None:
                pytest.fail(f"vLLM ended with {process.returncode}; last words:\n{self._tail()}")
            try:
                if self.get("/health")[0] == 200:
                    return
            except OSError:
                pass  # not listening yet
            time.sleep(0.5)
        pytest.fail(f"vLLM did not answer /health in {START_SECONDS} s:\n{self._tail()}")

    def _tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-40:])

    def _signal(self, what: int) -> bool:
        """Send a signal to its processes and wait; whether it has ended."""
        process = self.process
        if process is None or process.poll() is not None:
            return True
        # The server has child processes; its own process group makes one signal reach them all.
        os.killpg(process.pid, what)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            return False
        return True


def _prepared_folder() -> Path:
    told = subprocess.run(
        [HERE / "prepare", "--where"], check=True, capture_output=True, text=True
    ).stdout.strip()
    folder = Path(told)
    if not (folder / "models.stamp").exists():
        pytest.fail(f"expected a prepared engine in {folder}, saw none: run `make test-vllm`")
    return folder


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


def _command(folder: Path, port: int, flags: tuple[str, ...]) -> list[str]:
    return [
        *(str(folder / "bin" / "vllm"), "serve", str(folder / "models" / "tiny-random")),
        *("--served-model-name", MODEL, "--host", HOST, "--port", str(port)),
        *("--dtype", "float32", "--max-model-len", "4096", "--max-num-seqs", "16"),
        *("--enforce-eager", *flags),
    ]
