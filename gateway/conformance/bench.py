"""The set-up both topics share: a scripted engine, a real gateway before it, a plain client."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx2

from gateway.cli.local.gateway import LocalGateway, LocalPlan
from gateway.cli.local.loop import LoopThread
from gateway.engine.scripted import Script, ScriptedEngine

if TYPE_CHECKING:
    from contextlib import ExitStack

    from attestation.encoding.jwk import Jwk
    from gateway.engine.wire import EngineRequest

PATH = "/v1/chat/completions"
_TIMEOUT = httpx2.Timeout(20.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a client read: `cut` if the connection failed before the answer's end."""

    status: int
    headers: httpx2.Headers
    body: bytes
    cut: bool


class Bench:
    """One engine and one gateway for all cases of a run; started on first use."""

    def __init__(self, resources: ExitStack) -> None:
        self._resources = resources
        self._engine: ScriptedEngine | None = None
        self._gateway: LocalGateway | None = None
        self._client: httpx2.Client | None = None

    @property
    def receipt_key(self) -> Jwk:
        """The key of the keyset that signs this boot's receipts."""
        return self._running()[1].boot.evidence.keyset.receipt_key

    def post(self, body: bytes, script: Script) -> tuple[Answer, list[EngineRequest]]:
        """POST `body` as a chat completion; also returns what the engine got meanwhile."""
        engine, _, client = self._running()
        engine.set(script)
        before = len(engine.requests)
        headers = {"content-type": "application/json", "x-receipt": "inline"}
        read = bytearray()
        cut = False
        with client.stream("POST", PATH, content=body, headers=headers) as response:
            try:
                for data in response.iter_raw():
                    read += data
            except httpx2.TransportError:
                cut = True
        answer = Answer(
            status=response.status_code, headers=response.headers, body=bytes(read), cut=cut
        )
        return answer, engine.requests[before:]

    def _running(self) -> tuple[ScriptedEngine, LocalGateway, httpx2.Client]:
        if self._engine is None or self._gateway is None or self._client is None:
            loop = self._resources.enter_context(LoopThread())
            engine = ScriptedEngine(Script())
            address = loop.call(engine.start())
            self._resources.callback(lambda: loop.call(engine.close()))
            # The topics compare what the engine got with what was sent, byte for byte.
            plan = LocalPlan(upstream=address, cache_salt="off")
            gateway = self._resources.enter_context(LocalGateway(plan))
            client = httpx2.Client(
                base_url=gateway.url,
                headers={"authorization": f"Bearer {gateway.key}"},
                transport=httpx2.HTTPTransport(),
                timeout=_TIMEOUT,
            )
            self._resources.enter_context(client)
            self._engine, self._gateway, self._client = engine, gateway, client
        return self._engine, self._gateway, self._client
