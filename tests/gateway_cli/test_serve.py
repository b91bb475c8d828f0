"""`attested serve` as a process: start-up, signals, and what it leaves behind."""

from __future__ import annotations

import json
import re
import resource
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from attestation.receipt.claims import End
from attestation.receipt.signing import parse_receipt
from gateway.access.keyfile import add_key
from gateway.access.principal import Grant
from tests.support.logs import only_boot, tokens_of

CHAT = "/v1/chat/completions"


@dataclass
class Served:
    """A gateway process; `err` is what it wrote to stderr until it was ready."""

    process: subprocess.Popen[str]
    url: str
    key: str
    err: list[str] = field(default_factory=list)

    @property
    def notary(self) -> int:
        (line,) = (line for line in self.err if line.startswith("  processes"))
        found = re.search(r"notary (\d+)", line)
        assert found is not None
        return int(found[1])

    def post(self, body: Mapping[str, object]) -> tuple[int, bytes]:
        request = urllib.request.Request(  # noqa: S310 - loopback
            self.url + CHAT,
            data=json.dumps(body).encode(),
            headers={"content-type": "application/json", "authorization": f"Bearer {self.key}"},
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=60) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str, str]:
        self.process.send_signal(number)
        stdout, stderr = self.process.communicate(timeout=60)
        return self.process.returncode, stdout, "".join(self.err) + stderr


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "gateway.toml"
    path.write_text(
        f"""
        name = "gw.test"
        listen.port = 0
        tls.mode = "off"
        upstream.uds = "{tmp_path}/engine.sock"
        access.keys_file = "keys.json"
        notary.data_dir = "data"
        evidence.provider = "simulated:"
        limits.drain_seconds = 1
        """
    )
    return path


@pytest.fixture
def key(config: Path) -> str:
    return add_key(config.parent / "keys.json", label="l", grant=Grant(), now=int(time.time()))


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "gateway.cli.main", *arguments]


@contextmanager
def process(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as started:
        try:
            yield started
        finally:
            if started.poll() is None:
                started.kill()


@contextmanager
def serving(config: Path, key: str) -> Iterator[Served]:
    with process("serve", "--config", str(config)) as started:
        assert started.stderr is not None
        lines: list[str] = []
        for line in started.stderr:
            lines.append(line)
            if "  channel " in line:
                break
        found = re.search(r'"address": "([^"]+)"', "".join(lines))
        assert found is not None, "".join(lines)
        yield Served(started, found[1], key, lines)


@contextmanager
def engine(folder: Path) -> Iterator[None]:
    with process("demo-engine", "--uds", f"{folder}/engine.sock") as started:
        assert started.stdout is not None
        started.stdout.readline()
        yield
        started.terminate()


def test_process_serves_shows_itself_once_and_ends_with_0(config: Path, key: str) -> None:
    with engine(config.parent), serving(config, key) as served:
        body = {"model": "stand-in-1", "messages": [{"role": "user", "content": "hi"}]}
        status, answer = served.post(body)
        assert status == 200, answer
        code, stdout, stderr = served.stop()
    assert (code, stdout) == (0, "")
    assert stderr.count("attested-gateway is ready") == 1
    assert served.url in stderr
    assert "SIMULATED" in stderr
    assert "plain HTTP: confidentiality of the channel is not proved" in stderr
    events = [json.loads(line) for line in stderr.splitlines() if line.startswith("{")]
    assert [event["event"] for event in events] == [
        "boot.started",
        "listening",
        "stopping",
        "boot.ended",
    ]


def test_interrupt_ends_it_as_cleanly(config: Path, key: str) -> None:
    with serving(config, key) as served:
        assert served.stop(signal.SIGINT)[0] == 0


def test_request_that_never_ends_is_cut_and_receipted_at_shutdown(config: Path, key: str) -> None:
    with socket.socket(socket.AF_UNIX) as hanging:
        hanging.bind(f"{config.parent}/engine.sock")
        hanging.listen()
        with serving(config, key) as served:
            host, port = served.url.removeprefix("http://").split(":")
            body = b'{"model":"m","messages":[]}'
            with socket.create_connection((host, int(port))) as client:
                client.sendall(
                    b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
                    b"authorization: Bearer %b\r\ncontent-length: %d\r\n\r\n%b"
                    % (CHAT.encode(), key.encode(), len(body), body)
                )
                accepted, _ = hanging.accept()
                accepted.recv(1 << 16)
                assert served.stop()[0] == 0
                accepted.close()
    (token,) = tokens_of(only_boot(config.parent / "data"))
    assert parse_receipt(token).claims.response.end is not End.COMPLETE


def test_nothing_of_a_request_is_printed_or_kept(config: Path, key: str) -> None:
    canary = "canary-" + secrets.token_hex(8)
    with engine(config.parent), serving(config, key) as served:
        body = {"model": "stand-in-1", "messages": [{"role": "user", "content": canary}]}
        status, answer = served.post(body)
        assert status == 200
        assert served.post({"model": canary, "messages": canary})[0] >= 400
        _, stdout, stderr = served.stop()
    text = json.loads(answer)["choices"][0]["message"]["content"]
    files = (path for path in (config.parent / "data").rglob("*") if path.is_file())
    kept = "".join(path.read_text(errors="replace") for path in files)
    for token in (canary, key, text):
        assert token not in stdout + stderr + kept


def test_taken_port_is_one_message_and_no_boot(config: Path, key: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            command("serve", "--config", str(config), "--set", f"listen.port={port}"),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert done.returncode == 2
    assert f"cannot listen on 127.0.0.1 port {port}" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (config.parent / "data").exists()


@pytest.mark.parametrize(
    ("assignment", "code", "text"),
    [
        ("evidence.provider=nothing:", 2, "no quote provider"),
        ("evidence.provider=configfs-tsm:/nonexistent/tsm/report", 14, "no configfs"),
        ("evidence.collateral_file=/nonexistent", 14, "collateral file"),
        ("access.keys_file=/nonexistent", 14, "attested keys add"),
        ("evidence.collateral_file=/dev/null", 13, "the collateral file /dev/null cannot be used"),
        ("notary.data_dir=/nonexistent/data", 14, "notary.data_dir"),
        ("notary.data_dir=/dev/null", 14, "is no folder"),
        ("listen.host=192.0.2.1", 2, "plain HTTP is refused"),
    ],
)
def test_start_that_cannot_work_is_one_message(
    config: Path, key: str, assignment: str, code: int, text: str
) -> None:
    done = subprocess.run(
        command("serve", "--config", str(config), "--set", assignment),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == code, done.stderr
    assert text in done.stderr
    assert "Traceback" not in done.stderr
    assert "ready" not in done.stderr


def test_boot_that_ends_by_itself_ends_the_process_with_its_reason(config: Path, key: str) -> None:
    with engine(config.parent), serving(config, key) as served:
        boot = only_boot(config.parent / "data")
        # The kernel refuses further growth of files in that process: a real failed write.
        size = (boot / "segments" / "000000.seg").stat().st_size
        resource.prlimit(served.notary, resource.RLIMIT_FSIZE, (size, size))
        body = {"model": "stand-in-1", "messages": [{"role": "user", "content": "hi"}]}
        status, _ = served.post(body)
        assert status == 503
        _, stderr = served.process.communicate(timeout=60)
    assert served.process.returncode == 14
    assert "log_failed" in stderr
