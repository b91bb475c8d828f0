"""What a notary is made of, and the pure steps around its boot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import Encoding

from attestation.bundle import make_bundle
from attestation.receipt.commitments import Openings, commitment_key
from gateway.notary.clock import Clock
from gateway.notary.files import FileLayer
from gateway.notary.interface import Boot
from gateway.notary.log.folder import BOOT_FILE, ROOT_FILE
from gateway.notary.log.store import DEFAULT_SEGMENT_BYTES
from gateway.notary.quotes.epochs import Pacing

if TYPE_CHECKING:
    from pathlib import Path

    from attestation.receipt.claims import ReceiptClaims
    from attestation.tdx.collateral import Collateral
    from gateway.attester.base import QuoteProvider
    from gateway.endorsements.store import EndorsementStore
    from gateway.notary.boot import BootPlan, StartedBoot
    from gateway.telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class NotaryLimits:
    """Bounds of a notary: entries it remembers, how its log is signed and quoted (seconds)."""

    max_tasks: int = 250_000
    quote_timeout: float = 30.0
    store_timeout: float = 30.0
    closing_seconds: float = 30.0
    quote_interval: float = 1.0
    max_challenges: int = 256
    checkpoint_seconds: float = 1.0
    pacing: Pacing = field(default_factory=Pacing)
    export_seconds: float = 10.0
    segment_bytes: int = DEFAULT_SEGMENT_BYTES
    retain_days: int = 365


@dataclass(frozen=True, slots=True, kw_only=True)
class NotaryParts:
    """What a notary is made of.

    `collateral` overrides what the provider hands out, and what fits in the store `endorsements`
    overrides both; `on_end` is told once, with a code, why the boot ended, and `on_renewal` each
    time that newer endorsements take the place of a boot's; `emit` takes events as
    `gateway.telemetry.events` declares them.
    """

    provider: QuoteProvider
    plan: BootPlan
    data_dir: Path
    metrics: Metrics
    collateral: Collateral | None = None
    endorsements: EndorsementStore | None = None
    limits: NotaryLimits = NotaryLimits()
    layer: FileLayer = field(default_factory=FileLayer)
    clock: Clock = field(default_factory=Clock)
    on_end: Callable[[str], None] = lambda _reason: None
    on_renewal: Callable[[], None] = lambda: None
    emit: Callable[..., None] = lambda _event, **_fields: None


def public_boot(
    parts: NotaryParts,
    started: StartedBoot,
    collateral: Collateral | None,
    cache_salt_key: bytes,
) -> Boot:
    """Return what workers are told of a started boot, with these endorsements."""
    statement = started.evidence.statement
    evidence = replace(
        started.evidence, collateral=collateral.digest if collateral is not None else None
    )
    return Boot(
        evidence=evidence,
        collateral=collateral,
        anchor=parts.provider.anchor(),
        provider=parts.provider.name,
        keyset_digest=statement.keyset_digest,
        log_origin=statement.log_origin,
        cache_salt_key=cache_salt_key,
    )


def endorsed(boot: Boot, collateral: Collateral) -> Boot:
    """Return a running boot with other endorsements; nothing that was signed or quoted changes."""
    evidence = replace(boot.evidence, collateral=collateral.digest)
    return replace(boot, evidence=evidence, collateral=collateral)


def boot_files(boot: Boot) -> dict[str, bytes]:
    """Return what is kept beside the log, by file name.

    The boot's evidence as a bundle: with the log it is all an auditor needs.  Where the
    provider has a root of its own, that root too, for whoever tries simulated evidence; no
    route hands it out, because evidence must never bring its own root.
    """
    sets = [boot.collateral] if boot.collateral is not None else []
    files = {BOOT_FILE: make_bundle(boots=[boot.evidence], collateral=sets).encode()}
    if boot.anchor is not None:
        files[ROOT_FILE] = boot.anchor.certificate.public_bytes(Encoding.PEM)
    return files


def openings_of(claims: ReceiptClaims, secret: bytes) -> Openings:
    """Return the openings of a receipt again, from the boot secret alone."""
    commitments = {
        "req": claims.request.commitment,
        "fwd": claims.request.forwarded,
        "eng": claims.response.engine,
        "res": claims.response.commitment,
    }
    return Openings(
        keys={
            label: commitment_key(secret, label, claims.jti)
            for label, commitment in commitments.items()
            if commitment is not None
        }
    )
