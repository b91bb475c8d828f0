"""A gateway in several processes, engines in this one, and connections to chosen workers."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from attestation.receipt.claims import End
from attestation.receipt.signing import Receipt, parse_receipt
from gateway.cli.local.loop import LoopThread
from gateway.engine.scripted import Close, Script, ScriptedEngine
from gateway.engine.standin import StandInEngine
from tests.support.logs import tokens_of
from tests.support.serving import Served, serving, wait_until

EVENT = b'data: {"id":"c","model":"m","choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
HANGING_STREAM = Script(writes=(EVENT,) * 3, close=Close.HANG)
HANGING_ANSWER = Script(writes=(b'{"id":',), close=Close.HANG, content_type="application/json")
QUESTION = {"model": "stand-in-1", "messages": [{"role": "user", "content": "x"}]}


@dataclass(slots=True, kw_only=True)
class Fleet:
    """A served gateway and what a test asks of it."""

    served: Served

    @property
    def workers(self) -> list[int]:
        """The workers that live, replaced ones included."""
        return children(self.served.process.pid, "gateway.processes.worker")

    @property
    def notary(self) -> int:
        return self.served.notary_pid

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.served.key}"}

    def client(self) -> httpx2.Client:
        """A client of its own connections."""
        return httpx2.Client(
            base_url=self.served.url, headers=self.headers, trust_env=False, timeout=60
        )

    def ask(self) -> httpx2.Response:
        with self.client() as client:
            return client.post("/v1/chat/completions", json=QUESTION)

    def receipt(self, jti: str) -> Receipt:
        """The receipt as its owner fetches it, through whichever worker answers."""
        documents: list[dict[str, Any]] = []

        def sealed() -> bool:
            with self.client() as client:
                answer = client.get(f"/v1/receipts/{jti}")
            documents.append(answer.json())
            return answer.status_code == 200

        wait_until(sealed)
        return parse_receipt(documents[-1]["receipt"])

    def end(self, jti: str) -> End:
        return self.receipt(jti).claims.response.end

    def kept(self) -> list[Receipt]:
        return [parse_receipt(token) for token in tokens_of(self.served.boot)]


def children(parent: int, module: str) -> list[int]:
    """The processes that `parent` started to run `module`, oldest first."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            status = (path / "stat").read_text().rpartition(")")[2].split()
            if int(status[1]) == parent and status[0] != "Z":
                command = (path / "cmdline").read_bytes().decode().split("\0")
                if module in command:
                    found.append(int(path.name))
    return sorted(found)


def state(pid: int) -> str:
    """The letter that the kernel has for what the process does; "" if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def alive(pid: int) -> bool:
    """Whether the process runs; one that only waits to be reaped does not."""
    return state(pid) not in {"", "Z", "X"}


def worker_of(client_port: int, candidates: list[int]) -> int:
    """Which of the workers holds the connection that comes from this port."""
    wanted = f":{client_port:04X}"
    for family in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{family}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[2].endswith(wanted):
                inode = f"socket:[{fields[9]}]"
                for pid in candidates:
                    if inode in links(pid):
                        return pid
    raise LookupError(client_port)


def links(pid: int) -> set[str]:
    """What the descriptors of a process point to."""
    found = set()
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            found.add(str(path.readlink()))
    return found


@contextlib.contextmanager
def standing_still(pids: Iterable[int]) -> Iterator[None]:
    """Stop these workers meanwhile: new connections go to the others."""
    stopped = tuple(pids)
    try:
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        for pid in stopped:
            wait_until(lambda pid=pid: state(pid) == "T")  # type: ignore[misc]
        yield
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)


@dataclass(slots=True, kw_only=True)
class Hanging:
    """A request that the engine will never finish: its connection, worker and receipt id."""

    sock: socket.socket
    worker: int
    jti: str

    def rest(self) -> bytes:
        """What still arrives until the connection ends."""
        self.sock.settimeout(60)
        found = b""
        with self.sock, contextlib.suppress(ConnectionError):
            while data := self.sock.recv(1 << 16):
                found += data
        return found


def hang(fleet: Fleet, engine: ScriptedEngine, **members: object) -> Hanging:
    """Send a request that hangs and wait until the engine has it."""
    before = len(engine.requests)
    message = {"role": "user", "content": "hang"}
    body = json.dumps({"model": "m", "messages": [message], **members}).encode()
    sock = socket.create_connection(("127.0.0.1", fleet.served.port))
    sock.sendall(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        b"authorization: Bearer %b\r\ncontent-length: %d\r\n\r\n%b"
        % (fleet.served.key.encode(), len(body), body)
    )
    wait_until(lambda: len(engine.requests) > before)
    jti = engine.requests[-1].header("x-request-id")
    assert jti is not None
    return Hanging(sock=sock, worker=worker_of(sock.getsockname()[1], fleet.workers), jti=jti)


@pytest.fixture
def loop() -> Iterator[LoopThread]:
    with LoopThread() as thread:
        yield thread


@pytest.fixture
def engine(loop: LoopThread) -> Iterator[Callable[..., ScriptedEngine]]:
    """`engine(play)` starts an engine that plays what it is told."""
    with ExitStack() as stack:

        def begin(play: Any) -> ScriptedEngine:
            one = ScriptedEngine(play)
            loop.call(one.start())
            stack.callback(lambda: loop.call(one.close()))
            return one

        yield begin


@pytest.fixture
def standin(loop: LoopThread) -> Iterator[Callable[..., str]]:
    """`standin(delay=…)` starts a stand-in engine and gives its address."""
    with ExitStack() as stack:

        def begin(*, delay: float = 0.0) -> str:
            one = StandInEngine(delay=delay)
            stack.callback(lambda: loop.call(one.close()))
            return loop.call(one.start())

        yield begin


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Callable[..., Fleet]]:
    """`fleet(engine_address, workers=2, …)` starts `attested serve`."""
    with ExitStack() as stack:

        def begin(address: str, *, workers: int = 2, **tables: Any) -> Fleet:
            arguments = ("--workers", str(workers))
            served = stack.enter_context(serving(tmp_path, address, *arguments, **tables))
            return Fleet(served=served)

        yield begin


def play(request: Any) -> Script:
    """Hang where the question says so, answer at once where it does not."""
    body = json.loads(request.body)
    hang = body["messages"][0]["content"] == "hang"
    if hang:
        return HANGING_STREAM if body.get("stream") else HANGING_ANSWER
    return Script(
        writes=(b'{"id":"c","model":"m","choices":[]}',),
        close=Close.CLEAN,
        content_type="application/json",
    )


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
