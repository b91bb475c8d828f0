"""One request and what came back for it, exactly as the bytes went over the wire."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from attestation.receipt.signing import Receipt, parse_receipt

if TYPE_CHECKING:
    from attestation.bundle import EpochEvidence
    from attestation.encoding.digest import Digest
    from attestation.receipt.commitments import Openings
    from attestation.result import AttestationResult, Verdict
    from attestation.tdx.collateral import Collateral


class Ended(StrEnum):
    """How the answer ended for this client."""

    COMPLETE = "complete"  # read to its end
    LEFT = "left"  # the application closed it before its end
    CUT = "cut"  # the connection failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchoring:
    """What puts a receipt into the quoted log: its inclusion proof (tlog-proof text) and the
    epoch whose checkpoint the proof ends in, with the endorsements of that epoch's quote.
    """

    proof: str = field(repr=False)
    epoch: EpochEvidence = field(repr=False)
    collateral: tuple[Collateral, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One recorded call.

    `request_body` and `response_body` are the exact bytes sent and read (transfer-coding
    removed; a receipt block inside a stream is still in it).  `receipt` is the token and
    `openings` the keys that prove the bodies; both are None where none came.  `peer` is the
    SHA-256 of the SubjectPublicKeyInfo that the connection ended at, None without TLS.  `result`
    is the verification, None where there was nothing to verify; under a policy that requires
    anchored receipts it is INCOMPLETE until `anchoring` is there.  `credential` are the header
    fields that the receipt can be fetched with.
    """

    method: str
    path: str
    nonce: str
    request_body: bytes = field(repr=False)
    response_body: bytes = field(default=b"", repr=False)
    status: int | None = None
    content_type: str | None = None
    receipt_id: str | None = None
    receipt: str | None = field(default=None, repr=False)
    openings: Openings | None = field(default=None, repr=False)
    peer: Digest | None = None
    ended: Ended = Ended.COMPLETE
    anchoring: Anchoring | None = None
    credential: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    result: AttestationResult | None = field(default=None, repr=False)

    @property
    def succeeded(self) -> bool:
        """Whether the answer was read to its end and has a 2xx status."""
        return self.ended is Ended.COMPLETE and self.status is not None and 200 <= self.status < 300

    @property
    def anchored(self) -> bool:
        """Whether a quoted state of the log covers the receipt, and that was verified."""
        return self.anchoring is not None and self.result is not None

    @property
    def verdict(self) -> Verdict | None:
        """The verdict of the verification, None where there was nothing to verify."""
        return self.result.verdict if self.result is not None else None

    def parse_receipt(self) -> Receipt | None:
        """The receipt with its claims; `MalformedError` if it is none, None where none came."""
        return parse_receipt(self.receipt) if self.receipt is not None else None
