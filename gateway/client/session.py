"""A session with one boot of one gateway: verified first, then used, then handed to an auditor.

session = Session.connect("https://gateway:8443", trust)       # raises unless accepted
client = openai.OpenAI(
    base_url=session.base_url, api_key=key, http_client=session.http_client()
)
…
session.export(Path("run"))                     # anchored receipts, in a bundle, and bodies
"""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import TYPE_CHECKING, Any

import httpx2

from attestation.errors import AttestationError, UnavailableError
from gateway.client.anchor import Anchorer, AnchorReport, run_blocking
from gateway.client.channel import pinned_context
from gateway.client.endpoint import Endpoint, parse_endpoint
from gateway.client.evidence import Evidence, check_channel, fetch_challenge, fetch_evidence
from gateway.client.export import receipt_of, write_record
from gateway.client.judge import EvidenceJudge, Trust, accept_boot, bundled, session_bundle
from gateway.client.marks import Marks
from gateway.client.recorder import Recorder
from gateway.client.transport import AsyncReceiptTransport, ReceiptTransport

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from pathlib import Path

    from attestation.bundle import Bundle
    from attestation.result import AttestationResult
    from gateway.client.call import Call

ANCHOR_SECONDS = 60.0
_NONCE_BYTES = 32
_A_PAIR = 2
# A prompt may take minutes to read; SDKs wait this long between two bytes themselves.
_TIMEOUT = httpx2.Timeout(600.0, connect=10.0)


class Session:
    """Clients for one gateway whose every call is recorded and checked.

    Each answer is checked before it is given out, for everything but anchoring: the log is quoted
    some seconds later, and `anchor` or `export` waits for that.  A gateway that was restarted has
    other keys: its TLS key is refused, its receipts are refused, and a new session has to be
    connected.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        evidence: Evidence,
        result: AttestationResult,
        judge: EvidenceJudge,
    ) -> None:
        self._endpoint = endpoint
        self._evidence = evidence
        self._judge = judge
        self._recorder = Recorder(judge, origin=endpoint.origin)
        self.result = result

    @classmethod
    def connect(cls, url: str, trust: Trust, *, clock: Callable[[], float] = time.time) -> Session:
        """Fetch the gateway's evidence and accept it under `trust`, or raise.

        Raises `UsageError` for an address that must not be used or a file of `trust.high_water`
        that cannot be, `UnavailableError` if nothing answers there, any other `AttestationError`
        if the evidence is not accepted.  Nothing of the caller's has been sent then.
        """
        endpoint, marks = parse_endpoint(url), Marks(trust.high_water, trust.policy)
        evidence = fetch_evidence(endpoint)
        channel = check_channel(endpoint, evidence.peer, evidence.boot.keyset.tls_spki)
        result = accept_boot(evidence, channel, trust, marks, at=int(clock()))
        judge = EvidenceJudge(evidence, channel, trust, clock, marks)
        return cls(endpoint, evidence, result, judge)

    def challenge(self) -> AttestationResult:
        """Have the boot quoted afresh over a nonce drawn now, and accept the answer, or raise.

        Evidence that was fetched may be as old as the boot; this shows that the boot still runs,
        in the same trust domain.  No credential is sent.  Raises `UnavailableError` if no
        quote is to be had now; any other `AttestationError` means that the answer is not
        accepted, and ends the session: nothing is sent through it any more.
        """
        nonce = secrets.token_bytes(_NONCE_BYTES)
        try:
            challenge = fetch_challenge(self._endpoint, nonce, self.tls_context())
            return self._judge.judge_challenge(challenge, nonce)
        except UnavailableError:
            raise
        except AttestationError as error:
            self._recorder.end(error)
            raise

    @property
    def base_url(self) -> str:
        """What an OpenAI client takes as `base_url`."""
        return self._endpoint.base_url

    @property
    def origin(self) -> str:
        """Scheme, host and port, as Anthropic's client takes it."""
        return self._endpoint.origin

    @property
    def recorder(self) -> Recorder:
        """For transports made by hand."""
        return self._recorder

    @property
    def calls(self) -> tuple[Call, ...]:
        """Every call that has ended."""
        return self._recorder.calls

    def tls_context(self) -> ssl.SSLContext:
        """A context that connects to the TLS keys of the accepted keyset and to no other."""
        return pinned_context(self._evidence.boot.keyset.tls_spki)

    def http_client(self, **options: Any) -> httpx2.Client:  # noqa: ANN401 - httpx2's own
        """A blocking client for `http_client=` of an SDK; `options` are `httpx2.Client`'s."""
        wrapped = httpx2.HTTPTransport(verify=self.tls_context(), uds=self._endpoint.uds)
        transport = ReceiptTransport(wrapped, recorder=self._recorder)
        return httpx2.Client(**{"timeout": _TIMEOUT, **options, "transport": transport})

    def async_http_client(self, **options: Any) -> httpx2.AsyncClient:  # noqa: ANN401
        """The same for asynchronous SDK clients."""
        wrapped = httpx2.AsyncHTTPTransport(verify=self.tls_context(), uds=self._endpoint.uds)
        transport = AsyncReceiptTransport(wrapped, recorder=self._recorder)
        return httpx2.AsyncClient(**{"timeout": _TIMEOUT, **options, "transport": transport})

    @property
    def unanchored(self) -> tuple[Call, ...]:
        """The calls that have a receipt, or should get one, which no quoted log covers yet."""
        return tuple(c for c in self.calls if c.receipt_id is not None and not c.anchored)

    def anchor(self, *, seconds: float = ANCHOR_SECONDS) -> AnchorReport:
        """Wait until the log is quoted over every receipt of this session, and verify that: each
        call with its epoch, and then all of them together.

        Fetches each receipt with the credential its call was made with, also those of calls
        that were left or cut before their receipt came.  Takes at most `seconds`; what is not
        anchored then, or cannot be because the gateway is gone, stays as it is and is in the
        report.  Raises `AttestationError` for evidence that does not hold, which ends the
        session.
        """
        return run_blocking(self.async_anchor(seconds=seconds))

    async def async_anchor(self, *, seconds: float = ANCHOR_SECONDS) -> AnchorReport:
        """Do the same without blocking."""
        wrapped = httpx2.AsyncHTTPTransport(verify=self.tls_context(), uds=self._endpoint.uds)
        async with httpx2.AsyncClient(
            transport=wrapped, timeout=_TIMEOUT, trust_env=False
        ) as client:
            anchorer = Anchorer(client, self._endpoint, self._recorder, self._evidence.boot)
            report = await anchorer.anchor(seconds)
        await asyncio.to_thread(self._require_consistent)
        return report

    def _require_consistent(self) -> None:
        """Each call held by itself; do they hold together?"""
        calls = [call for call in self.calls if call.result is not None]
        if len(calls) < _A_PAIR:
            return
        try:
            self._judge.judge_record(calls)
        except AttestationError as error:
            self._recorder.end(error)
            raise

    def bundle(self) -> Bundle:
        """The boot's evidence and every receipt of this session, with its openings and, where it
        is anchored, with its proof and its epoch.

        A receipt that was refused is in it too: for an auditor it is evidence of another kind.
        """
        receipts = {
            receipt.digest: bundled(call, receipt)
            for call in self.calls
            if (receipt := receipt_of(call)) is not None
        }
        return session_bundle(self._evidence.bundle, receipts, self.calls)

    def export(self, folder: Path, *, seconds: float = ANCHOR_SECONDS) -> Path:
        """Write `bundle.json` and `bodies/` for an auditor; returns the bundle's path.

        Receipts that are not anchored yet are anchored first, as `anchor` does it (`seconds` 0:
        written as they are); what could not be is in `unanchored` afterwards.  After a failure
        nothing is asked for any more.  Bodies and openings are confidential: the files are
        readable by their owner only.
        """
        if seconds > 0 and self.unanchored and self._recorder.failure is None:
            self.anchor(seconds=seconds)
        return write_record(folder, self.bundle(), self.calls)
