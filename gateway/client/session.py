"""A session with one boot of one gateway: verified first, then used, then handed to an auditor.

session = Session.connect("https://gateway:8443", trust)       # raises unless accepted
client = openai.OpenAI(
    base_url=session.base_url, api_key=key, http_client=session.http_client()
)
…
session.export(Path("run"))                                    # bundle and bodies
"""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Any

import httpx2

from attestation.bundle import Bundle, BundledReceipt, make_bundle
from attestation.errors import AttestationError, UnavailableError
from gateway.client.channel import pinned_context
from gateway.client.collect import collect
from gateway.client.endpoint import Endpoint, parse_endpoint
from gateway.client.evidence import Evidence, check_channel, fetch_challenge, fetch_evidence
from gateway.client.export import receipt_of, write_record
from gateway.client.judge import EvidenceJudge, Trust, accept_boot
from gateway.client.recorder import Recorder
from gateway.client.transport import AsyncReceiptTransport, ReceiptTransport

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from pathlib import Path

    from attestation.result import AttestationResult
    from gateway.client.call import Call

_NONCE_BYTES = 32
# A prompt may take minutes to read; SDKs wait this long between two bytes themselves.
_TIMEOUT = httpx2.Timeout(600.0, connect=10.0)


class Session:
    """Clients for one gateway whose every call is recorded and checked.

    A gateway that was restarted has other keys: its TLS key is refused, its receipts are
    refused, and a new session has to be connected.
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

        Raises `UsageError` for an address that must not be used, `UnavailableError` if nothing
        answers there, any other `AttestationError` if the evidence is not accepted.  Nothing of
        the caller's has been sent then.
        """
        endpoint = parse_endpoint(url)
        evidence = fetch_evidence(endpoint)
        channel = check_channel(endpoint, evidence.peer, evidence.boot.keyset.tls_spki)
        result = accept_boot(evidence, channel, trust, at=int(clock()))
        judge = EvidenceJudge(evidence, channel, trust, clock)
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

    def collect(self, api_key: str) -> int:
        """Fetch and check the receipts of calls that were left or cut before theirs came.

        Returns how many calls still have none (the gateway may still be sealing them).
        """
        wrapped = httpx2.HTTPTransport(verify=self.tls_context(), uds=self._endpoint.uds)
        with httpx2.Client(transport=wrapped, timeout=_TIMEOUT, trust_env=False) as client:
            return collect(client, self._endpoint, self._recorder, api_key)

    def bundle(self) -> Bundle:
        """The boot's evidence and every receipt of this session, openings included.

        A receipt that was refused is in it too: for an auditor it is evidence of another kind.
        """
        receipts = {
            receipt.digest: BundledReceipt(receipt=receipt, openings=call.openings)
            for call in self.calls
            if (receipt := receipt_of(call)) is not None
        }
        evidence = self._evidence.bundle
        return make_bundle(
            boots=evidence.boots,
            collateral=evidence.collateral.values(),
            receipts=receipts.values(),
        )

    def export(self, folder: Path) -> Path:
        """Write `bundle.json` and `bodies/` for an auditor; returns the bundle's path.

        Bodies and openings are confidential: the files are readable by their owner only.
        """
        return write_record(folder, self.bundle(), self.calls)
