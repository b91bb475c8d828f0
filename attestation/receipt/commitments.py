"""Commitments to bodies, and the openings that let their holder prove them.

A plain hash of a short prompt can be guessed, so a receipt holds
`HMAC-SHA256(K, SHA-256(body))` (RFC 2104) with one key per label and receipt.  Whoever has the
key and the body can prove the body; each key can be disclosed without the others; the keys are
derived from the boot secret, so nothing is stored and nothing can be opened after the boot.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from attestation.encoding import base64url, jcs
from attestation.encoding.members import Members
from attestation.encoding.strict_json import JsonLimits
from attestation.errors import EvidenceError, MalformedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from attestation.encoding.digest import Digest
    from attestation.encoding.strict_json import JsonValue
    from attestation.receipt.outcome import Outcome

LABELS: Final = ("req", "fwd", "eng", "res")
MAX_HEADER_CHARS: Final = 4096
_MAX_INSERTED: Final = 4
_MAX_INSERTED_BYTES: Final = 512
_BLOCK: Final = 64
_INNER: Final = bytes(byte ^ 0x36 for byte in range(256))
_OUTER: Final = bytes(byte ^ 0x5C for byte in range(256))
_INNER_REST: Final = b"\x36" * 32
_OUTER_REST: Final = b"\x5c" * 32
_LIMITS: Final = JsonLimits(max_bytes=MAX_HEADER_CHARS, max_depth=3, max_members=8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Openings:
    """What the requester needs to prove its bodies: a 32-byte key per label, and the bytes the
    gateway inserted into the forwarded body, in the order of the receipt's rewrites.
    """

    keys: Mapping[str, bytes] = field(repr=False)
    inserted: tuple[bytes, ...] = field(default=(), repr=False)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        members: dict[str, Any] = {name: base64url.encode(key) for name, key in self.keys.items()}
        if self.inserted:
            members["ins"] = [base64url.encode(piece) for piece in self.inserted]
        return members

    def encode_header(self) -> str:
        """Return base64url of the canonical JSON form, as headers and stream blocks carry it."""
        return base64url.encode(jcs.canonicalize(self.to_json()))


class Committer:
    """Makes the keys and commitments of one boot's receipts.

    The same as `commitment_key` and `commit`, in half of their time: what HMAC hashes of the boot
    secret is hashed once, and each HMAC under a fresh key is its two hashes (RFC 2104 section 2)
    without the set-up of an HMAC, which takes longer than they do.
    """

    def __init__(self, boot_secret: bytes) -> None:
        secret = boot_secret if len(boot_secret) <= _BLOCK else sha256(boot_secret).digest()
        block = secret.ljust(_BLOCK, b"\0")
        self._outer = sha256(block.translate(_OUTER))
        inner = block.translate(_INNER)
        self._inner = {label: sha256(inner + _context(label)) for label in LABELS}

    def commit(self, outcome: Outcome) -> tuple[dict[str, bytes], dict[str, bytes]]:
        """Return the keys and the commitments of those bodies that the outcome has, by label."""
        keys: dict[str, bytes] = {}
        commitments: dict[str, bytes] = {}
        jti = outcome.jti.encode("ascii")
        bodies = (outcome.request, outcome.forwarded, outcome.engine, outcome.response)
        for label, body in zip(LABELS, bodies, strict=True):
            if body is not None:
                keys[label] = key = self._key(label, jti)
                inner = sha256(key.translate(_INNER) + _INNER_REST + body.digest.value).digest()
                commitments[label] = sha256(key.translate(_OUTER) + _OUTER_REST + inner).digest()
        return keys, commitments

    def _key(self, label: str, jti: bytes) -> bytes:
        inner, outer = self._inner[label].copy(), self._outer.copy()
        inner.update(jti)
        outer.update(inner.digest())
        return outer.digest()


def commitment_key(boot_secret: bytes, label: str, jti: str) -> bytes:
    """Return the 32-byte key of one label of one receipt."""
    return hmac.digest(boot_secret, _context(label) + jti.encode("ascii"), "sha256")


def commit(key: bytes, body_digest: Digest) -> bytes:
    """Return the 32-byte commitment to a body with this digest."""
    return hmac.digest(key, body_digest.value, "sha256")


def verify_commitment(commitment: bytes, key: bytes, body_digest: Digest, *, what: str) -> None:
    """Raise `EvidenceError` (code "commitment") unless `key` opens `commitment` to the body."""
    if not hmac.compare_digest(commit(key, body_digest), commitment):
        raise EvidenceError(
            f"{what} is not the one the receipt commits to",
            code="commitment",
            expected="the exact bytes, byte for byte, and the openings of this very receipt",
            observed=f"a body with {body_digest}",
        )


def parse_openings(value: JsonValue) -> Openings:
    """Return the openings of a parsed JSON value: closed members.  Raises `MalformedError`."""
    members = Members(value, "the openings")
    keys = {
        label: members.bytes_base64url(label, length=32) for label in LABELS if members.has(label)
    }
    inserted = _inserted(members) if members.has("ins") else ()
    members.close()
    return Openings(keys=keys, inserted=inserted)


def parse_openings_header(text: str) -> Openings:
    """Return the openings of their header form.  Raises `MalformedError`."""
    if len(text) > MAX_HEADER_CHARS:
        raise MalformedError(
            "the openings are too large",
            code="size",
            expected=f"at most {MAX_HEADER_CHARS} characters",
            observed=f"{len(text)} characters",
        )
    data = base64url.decode(text, what="the openings")
    return parse_openings(jcs.parse_canonical(data, _LIMITS, what="the openings"))


def _context(label: str) -> bytes:
    return b"attested-gateway/commit/v1/%s/" % label.encode("ascii")


def _inserted(members: Members) -> tuple[bytes, ...]:
    items = members.array("ins", max_items=_MAX_INSERTED)
    if not items or not all(isinstance(item, str) for item in items):
        raise MalformedError(
            "the openings list inserted bytes in another form",
            code="member_type",
            expected="one or more base64url strings, or no member ins",
        )
    pieces = tuple(base64url.decode(item, what="the openings' inserted bytes") for item in items)
    if any(len(piece) > _MAX_INSERTED_BYTES for piece in pieces):
        raise MalformedError(
            "the openings list too long an insertion",
            code="member_value",
            expected=f"at most {_MAX_INSERTED_BYTES} bytes each",
        )
    return pieces
