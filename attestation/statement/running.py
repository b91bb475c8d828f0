"""Statements a running boot has quoted: epochs of its log, and answers to challenges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from attestation.encoding import jcs
from attestation.encoding.digest import Digest
from attestation.encoding.members import Members
from attestation.merkle.tree import leaf_hash, root_hash
from attestation.statement.common import (
    Canonical,
    digest_or_null,
    hex_or_null,
    read_bootseed,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from attestation.encoding.strict_json import JsonValue

EPOCH_PURPOSE: Final = "attested-gateway/epoch/v1"
CHALLENGE_PURPOSE: Final = "attested-gateway/challenge/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochStatement(Canonical):
    """The log at one moment: its size and root, the checkpoint over them (digest of the note text
    without signatures), the quote before this one, and the counters taken in the same instant.
    """

    bootseed: bytes
    boot_quote_digest: Digest
    keyset_digest: Digest
    epoch: int
    size: int
    root: Digest
    checkpoint_digest: Digest
    prev_quote_digest: Digest
    grants_digest: Digest
    admitted: int
    completed: int
    in_flight: int
    unauthenticated: int
    refused_unreceipted: int
    time_claimed: int
    gpu_digest: Digest | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "admitted": self.admitted,
            "boot_quote_digest": self.boot_quote_digest.hex,
            "bootseed": self.bootseed.hex(),
            "checkpoint_digest": self.checkpoint_digest.hex,
            "completed": self.completed,
            "epoch": self.epoch,
            "gpu_digest": hex_or_null(self.gpu_digest),
            "grants_digest": self.grants_digest.hex,
            "in_flight": self.in_flight,
            "keyset_digest": self.keyset_digest.hex,
            "prev_quote_digest": self.prev_quote_digest.hex,
            "purpose": EPOCH_PURPOSE,
            "refused_unreceipted": self.refused_unreceipted,
            "root": self.root.hex,
            "size": self.size,
            "time_claimed": self.time_claimed,
            "unauthenticated": self.unauthenticated,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ChallengeStatement(Canonical):
    """A fresh quote over the nonces that waited together, and the log's size and root then."""

    bootseed: bytes
    boot_quote_digest: Digest
    keyset_digest: Digest
    nonce_root: Digest
    size: int
    root: Digest

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "boot_quote_digest": self.boot_quote_digest.hex,
            "bootseed": self.bootseed.hex(),
            "keyset_digest": self.keyset_digest.hex,
            "nonce_root": self.nonce_root.hex,
            "purpose": CHALLENGE_PURPOSE,
            "root": self.root.hex,
            "size": self.size,
        }


def nonce_root(nonces: Sequence[bytes]) -> Digest:
    """Return the RFC 6962 root over nonces of 32 bytes each, in the order they came."""
    return Digest(root_hash([leaf_hash(nonce) for nonce in nonces]))


def grants_digest(grants: Iterable[Digest]) -> Digest:
    """Return what an epoch states of the grants (claim `pol.dig`) of the receipts below its size.

    SHA-256 of the RFC 8785 form of the array of the distinct digests in hexadecimal, ascending:
    whoever holds all of these receipts can compute it again.
    """
    return Digest.of(jcs.canonicalize(sorted({grant.hex for grant in grants})))


def parse_epoch_statement(value: JsonValue) -> EpochStatement:
    """Return the epoch statement of a parsed JSON value: closed.  Raises `MalformedError`."""
    members = Members(value, "the epoch statement")
    members.text("purpose", choices=(EPOCH_PURPOSE,))
    statement = EpochStatement(
        bootseed=read_bootseed(members),
        boot_quote_digest=members.digest_hex("boot_quote_digest"),
        keyset_digest=members.digest_hex("keyset_digest"),
        epoch=members.integer("epoch"),
        size=members.integer("size", minimum=1),
        root=members.digest_hex("root"),
        checkpoint_digest=members.digest_hex("checkpoint_digest"),
        prev_quote_digest=members.digest_hex("prev_quote_digest"),
        grants_digest=members.digest_hex("grants_digest"),
        admitted=members.integer("admitted"),
        completed=members.integer("completed"),
        in_flight=members.integer("in_flight"),
        unauthenticated=members.integer("unauthenticated"),
        refused_unreceipted=members.integer("refused_unreceipted"),
        time_claimed=members.integer("time_claimed"),
        gpu_digest=digest_or_null(members, "gpu_digest"),
    )
    members.close()
    return statement


def parse_challenge_statement(value: JsonValue) -> ChallengeStatement:
    """Return the challenge statement of a parsed JSON value: closed.  Raises `MalformedError`."""
    members = Members(value, "the challenge statement")
    members.text("purpose", choices=(CHALLENGE_PURPOSE,))
    statement = ChallengeStatement(
        bootseed=read_bootseed(members),
        boot_quote_digest=members.digest_hex("boot_quote_digest"),
        keyset_digest=members.digest_hex("keyset_digest"),
        nonce_root=members.digest_hex("nonce_root"),
        size=members.integer("size", minimum=1),
        root=members.digest_hex("root"),
    )
    members.close()
    return statement
