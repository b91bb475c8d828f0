"""A notary that says what a test wants, behind the real control app on a real socket."""

from __future__ import annotations

import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import httpx2

from attestation.bundle import EpochEvidence
from attestation.encoding.digest import Digest
from attestation.merkle.checkpoint import Checkpoint
from attestation.merkle.note import sign_note
from attestation.statement import EpochStatement
from gateway.access.keyfile import add_key
from gateway.access.principal import Grant
from gateway.access.store import Clocks, KeyStore
from gateway.api.control import build_control_app
from gateway.api.parts import ControlParts
from gateway.edge.server import EdgeServer
from gateway.notary.interface import Boot, Found
from gateway.upstream import Engines, Upstream, parse_engine_url
from tests.support.bundles import NOW, Gateway


def boot_of(gateway: Gateway) -> Boot:
    """What a notary shows of a boot that was made by hand."""
    return Boot(
        evidence=gateway.evidence,
        collateral=gateway.machine.collateral(),
        anchor=gateway.anchor,
        provider="simulated",
        keyset_digest=gateway.keyset.digest,
        log_origin=gateway.origin,
        cache_salt_key=bytes(32),
    )


def epoch_of(gateway: Gateway, number: int = 0) -> EpochEvidence:
    """An epoch whose form is right; what it says of the log is made up."""
    root, size = Digest.of(b"root"), 7 + number
    checkpoint = Checkpoint(origin=gateway.origin, size=size, root=root.value)
    statement = EpochStatement(
        bootseed=gateway.bootseed,
        boot_quote_digest=gateway.quote_digest,
        keyset_digest=gateway.keyset.digest,
        epoch=number,
        size=size,
        root=root,
        checkpoint_digest=Digest.of(checkpoint.text.encode()),
        prev_quote_digest=gateway.quote_digest,
        grants_digest=Digest.of(b"grants"),
        admitted=size,
        completed=size,
        in_flight=0,
        unauthenticated=0,
        refused_unreceipted=0,
        time_claimed=NOW,
    )
    return EpochEvidence(
        statement=statement,
        quote=gateway.quote(statement.report_data, []),
        checkpoint=sign_note(checkpoint.text, gateway.origin, gateway.log_key),
        collateral=gateway.evidence.collateral,
    )


@dataclass
class FakeNotary:
    """`answers` are given by `find` in turn, the last one for ever; exceptions are raised.

    `asked` has the paths of `read_log`, `waited` the seconds that callers of `find` would wait.
    """

    gateway: Gateway = field(default_factory=Gateway)
    answers: list[Found | Exception | None] = field(default_factory=list)
    resources: dict[str, bytes | Exception] = field(default_factory=dict)
    epochs: list[EpochEvidence] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)
    healthy: bool = True
    reason: str = ""

    @property
    def boot(self) -> Boot:
        return boot_of(self.gateway)

    def count_unauthenticated(self, count: int = 1) -> None:
        self.asked.extend(["unauthenticated"] * count)

    async def find(
        self, _receipt_id: str, _sub: Digest, *, wait_seconds: float = 0.0
    ) -> Found | None:
        self.waited.append(wait_seconds)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def read_log(self, path: str) -> bytes | None:
        self.asked.append(path)
        found = self.resources.get(path)
        if isinstance(found, Exception):
            raise found
        return found

    async def epoch(self, number: int | None) -> EpochEvidence | None:
        numbered = {one.statement.epoch: one for one in self.epochs}
        return numbered.get(max(numbered, default=-1) if number is None else number)


@dataclass
class Faked:
    """The running app, its notary and a client with the one key it knows."""

    notary: FakeNotary
    client: httpx2.AsyncClient
    port: int

    async def get(self, path: str, **options: Any) -> httpx2.Response:
        return await self.client.get(path, **options)

    def raw(self, target: str, method: str = "GET") -> bytes:
        """The whole answer to a target that no client library would send unchanged."""
        with socket.create_connection(("127.0.0.1", self.port), 20) as connection:
            head = f"{method} {target} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
            connection.sendall(head.encode("ascii"))
            parts = []
            while part := connection.recv(65536):
                parts.append(part)
        return b"".join(parts)


@asynccontextmanager
async def faked(folder: Path, notary: FakeNotary) -> AsyncIterator[Faked]:
    """Serve the control app over `notary` on a loopback port."""
    now = int(time.time())
    key = add_key(folder / "keys.json", label="alice", grant=Grant(), now=now)
    parts = ControlParts(
        notary=cast("Any", notary),
        keys=KeyStore(folder / "keys.json", Clocks(wall=time.time, monotonic=time.monotonic)),
        upstream=Engines([Upstream(parse_engine_url("http://127.0.0.1:9"))]),
    )
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    server = EdgeServer(build_control_app(parts), listener)
    await server.start()
    try:
        async with httpx2.AsyncClient(
            base_url=f"http://127.0.0.1:{port}",
            trust_env=False,
            timeout=30,
            headers={"authorization": f"Bearer {key}"},
        ) as client:
            yield Faked(notary=notary, client=client, port=port)
    finally:
        await server.stop()
