"""What the rest of the gateway may ask of a notary, whichever process it lives in.

Every value here is plain frozen data, so that a notary behind a socket needs no other types.

    announce(jti)  ─►  …the request is served…  ─►  seal(outcome)  ─►  SealedReceipt
         │                                              │
         └── no reply is awaited                        └── returns when both are durable

Every announced jti must be sealed exactly once; what is left when the notary closes is sealed
by the notary itself as `gateway_failure`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from attestation.bundle import BootEvidence, Bundle, EpochEvidence
    from attestation.encoding.digest import Digest
    from attestation.lineage.context import LineageContext
    from attestation.receipt.commitments import Openings
    from attestation.receipt.outcome import Outcome
    from attestation.tdx.anchor import Anchor
    from attestation.tdx.collateral import Collateral
    from gateway.errors import NotaryUnavailable


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """A request that was authenticated; nothing of its body has been looked at yet.

    `jti` is 32 lower-case hex characters, `path` the route asked for.  `lineage` is None while
    the caller's lineage headers have not been read or were refused.
    """

    jti: str
    method: str
    path: str
    sub: Digest
    grant_digest: Digest
    lineage: LineageContext | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedReceipt:
    """A receipt that is durable together with its leaf, and what its requester alone may know."""

    jti: str
    token: str
    openings: Openings
    index: int
    digest: Digest


Sealed = Callable[["SealedReceipt | NotaryUnavailable"], None]
"""Called once, in the loop: the receipt, now that it is durable, or why there is none."""


class ReceiptState(StrEnum):
    """Where a receipt is; a caller never waits for a later state unless it asks to."""

    RUNNING = "running"
    SEALED = "sealed"
    ANCHORED = "anchored"
    UNANCHORED_FINAL = "unanchored-final"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What the notary has about one receipt id; `token` and `openings` are None while it runs.

    `proof` is the tlog-proof text of an anchored receipt, `epoch` the first epoch that covers it,
    whose checkpoint the proof ends in.  `earlier` is the evidence of the boot that issued it, with
    its endorsements, if that boot has ended (None: the running one issued it).
    """

    jti: str
    state: ReceiptState
    token: str | None = None
    openings: Openings | None = None
    proof: str | None = None
    epoch: EpochEvidence | None = None
    earlier: Bundle | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """A fresh quote over a tree of nonces, and where the asker's nonce is in that tree.

    `statement` is the canonical challenge statement whose digest the quote reports, `path` the
    RFC 6962 audit path (32-byte hashes) of leaf `index` among `count`.
    """

    statement: bytes
    quote: bytes
    index: int
    count: int
    path: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Boot:
    """One start of the notary, as a verifier needs to see it, and one secret for its workers.

    `collateral` and `anchor` are what the quote provider has (None: the platform has none of
    its own, fetch Intel's); `provider` is the name receipts carry.  `cache_salt_key` (32 bytes)
    follows from the boot secret and is for `gateway.edge.salt` alone: it is no evidence, and
    never leaves memory and the notary's socket.
    """

    evidence: BootEvidence
    collateral: Collateral | None
    anchor: Anchor | None
    provider: str
    keyset_digest: Digest
    log_origin: str
    cache_salt_key: bytes = field(repr=False)


class Notary(Protocol):
    """One boot's notary.

    Methods raise `gateway.errors.NotaryUnavailable` once the boot has ended, for whatever
    reason; a boot never comes back.
    """

    @property
    def boot(self) -> Boot:
        """The boot whose receipts this notary signs."""

    @property
    def healthy(self) -> bool:
        """Whether a request announced now can be expected to get its receipt."""

    @property
    def reason(self) -> str:
        """A stable code for why the notary is not healthy; empty while it is."""

    def announce(self, announcement: Announcement) -> None:
        """Number the request.  Returns at once.

        Raises `ValueError` for a jti that was announced before in this boot.
        """

    def hand_over(self) -> bool:
        """Send what was announced so far; whether there is nothing left to wait for, as mostly."""

    async def handed_over(self) -> None:
        """Return once the notary will know of everything announced so far, whatever becomes of
        the caller's process.  It does not wait for the notary's answer; nothing of a request is
        parsed or forwarded before.
        """

    async def seal(self, outcome: Outcome) -> SealedReceipt:
        """Turn the outcome of an announced request into its one receipt.

        Returns only after receipt and leaf are durable.
        """

    def count_unauthenticated(self, count: int = 1) -> None:
        """Count requests that no key owns: they get no receipt.  Stops at 2^53 - 1."""

    def count_unreceipted(self, count: int = 1) -> None:
        """Count refusals that get no receipt because their key refuses too many a second.

        Stops at 2^53 - 1.
        """

    async def find(
        self, receipt_id: str, sub: Digest, *, wait_seconds: float = 0.0
    ) -> Found | None:
        """Look up a receipt by jti, or by an id that contains one, for its owner only.

        None for what does not exist and for what belongs to another key alike.  With
        `wait_seconds` (at most 30) it may return later, in hope of a later state.  Receipts of
        ended boots are found as well, without openings: those ended with their boot.  Raises
        `attestation.errors.UnavailableError` if the log cannot be read (code "log_unreadable").
        """

    async def challenge(self, nonce: bytes) -> Challenge:
        """Return a quote fresh for this 32-byte nonce; it may be shared with other nonces.

        Raises `attestation.errors.UnavailableError` if the platform gives none in time or too
        many wait already; the boot goes on.
        """

    async def read_log(self, path: str) -> bytes | None:
        """Return a resource of this boot's log as C2SP tlog-tiles names it, or None if absent.

        `path` is "checkpoint", "tile/<level>/<number>[.p/<width>]" or
        "tile/entries/<number>[.p/<width>]".  None also for tiles beyond the newest checkpoint.
        Raises `attestation.errors.UnavailableError` if what exists cannot be read.
        """

    async def epoch(self, number: int | None) -> EpochEvidence | None:
        """Return an epoch of this boot by its number, the newest for None; None if absent."""

    async def metrics_text(self) -> bytes:
        """Return the notary's own metrics in Prometheus' text format."""

    async def close(self) -> None:
        """Seal what was announced and never sealed as `gateway_failure`, have the log's end
        quoted, and end the boot.
        """
