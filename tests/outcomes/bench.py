"""A whole gateway over real sockets: real notary, real disk, scripted engine, raw client."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from attestation.encoding.digest import Digest
from attestation.receipt.block import find_block, remove_block
from attestation.receipt.claims import ReceiptClaims
from attestation.receipt.commitments import (
    Openings,
    parse_openings_header,
    verify_commitment,
)
from attestation.receipt.signing import parse_receipt, verify_receipt_signature
from gateway.access.keyfile import add_key
from gateway.access.principal import Grant, subject_of
from gateway.access.slots import RefusalBudget
from gateway.access.store import Clocks, KeyStore
from gateway.attester.simulated.provider import RealDevices, open_simulated
from gateway.edge.inference import InferenceRoutes
from gateway.edge.limits import ConnectionLimits, EdgeLimits
from gateway.edge.padding import UNPADDED, StreamPadding
from gateway.edge.salt import BodyRewriter, SaltMode
from gateway.edge.server import EdgeServer, Listen, bind
from gateway.engine.scripted import JSON, Close, Script, ScriptedEngine
from gateway.engine.wire import EngineRequest
from gateway.notary.boot import BootPlan
from gateway.notary.interface import ReceiptState
from gateway.notary.local import LocalNotary
from gateway.notary.parts import NotaryLimits, NotaryParts
from gateway.telemetry.metrics import Metrics
from gateway.upstream import Engines, Upstream, UpstreamLimits, parse_engine_url

CHAT = "/v1/chat/completions"
QUESTION = b'{"model":"m","messages":[{"role":"user","content":"h\xc3\xa9"}]}'
ANSWER = (
    b'{"id":"c","model":"m-served","choices":[{"index":0,"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}'
)
EVENTS = (
    b'data: {"id":"c","model":"m-served","choices":[{"index":0,"delta":{"content":"a"}}]}\n\n',
    b': note\n\ndata: {"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n',
)
DONE = b"data: [DONE]\n\n"
PLAIN = Script(writes=(ANSWER[:40], ANSWER[40:]), close=Close.CLEAN, content_type=JSON)
STREAM = Script(writes=(*EVENTS, DONE))
Play = Script | Callable[[EngineRequest], Script]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a client read: `ended` says whether the answer's own framing said it was over."""

    status: int
    headers: dict[str, str]
    body: bytes
    ended: bool = True

    @property
    def jti(self) -> str:
        return self.headers["x-receipt-id"]

    def error(self) -> dict[str, object]:
        found = json.loads(self.body)["error"]
        assert isinstance(found, dict)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """A receipt that was found, parsed and whose signature held."""

    claims: ReceiptClaims
    token: str
    openings: Openings


class Client:
    """One connection, spoken to in raw bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def head(self) -> tuple[int, dict[str, str]]:
        raw = await self.reader.readuntil(b"\r\n\r\n")
        start, *lines = raw.decode("latin-1").split("\r\n")[:-2]
        pairs = (line.split(": ", 1) for line in lines)
        return int(start.split(" ")[1]), {name.lower(): value for name, value in pairs}

    async def reply(self) -> Reply:
        status, headers = await self.head()
        body = bytearray()
        try:
            if headers.get("transfer-encoding") == "chunked":
                while piece := await self.chunk():
                    body += piece
            else:
                body += await self.reader.readexactly(int(headers["content-length"]))
        except (asyncio.IncompleteReadError, ConnectionError):
            return Reply(status=status, headers=headers, body=bytes(body), ended=False)
        return Reply(status=status, headers=headers, body=bytes(body))

    async def chunk(self) -> bytes:
        size = int(await self.reader.readuntil(b"\r\n"), 16)
        data = await self.reader.readexactly(size + 2)
        return data[:-2]

    async def closed(self) -> bool:
        """Wait until the server has closed this connection."""
        try:
            return not await asyncio.wait_for(self.reader.read(1), 60)
        except ConnectionError:
            return True

    def leave(self) -> None:
        self.writer.transport.abort()


@dataclass(slots=True, kw_only=True)
class Bench:
    """What a test holds."""

    engine: ScriptedEngine
    upstream: Engines
    notary: LocalNotary
    metrics: Metrics
    keys_file: Path
    key: str
    server: EdgeServer
    routes: InferenceRoutes
    reported: list[BaseException] = field(default_factory=list)
    clients: list[Client] = field(default_factory=list)

    @property
    def sub(self) -> Digest:
        return subject_of(self.key.encode())

    def new_key(self, **grant: Any) -> str:
        return add_key(self.keys_file, label="t", grant=Grant(**grant), now=0)

    async def connect(self, tls: ssl.SSLContext | None = None) -> Client:
        address = self.server.address
        if isinstance(address, str):
            streams = await asyncio.open_unix_connection(address, ssl=tls)
        else:
            name = None if tls is None else "localhost"
            streams = await asyncio.open_connection(*address, ssl=tls, server_hostname=name)
        client = Client(*streams)
        self.clients.append(client)
        return client

    def request(
        self,
        body: bytes = QUESTION,
        *,
        path: str = CHAT,
        key: str | None = None,
        inline: bool = True,
        headers: tuple[str, ...] = (),
        drop: tuple[str, ...] = (),
    ) -> bytes:
        lines = {
            "host": "host: gateway",
            "authorization": f"authorization: Bearer {key or self.key}",
            "content-type": "content-type: application/json",
            "content-length": f"content-length: {len(body)}",
        }
        kept = [line for name, line in lines.items() if name not in drop]
        if inline:
            kept.append("x-receipt: inline")
        head = "\r\n".join([f"POST {path} HTTP/1.1", *kept, *headers, "", ""])
        return head.encode("latin-1") + body

    async def ask(self, body: bytes = QUESTION, **request: object) -> Reply:
        client = await self.connect()
        client.send(self.request(body, **request))  # type: ignore[arg-type]
        return await client.reply()

    async def sealed(self, jti: str, sub: Digest | None = None) -> Sealed:
        """The receipt of `jti`, waiting while the request runs; its signature is verified."""
        async with asyncio.timeout(60):
            while True:
                found = await self.notary.find(jti, sub or self.sub)
                assert found is not None, "no receipt"
                if found.state is not ReceiptState.RUNNING:
                    break
                await asyncio.sleep(0.01)
        assert found.token is not None
        assert found.openings is not None
        receipt = parse_receipt(found.token)
        verify_receipt_signature(receipt, self.notary.boot.evidence.keyset.receipt_key)
        assert receipt.claims.jti == jti
        return Sealed(claims=receipt.claims, token=found.token, openings=found.openings)

    async def checked(
        self, reply: Reply, sent: bytes, *, sub: Digest | None = None
    ) -> ReceiptClaims:
        """The claims of a reply's receipt, after every commitment was opened to what was really
        sent and read, and the inline copy compared.
        """
        sealed = await self.sealed(reply.jti, sub)
        claims = sealed.claims
        body = reply.body
        inline = reply.headers.get("x-receipt")
        if claims.response.block_offset is not None:
            block = find_block(body)
            assert block is not None
            assert block.offset == claims.response.block_offset
            assert block.token == sealed.token
            assert parse_openings_header(block.openings) == sealed.openings
            body = remove_block(body, block.offset, body[block.offset :][: block.length])
        elif inline is not None:
            assert inline == sealed.token
            assert parse_openings_header(reply.headers["x-receipt-openings"]) == sealed.openings
        opened(claims.request.commitment, sealed.openings, "req", sent)
        assert claims.request.length == len(sent)
        opened(claims.response.commitment, sealed.openings, "res", body)
        assert claims.response.length == len(body)
        assert claims.response.status == reply.status
        assert claims.subject == (sub or self.sub)
        return claims

    @property
    def receipts(self) -> int:
        """How many receipts are durable: every leaf but the boot statement's."""
        return self.metric("attested_log_size") - 1

    def metric(self, name: str) -> int:
        """The value of an unlabelled metric."""
        lines = self.metrics.render().decode("ascii").splitlines()
        (value,) = (line.split(" ")[1] for line in lines if line.startswith(name + " "))
        return int(float(value))


def opened(commitment: bytes | None, openings: Openings, label: str, body: bytes) -> None:
    assert commitment is not None
    verify_commitment(commitment, openings.keys[label], Digest.of(body), what=label)


# A machine that is busy elsewhere is no engine that is late: tests of lateness bring limits of
# their own, each with one that is short.
PATIENT = UpstreamLimits(
    connect_timeout=60.0, first_byte_timeout=60.0, idle_timeout=60.0, total_timeout=120.0
)
LATE_TO_CONNECT = replace(PATIENT, connect_timeout=1.0)
LATE_TO_BEGIN = replace(PATIENT, first_byte_timeout=1.0)
LATE_TO_GO_ON = replace(PATIENT, idle_timeout=1.0)


@asynccontextmanager
async def running(
    folder: Path,
    play: Play = PLAIN,
    *,
    limits: EdgeLimits | None = None,
    upstream_limits: UpstreamLimits = PATIENT,
    connection_limits: ConnectionLimits | None = None,
    refusals: RefusalBudget | None = None,
    engine_address: str | None = None,
    engines: Engines | None = None,
    salt: SaltMode = "off",
    padding: StreamPadding = UNPADDED,
    **options: object,
) -> AsyncIterator[Bench]:
    """A gateway in front of an engine that plays `play`, of `engine_address`, or of `engines`."""
    engine = ScriptedEngine(play)
    address = await engine.start()
    upstream = engines or Engines(
        [
            Upstream(
                parse_engine_url(engine_address or address),
                upstream_limits,
                name="e1",
                label="vllm/test",
            )
        ]
    )
    metrics = Metrics()
    notary = await start_notary(folder, metrics, **options)
    keys_file = folder / "keys.json"
    key = add_key(keys_file, label="t", grant=Grant(), now=0)
    # The file is looked at before every request, because tests add keys while it runs.
    ticks = iter(range(1 << 30))
    keys = KeyStore(keys_file, Clocks(wall=lambda: 1000.0, monotonic=lambda: float(next(ticks))))
    reported: list[BaseException] = []
    routes = InferenceRoutes(
        keys=keys,
        notary=notary,
        upstream=upstream,
        limits=limits,
        engine_name=upstream.label,
        refusals=refusals,
        report=reported.append,
        rewrite=BodyRewriter(salt, notary.boot.cache_salt_key),
        padding=padding,
    )
    server = EdgeServer(routes, bind(Listen(), None), limits=connection_limits, drain_seconds=1)
    await server.start()
    bench = Bench(
        engine=engine,
        upstream=upstream,
        notary=notary,
        metrics=metrics,
        keys_file=keys_file,
        key=key,
        server=server,
        routes=routes,
        reported=reported,
    )
    try:
        yield bench
    finally:
        for client in bench.clients:
            client.leave()
        await server.stop()
        upstream.close()
        await notary.close()
        await engine.close()


async def start_notary(folder: Path, metrics: Metrics, **options: object) -> LocalNotary:
    # It quotes its boot and nothing after it: no epoch comes between the receipts.
    quiet = {"failure_rate": "1"}
    provider = open_simulated(
        "", quiet, time.time, devices=RealDevices(nodes=(), tsm_reports=folder)
    )
    plan = BootPlan(
        name="test",
        config_digest=Digest.of(b"config"),
        tls_spki=(),
        not_after=int(time.time()) + 3600,
        now=int(time.time()),
    )
    data_dir = folder / "notary"
    data_dir.mkdir(mode=0o700, exist_ok=True)
    return await LocalNotary.start(
        NotaryParts(
            provider=provider,
            plan=plan,
            data_dir=data_dir,
            metrics=metrics,
            limits=NotaryLimits(closing_seconds=0.0),
            **options,  # type: ignore[arg-type]
        )
    )
