"""`attested serve` between two fault proxies, a raw client, and the accounts of every request."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from attestation.bundle import parse_bundle
from attestation.receipt.block import find_block, remove_block
from attestation.receipt.claims import End, ReceiptClaims
from attestation.receipt.commitments import Openings, parse_openings
from attestation.receipt.signing import parse_receipt, verify_receipt_signature
from gateway.cli.local.loop import LoopThread
from gateway.engine.scripted import JSON, Close, Script, ScriptedEngine
from tests.outcomes.bench import ANSWER, DONE, EVENTS, Play, opened
from tests.support.faults import FaultProxy, Plan, faulty
from tests.support.logs import tokens_of
from tests.support.serving import PATIENCE, Served, serving, wait_until

CHAT = "/v1/chat/completions"
# An engine connection for each request: what a test breaks is the one it means.
ONCE = (("connection", "close"),)
PLAIN = Script(writes=(ANSWER,), close=Close.LENGTH, content_type=JSON, headers=ONCE)
STREAM = Script(writes=(*EVENTS, DONE), headers=ONCE)
STREAMED = b"".join(EVENTS) + DONE
# No engine is left alone here, and none is asked for its health: each test breaks what it needs.
HEALTH = {"interval": 0.0, "failures": 100, "cooldown": 0.1}


def body_of(*, stream: bool = False, words: int = 1) -> bytes:
    message = {"role": "user", "content": "word " * words}
    return json.dumps({"model": "m", "messages": [message], "stream": stream}).encode()


@dataclass(slots=True, kw_only=True)
class Reply:
    """What a client read; `ended`: whether HTTP says that this was the whole of it."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    ended: bool = False

    @property
    def jti(self) -> str:
        return self.headers["x-receipt-id"]

    @property
    def code(self) -> str:
        """The code of an error answer, or of the error event that ends a stream."""
        text = self.body.rpartition(b"data: ")[2] if b"data: " in self.body else self.body
        code: str = json.loads(text)["error"]["code"]
        return code


class Talk:
    """One connection of a client, spoken to in raw bytes."""

    def __init__(self, address: str, key: str) -> None:
        place = ("127.0.0.1", int(address.rpartition(":")[2]))
        self.sock = socket.create_connection(place, PATIENCE)
        self.key = key
        self.read = b""

    def head(self, length: int, *lines: str, path: str = CHAT) -> bytes:
        start = [f"POST {path} HTTP/1.1", "host: a", f"authorization: Bearer {self.key}"]
        start += ["content-type: application/json", f"content-length: {length}", *lines, "", ""]
        return "\r\n".join(start).encode()

    def ask(self, body: bytes, *lines: str, path: str = CHAT) -> None:
        self.sock.sendall(self.head(len(body), *lines, path=path) + body)

    def until(self, met: Callable[[bytes], bool]) -> bytes:
        """Read until that much is there, or the connection has ended."""
        while not met(self.read):
            try:
                data = self.sock.recv(65536)
            except ConnectionError:
                break
            if not data:
                break
            self.read += data
        return self.read

    def reply(self) -> Reply:
        """The next answer, as far as it comes."""
        reply = Reply()
        if b"\r\n\r\n" not in self.until(lambda seen: b"\r\n\r\n" in seen):
            return reply
        head, _, rest = self.read.partition(b"\r\n\r\n")
        start, *lines = head.decode("latin-1").split("\r\n")
        reply.status = int(start.split(" ")[1])
        reply.headers = {
            name.lower(): value for name, value in (line.split(": ", 1) for line in lines)
        }
        self.read = rest
        if reply.headers.get("transfer-encoding") == "chunked":
            reply.body, reply.ended = self._chunks()
        else:
            length = int(reply.headers["content-length"])
            reply.body = self.until(lambda seen: len(seen) >= length)[:length]
            reply.ended = len(reply.body) == length
        return reply

    def _chunks(self) -> tuple[bytes, bool]:
        whole = b""
        while True:
            self.until(lambda seen: b"\r\n" in seen)
            size, found, rest = self.read.partition(b"\r\n")
            if not found:
                return whole, False
            length = int(size, 16)
            self.read = rest
            self.until(lambda seen: len(seen) >= length + 2)  # noqa: B023 - called in this turn
            whole += self.read[:length]
            if len(self.read) < length + 2:
                return whole, False
            self.read = self.read[length + 2 :]
            if length == 0:
                return whole, True

    def leave(self) -> None:
        """Close at once; what was not read makes it a reset, as when a program is killed."""
        self.sock.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """A receipt that its owner fetched and whose signature held."""

    claims: ReceiptClaims
    openings: Openings

    @property
    def end(self) -> End:
        return self.claims.response.end

    @property
    def tries(self) -> list[tuple[str, str]]:
        return [(one.upstream, one.outcome) for one in self.claims.attempts]


@dataclass(slots=True, kw_only=True)
class Bench:
    """A served gateway; `ways` are the proxies in front of the engines, `front` the callers'."""

    served: Served
    engines: list[ScriptedEngine]
    ways: list[FaultProxy]
    front: FaultProxy
    talks: list[Talk] = field(default_factory=list)

    @property
    def engine(self) -> ScriptedEngine:
        return self.engines[0]

    @property
    def way(self) -> FaultProxy:
        return self.ways[0]

    @property
    def asked(self) -> int:
        """How many requests reached an engine."""
        return sum(len(engine.requests) for engine in self.engines)

    def fresh(self, *plans: Plan, play: Play = PLAIN, front: Plan | None = None) -> None:
        """Connections from now on have these plans, engine by engine, and engines this answer."""
        self.front.plan = front or Plan()
        for index, engine in enumerate(self.engines):
            engine.set(play)
            self.ways[index].plan = plans[index] if index < len(plans) else Plan()

    def talk(self, *, through: FaultProxy | None = None) -> Talk:
        """A connection to the gateway, or to the proxy before it."""
        one = Talk(self.served.url if through is None else through.address, self.served.key)
        self.talks.append(one)
        return one

    def close(self) -> None:
        for talk in self.talks:
            talk.leave()

    def get(self, path: str) -> httpx2.Response:
        headers = {"authorization": f"Bearer {self.served.key}"}
        return httpx2.get(self.served.url + path, headers=headers, trust_env=False, timeout=60)

    def sealed(self, jti: str) -> Sealed:
        """The receipt, once there is one; its signature is verified."""
        answers: list[httpx2.Response] = []

        def there() -> bool:
            answers.append(self.get(f"/v1/receipts/{jti}"))
            return answers[-1].status_code == 200

        wait_until(there)
        document: dict[str, Any] = answers[-1].json()
        receipt = parse_receipt(document["receipt"])
        (boot,) = parse_bundle((self.served.boot / "boot.json").read_bytes()).boots
        verify_receipt_signature(receipt, boot.keyset.receipt_key)
        assert receipt.claims.jti == jti
        return Sealed(claims=receipt.claims, openings=parse_openings(document["openings"]))

    def checked(self, reply: Reply, sent: bytes) -> Sealed:
        """The receipt of an answer that was read whole: it opens to just what went by."""
        sealed = self.sealed(reply.jti)
        claims, body = sealed.claims, reply.body
        if claims.response.block_offset is not None and (block := find_block(body)) is not None:
            body = remove_block(body, block.offset, body[block.offset :][: block.length])
        opened(claims.request.commitment, sealed.openings, "req", sent)
        opened(claims.response.commitment, sealed.openings, "res", body)
        assert claims.response.status == reply.status
        return sealed

    @contextlib.contextmanager
    def accounted(self, *, receipts: int = 1, asked: int = 1) -> Iterator[list[Sealed]]:
        """What happens inside makes so many receipts and engine requests, and leaves nothing.

        The receipts are in the list afterwards, from the log itself.
        """
        before, engine = len(tokens_of(self.served.boot)), self.asked
        found: list[Sealed] = []
        yield found
        wait_until(self._drained)
        new = tokens_of(self.served.boot)[before:]
        found += [self.sealed(parse_receipt(token).claims.jti) for token in new]
        assert len(new) == receipts
        assert self.asked - engine == asked
        admissions = [one.claims.log.admission for one in found]
        assert len(set(admissions)) == len(admissions)
        assert not [event for event in self.served.events if event["event"] == "internal_error"]

    def _drained(self) -> bool:
        shown = self.served.metrics()
        total = dict.fromkeys(("attested_admitted_total", "attested_receipts_total"), 0.0)
        for sample, value in shown.items():
            name = sample.partition("{")[0]
            if name in total:
                total[name] += value
        return shown["attested_in_flight"] == 0 and len(set(total.values())) == 1

    def engine_left(self, *ways: FaultProxy) -> None:
        """The gateway has closed the newest connection to these engines (the first) by itself."""
        for way in ways or (self.way,):
            wait_until(lambda way=way: way.last.over)  # type: ignore[misc]
            assert way.last.client_left


@contextlib.contextmanager
def bench_of(
    folder: Path, engines: int = 1, *, upstream: Sequence[dict[str, Any]] = (), **tables: Any
) -> Iterator[Bench]:
    """A gateway with so many engines behind proxies; `upstream` has settings for each."""
    with ExitStack() as stack:
        loop = stack.enter_context(LoopThread())
        started = [ScriptedEngine(PLAIN) for _ in range(engines)]
        ways = []
        for engine in started:
            address = loop.call(engine.start())
            stack.callback(lambda engine=engine: loop.call(engine.close()))  # type: ignore[misc]
            ways.append(stack.enter_context(faulty(address)))
        listed = [
            {"name": f"e{index}", "url": way.address, **(upstream[index] if upstream else {})}
            for index, way in enumerate(ways)
        ]
        options: dict[str, Any] = {"health": HEALTH, **tables}
        served = stack.enter_context(serving(folder, listed, **options))
        front = stack.enter_context(faulty(served.url))
        bench = Bench(served=served, engines=started, ways=ways, front=front)
        stack.callback(bench.close)
        yield bench
