"""What stands in the leaf records of a segment, and the log entry each of them makes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from attestation.bundle import SCHEMA, parse_bundle
from attestation.encoding import jcs
from attestation.encoding.digest import Digest
from attestation.errors import MalformedError
from gateway.notary.log.segments import Kind

if TYPE_CHECKING:
    from attestation.bundle import EpochEvidence
    from gateway.notary.log.segments import Record

_JTI_BYTES = 16
_HEAD_BYTES = _JTI_BYTES + 32
_BUNDLE_BEFORE = b'{"boots":[],"collateral":{},"epochs":['
_BUNDLE_AFTER = b'],"receipts":[],"schema":"%s","tasks":[]}' % SCHEMA.encode("ascii")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredReceipt:
    """A receipt as its record holds it: id (16 bytes), owner, compact JWS."""

    jti: bytes
    sub: Digest
    token: str

    @property
    def digest(self) -> Digest:
        """The receipt digest: SHA-256 of the signing input."""
        return receipt_digest(self.token.encode("ascii"))


def log_entry(kind: int, digest: Digest) -> bytes:
    """Return the 33-byte log entry: type ‖ SHA-256."""
    return bytes((kind,)) + digest.value


def receipt_payload(jti: bytes, sub: Digest, token: str) -> bytes:
    """Return the payload of a receipt's record."""
    return jti + sub.value + token.encode("ascii")


def parse_receipt_payload(payload: bytes) -> StoredReceipt:
    """Return the parts of a receipt's record; the JWS itself is not parsed.

    Raises `MalformedError` (code "receipt_record").
    """
    token = payload[_HEAD_BYTES:]
    if not token.isascii() or token.count(b".") != 2:
        raise MalformedError(
            "a record holds no receipt",
            code="receipt_record",
            expected="an id, an owner and a compact JWS",
        )
    return StoredReceipt(
        jti=payload[:_JTI_BYTES],
        sub=Digest(payload[_JTI_BYTES:_HEAD_BYTES]),
        token=token.decode("ascii"),
    )


def epoch_payload(epoch: EpochEvidence) -> bytes:
    """Return the payload of an epoch's record."""
    return jcs.canonicalize(epoch.to_json())


def parse_epoch_payload(payload: bytes) -> EpochEvidence:
    """Return the epoch in a record, parsed as an audit bundle's only one is.

    Raises `MalformedError`.
    """
    epochs = parse_bundle(_BUNDLE_BEFORE + payload + _BUNDLE_AFTER).epochs
    if len(epochs) != 1:
        raise MalformedError(
            "a record holds no epoch", code="epoch_record", expected="exactly one epoch"
        )
    return epochs[0]


def receipt_digest(token: bytes) -> Digest:
    """Return SHA-256 of the signing input of a compact JWS."""
    return Digest.of(token.rpartition(b".")[0])


def leaf_digest(record: Record) -> Digest:
    """Return the digest that the log entry of a leaf record holds.

    Raises `MalformedError` for a payload that its kind cannot have.
    """
    if record.kind is Kind.RECEIPT:
        return receipt_digest(record.payload[_HEAD_BYTES:])
    if record.kind is Kind.EPOCH:
        return parse_epoch_payload(record.payload).statement.digest
    return Digest.of(record.payload)


def entry_of(record: Record) -> bytes:
    """Return the log entry of a leaf record.  Raises as `leaf_digest`."""
    return log_entry(record.kind, leaf_digest(record))
