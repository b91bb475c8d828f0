"""A gateway's own evidence: fetched before a key or a prompt is sent to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx2

from attestation.bundle import MAX_BUNDLE_BYTES, BootEvidence, Bundle, parse_bundle
from attestation.encoding.members import Members
from attestation.encoding.strict_json import parse_json
from attestation.errors import EvidenceError, MalformedError, UnavailableError
from attestation.result import Check, Status
from attestation.verifier import ChallengeEvidence, parse_challenge
from gateway.client.channel import checked_context, require_listed

if TYPE_CHECKING:
    import ssl
    from collections.abc import Collection

    from attestation.encoding.digest import Digest
    from gateway.client.endpoint import Endpoint

CHANNEL_OPEN = (
    "confidentiality of the channel: not proved, the gateway lists no TLS key (tls is []); "
    "who can read the connection is not part of the evidence"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What one gateway shows for its boot, and the TLS key it was fetched from.

    Nothing is verified yet.  `peer` is None over plain HTTP and Unix sockets.
    """

    bundle: Bundle
    peer: Digest | None

    @property
    def boot(self) -> BootEvidence:
        """The one boot."""
        return self.bundle.boots[0]


def fetch_evidence(endpoint: Endpoint, *, timeout: float = 60.0) -> Evidence:
    """`GET /v1/attestation?format=bundle`, with no credential, over whatever key answers.

    Raises `UnavailableError` if the gateway does not answer, `MalformedError` for what is no
    bundle of exactly one boot.
    """
    seen: list[Digest] = []
    transport = httpx2.HTTPTransport(verify=checked_context(seen.append), uds=endpoint.uds)
    with httpx2.Client(transport=transport, timeout=timeout, trust_env=False) as client:
        data = _get(client, f"{endpoint.origin}/v1/attestation?format=bundle")
    bundle = parse_bundle(data)
    if len(bundle.boots) != 1 or bundle.receipts or bundle.epochs or bundle.tasks:
        raise MalformedError(
            "the gateway's evidence is not that of one boot",
            code="evidence",
            expected="a bundle with one boot and nothing else",
            observed=f"{len(bundle.boots)} boots, {len(bundle.receipts)} receipts",
        )
    return Evidence(bundle=bundle, peer=seen[-1] if seen else None)


def fetch_challenge(
    endpoint: Endpoint, nonce: bytes, tls: ssl.SSLContext, *, timeout: float = 60.0
) -> ChallengeEvidence:
    """`GET /v1/attestation?nonce=…` over `tls`, with no credential: the answer to this nonce.

    Of the rest of the answer nothing is used.  Raises `UnavailableError` if the gateway does not
    answer or its platform gives no quote now, `MalformedError` for an answer of another form.
    """
    transport = httpx2.HTTPTransport(verify=tls, uds=endpoint.uds)
    with httpx2.Client(transport=transport, timeout=timeout, trust_env=False) as client:
        data = _get(client, f"{endpoint.origin}/v1/attestation?nonce={nonce.hex()}")
    return parse_challenge(Members(parse_json(data), "the gateway's evidence").raw("challenge"))


def check_channel(endpoint: Endpoint, peer: Digest | None, listed: Collection[Digest]) -> Check:
    """CHANNEL: the connection ends at a key of the keyset, or the keyset says there is none.

    Raises `EvidenceError` (code "channel") where the keyset lists keys and the connection ends
    elsewhere, or ends at a TLS key that is not listed.
    """
    if peer is not None:
        require_listed(peer, listed)
        return _channel(Status.PASS, f"TLS ends at key {peer.hex[:16]}… of the keyset")
    if listed:
        raise EvidenceError(
            "CHANNEL: the gateway ends TLS itself, but this connection is not TLS",
            code="channel",
            expected="https to one of the keys in the keyset",
            observed=endpoint.origin if endpoint.uds is None else "a Unix socket",
            hint="something between you and the gateway ends TLS; use the gateway's own address",
        )
    return _channel(Status.INFO, "confidentiality of the channel not proved: tls is []")


def _channel(status: Status, reason: str) -> Check:
    return Check(id="CHANNEL", subject="connection", status=status, required=False, reason=reason)


def _get(client: httpx2.Client, url: str) -> bytes:
    try:
        with client.stream("GET", url, headers={"accept-encoding": "identity"}) as answer:
            if answer.status_code != 200:
                raise UnavailableError(
                    "the gateway does not show its evidence",
                    code="evidence",
                    expected="status 200 at /v1/attestation",
                    observed=f"status {answer.status_code}",
                    hint="is this the address of an attested gateway? 503 means that its platform "
                    "gives no quote now: try again later",
                )
            return _bounded(answer)
    except httpx2.HTTPError as error:
        raise UnavailableError(
            "the gateway cannot be reached",
            code="unreachable",
            observed=_seen(error),
            hint="is it running, and is the address right (https:// unless its TLS is off)?",
        ) from error


def _seen(error: httpx2.HTTPError) -> str:
    # Only while connecting are the words the system's own, and not what a peer may have sent.
    if isinstance(error, httpx2.ConnectError):
        return f"ConnectError: {error}"
    return type(error).__name__


def _bounded(answer: httpx2.Response) -> bytes:
    data = bytearray()
    for piece in answer.iter_raw():
        data += piece
        if len(data) > MAX_BUNDLE_BYTES:
            raise MalformedError("the gateway's evidence is too large", code="evidence")
    return bytes(data)
