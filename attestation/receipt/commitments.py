"""Commitments to bodies, and the openings that let their holder prove them.

A plain hash of a short prompt can be guessed, so a receipt holds
`HMAC-SHA256(K, SHA-256(body))` (RFC 2104) with one key per label and receipt.  Whoever has the
key and the body can prove the body; each key can be disclosed without the others; the keys are
derived from the boot secret, so nothing is stored and nothing can be opened after the boot.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from attestation.encoding import base64url, jcs
from attestation.encoding.members import Members
from attestation.encoding.strict_json import JsonLimits
from attestation.errors import EvidenceError, MalformedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from attestation.encoding.digest import Digest
    from attestation.encoding.strict_json import JsonValue

LABELS: Final = ("req", "fwd", "eng", "res")
MAX_HEADER_CHARS: Final = 4096
_MAX_INSERTED: Final = 4
_MAX_INSERTED_BYTES: Final = 512
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


def commitment_key(boot_secret: bytes, label: str, jti: str) -> bytes:
    """Return the 32-byte key of one label of one receipt."""
    context = f"attested-gateway/commit/v1/{label}/{jti}"
    return hmac.digest(boot_secret, context.encode("ascii"), "sha256")


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
