"""What a ledger goes by and holds: its boot, admissions, receipts that have their index."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from attestation.receipt.seal import SealContext
from attestation.receipt.sealer import Sealer

if TYPE_CHECKING:
    from attestation.encoding.digest import Digest
    from attestation.receipt.claims import End
    from gateway.notary.boot import BootSecrets, StartedBoot
    from gateway.notary.interface import Announcement, SealedReceipt


class OutcomeRefused(Exception):  # noqa: N818 - says what happened, and is caught next door
    """The outcome cannot become a receipt; no index was taken."""


class Admission(NamedTuple):
    """A request that is announced and not yet sealed, with its admission number."""

    number: int
    announcement: Announcement


class Sequenced(NamedTuple):
    """A receipt that has its index; it may leave once its record, `frame`, is durable."""

    receipt: SealedReceipt
    sub: Digest
    path: str
    end: End
    frame: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerBoot:
    """What every receipt of a boot has in common."""

    issuer: str
    provider: str
    started: StartedBoot
    drawn: BootSecrets = field(repr=False)

    def sealer(self) -> Sealer:
        """Return what makes the receipts of this boot."""
        statement = self.started.evidence.statement
        common = SealContext(
            issuer=self.issuer,
            issued_at=0,
            bootseed=self.drawn.bootseed,
            boot_secret=self.drawn.commitment,
            keyset_digest=statement.keyset_digest,
            debug=self.started.dbgstat,
            provider=self.provider,
            quote_digest=self.started.quote.digest,
            log_origin=statement.log_origin,
            index=0,
            admission=0,
            call=0,
            previous=None,
            model=self.started.model,
        )
        return Sealer(common, self.drawn.receipt_key, self.drawn.receipt_jwk.kid)
