"""`attested pin` of a running gateway as well as of files."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from attestation.bundle import with_endorsements
from attestation.cli import pin
from attestation.cli.pin import HELP, configure
from attestation.encoding.digest import Digest
from attestation.errors import EvidenceError, UnavailableError
from attestation.report.pin import Seen
from attestation.result import Status, Verdict
from attestation.verifier import verify_challenge
from gateway.cli.main import lacking_extra

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from attestation.bundle import Bundle
    from attestation.tdx.anchor import Anchor
    from attestation.tdx.collateral import Collateral
    from gateway.client.endpoint import Endpoint
    from gateway.client.evidence import Evidence

__all__ = ["HELP", "configure", "gather", "run"]

_NONCE_BYTES = 32
_FRESH = frozenset({"QUOTE-GENUINE", "BOOT-STATEMENT", "NONCE"})
_REFUTED = frozenset({Verdict.MALFORMED, Verdict.REJECTED})


def run(args: argparse.Namespace) -> int:
    """Pin what a file holds or what a gateway shows."""
    return pin.run(args, gather)


def gather(name: str, sets: Sequence[Collateral], anchors: Sequence[Anchor], at: int) -> Seen:
    """Return the evidence in a file, or that of the gateway at an address.

    1. fetch the evidence; no credential is sent
    2. the connection ends at a key of the keyset, or the keyset says that there is none
    3. the boot is quoted afresh over a nonce that is drawn now

    Raises `UsageError` for an address that must not be used, `UnavailableError` if nothing answers
    there, `MalformedError`, and `EvidenceError` for a connection that ends elsewhere or an answer
    to the nonce that is refuted.  A platform that gives no quote now is told in `not_shown`.
    """
    if not pin.is_address(name):
        return pin.load_evidence(name, sets, anchors, at)
    try:
        # Only here: files need no HTTP client.
        from gateway.client.endpoint import parse_endpoint  # noqa: PLC0415
        from gateway.client.evidence import check_channel, fetch_evidence  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise lacking_extra(error) from error
    endpoint = parse_endpoint(name)
    evidence = fetch_evidence(endpoint)
    channel = check_channel(endpoint, evidence.peer, evidence.boot.keyset.tls_spki)
    bundle = with_endorsements(evidence.bundle, sets)
    told = [(channel.status is Status.PASS, f"Channel: {channel.reason}.")]
    told.append(_asked(endpoint, evidence, bundle, anchors, at))
    return Seen(
        bundle=bundle,
        source=endpoint.origin if endpoint.uds is None else ascii(f"unix:{endpoint.uds}"),
        digest=Digest.of(evidence.bundle.encode()),
        shown=tuple(line for held, line in told if held),
        not_shown=tuple(line for held, line in told if not held),
    )


def _asked(
    endpoint: Endpoint, evidence: Evidence, bundle: Bundle, anchors: Sequence[Anchor], at: int
) -> tuple[bool, str]:
    """Have the boot quoted over a nonce; whether it showed that it runs now, in words."""
    from gateway.client.channel import pinned_context  # noqa: PLC0415 - see `gather`
    from gateway.client.evidence import fetch_challenge  # noqa: PLC0415

    nonce = secrets.token_bytes(_NONCE_BYTES)
    tls = pinned_context(evidence.boot.keyset.tls_spki)
    try:
        challenge = fetch_challenge(endpoint, nonce, tls)
    except UnavailableError:
        return False, "Freshness: the gateway had no quote over a nonce to show; it may be a copy."
    result = verify_challenge(bundle, challenge, nonce, None, at, anchors)
    refuted = [check for check in result.checks if check.verdict in _REFUTED]
    own = [check for check in result.checks if check.subject == "challenge"]
    # A boot that is refuted by itself is told as such by whoever judges the evidence.
    if refuted and all(check in own for check in refuted):
        first = refuted[0]
        raise EvidenceError(
            f"the gateway's answer to a nonce is refuted: {first.id}: {first.reason}",
            code="challenge",
            expected=first.expected,
            observed=first.observed,
            hint=first.hint,
        )
    if {check.id for check in own if check.status is Status.PASS} >= _FRESH:
        return True, "Freshness: this boot was quoted over a nonce that was drawn for this."
    return False, "Freshness: the quote over a nonce could not be judged."
