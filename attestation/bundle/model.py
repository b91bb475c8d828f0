"""The parts of an audit bundle and the one way of writing them (docs/spec/bundle.md)."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from attestation.encoding import base64url, jcs
from attestation.encoding.digest import Digest
from attestation.errors import MalformedError
from attestation.tdx.logfile import FORMATS, parse_recorded

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from attestation.encoding.strict_json import JsonValue
    from attestation.receipt.commitments import Openings
    from attestation.receipt.signing import Receipt
    from attestation.statement import BootStatement, EpochStatement, Keyset
    from attestation.tdx.collateral import Collateral
    from attestation.tdx.events import EventLog

SCHEMA = "attested-gateway/bundle/v1"
MEDIA_TYPE = "application/vnd.attested-gateway.bundle+json"
EVENT_LOG_FORMATS = FORMATS


@dataclass(frozen=True, slots=True, kw_only=True)
class EventLogRecord:
    """An event log as the bundle carries it: CCEL bytes as base64url, the others as JSON."""

    format: str
    data: JsonValue

    def parse(self) -> EventLog:
        """Return the events, or raise `MalformedError`."""
        return parse_recorded(self.format, self.data)

    def to_json(self) -> dict[str, Any]:
        """Return the form a bundle carries."""
        return {"data": self.data, "format": self.format}


@dataclass(frozen=True, slots=True, kw_only=True)
class BootEvidence:
    """What one boot shows for itself; `collateral` names a set by the digest of its JCS."""

    statement: BootStatement
    keyset: Keyset
    quote: bytes
    event_log: EventLogRecord | None = None
    gpu: tuple[dict[str, Any], ...] = ()
    collateral: Digest | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the form a bundle carries."""
        return {
            "collateral": self.collateral.hex if self.collateral else None,
            "event_log": self.event_log.to_json() if self.event_log else None,
            "gpu": list(self.gpu),
            "keyset": self.keyset.to_json(),
            "quote": base64url.encode(self.quote),
            "statement": self.statement.to_json(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochEvidence:
    """A quoted state of the log: statement, quote over it, and the signed checkpoint."""

    statement: EpochStatement
    quote: bytes
    checkpoint: str
    collateral: Digest | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the form a bundle carries."""
        return {
            "checkpoint": self.checkpoint,
            "collateral": self.collateral.hex if self.collateral else None,
            "quote": base64url.encode(self.quote),
            "statement": self.statement.to_json(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class BundledReceipt:
    """A receipt, the openings its holder disclosed, and its inclusion proof (tlog-proof text)."""

    receipt: Receipt
    openings: Openings | None = field(default=None, repr=False)
    proof: str | None = None

    @property
    def jti(self) -> str:
        """The receipt's id."""
        return self.receipt.claims.jti

    def to_json(self) -> dict[str, Any]:
        """Return the form a bundle carries."""
        return {
            "openings": self.openings.to_json() if self.openings else None,
            "proof": self.proof,
            "receipt": self.receipt.token,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """Boots, endorsements, epochs, receipts and task records; nothing about their truth.

    Its existence proves that the arrays are in the order of the format (`make_bundle` puts them
    there), that nothing stands in them twice, and that every collateral set stands under its
    own digest; `MalformedError` otherwise.
    """

    boots: tuple[BootEvidence, ...] = ()
    collateral: Mapping[Digest, Collateral] = field(default_factory=dict)
    epochs: tuple[EpochEvidence, ...] = ()
    receipts: tuple[BundledReceipt, ...] = ()
    tasks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _require_order("boots", [boot_order(boot) for boot in self.boots])
        _require_order("epochs", [epoch_order(epoch) for epoch in self.epochs])
        _require_order("receipts", [receipt_order(item) for item in self.receipts])
        _require_order("tasks", self.tasks)
        for digest, collateral in self.collateral.items():
            if collateral.digest != digest:
                raise MalformedError(
                    "a collateral set does not stand under its own digest",
                    code="collateral_digest",
                    expected=collateral.digest.hex,
                    observed=digest.hex,
                )

    def to_json(self) -> dict[str, Any]:
        """Return the document as a JSON value."""
        return {
            "boots": [boot.to_json() for boot in self.boots],
            "collateral": {name.hex: item.to_json() for name, item in self.collateral.items()},
            "epochs": [epoch.to_json() for epoch in self.epochs],
            "receipts": [receipt.to_json() for receipt in self.receipts],
            "schema": SCHEMA,
            "tasks": list(self.tasks),
        }

    def encode(self) -> bytes:
        """Return the file: canonical JSON, which `parse_bundle` reads back."""
        return jcs.canonicalize(self.to_json())


def make_bundle(
    *,
    boots: Iterable[BootEvidence] = (),
    collateral: Iterable[Collateral] = (),
    epochs: Iterable[EpochEvidence] = (),
    receipts: Iterable[BundledReceipt] = (),
    tasks: Iterable[str] = (),
) -> Bundle:
    """Return the bundle of these parts, put in order; unreferenced collateral is left out."""
    in_order = tuple(sorted(boots, key=boot_order))
    quoted = tuple(sorted(epochs, key=epoch_order))
    wanted = {boot.collateral for boot in in_order} | {epoch.collateral for epoch in quoted}
    return Bundle(
        boots=in_order,
        collateral={item.digest: item for item in collateral if item.digest in wanted},
        epochs=quoted,
        receipts=tuple(sorted(receipts, key=receipt_order)),
        tasks=tuple(sorted(tasks)),
    )


def boot_order(boot: BootEvidence) -> bytes:
    """Boots stand in the order of their bootseed; no two have the same."""
    return boot.statement.bootseed


def epoch_order(epoch: EpochEvidence) -> tuple[bytes, int, bytes]:
    """Epochs stand in the order of bootseed and number; contradicting ones by their digest."""
    statement = epoch.statement
    return statement.bootseed, statement.epoch, statement.digest.value


def receipt_order(item: BundledReceipt) -> tuple[bytes, int, bytes]:
    """Receipts stand in the order of bootseed and index; contradicting ones by their digest."""
    claims = item.receipt.claims
    return claims.bootseed, claims.log.index, item.receipt.digest.value


def _require_order(name: str, keys: Sequence[Any]) -> None:
    for index, (before, after) in enumerate(itertools.pairwise(keys)):
        if before >= after:
            raise MalformedError(
                f"bundle.{name} is not in order",
                code="order",
                expected="strictly ascending order without duplicates",
                observed=f"item {index + 1} does not follow item {index}",
                hint="`attested bundle` writes bundles in order",
            )
