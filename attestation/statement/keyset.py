"""The keys of one boot, each in exactly one role."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from attestation.encoding.digest import Digest
from attestation.encoding.jwk import parse_public_jwk, public_jwk
from attestation.encoding.members import Members
from attestation.errors import MalformedError
from attestation.merkle.note import Vkey, parse_vkey
from attestation.statement.common import Canonical

if TYPE_CHECKING:
    from attestation.encoding.jwk import Jwk
    from attestation.encoding.strict_json import JsonValue

MAX_TLS_KEYS: Final = 8
# The DER of an Ed25519 SubjectPublicKeyInfo up to its 32 key bytes (RFC 8410 section 4).
_ED25519_SPKI_PREFIX: Final = bytes.fromhex("302a300506032b6570032100")


@dataclass(frozen=True, slots=True, kw_only=True)
class Keyset(Canonical):
    """The log's verifier key (C2SP vkey), the receipt key, and the SHA-256 of the
    SubjectPublicKeyInfo of each TLS key.  `not_after` is Unix seconds.

    Its existence proves that no key has two roles; `MalformedError` (code "keyset") otherwise.
    """

    log_vkey: str
    not_after: int
    receipt_key: Jwk
    tls_spki: tuple[Digest, ...]

    def __post_init__(self) -> None:
        if self.log_key.public == self.receipt_key.raw:
            raise _two_roles("a log key that is not the receipt key")
        if len(set(self.tls_spki)) != len(self.tls_spki):
            raise _two_roles("every TLS key once")
        if any(_spki_digest(raw) in self.tls_spki for raw in self._signing_keys()):
            raise _two_roles("TLS keys that sign neither receipts nor the log")

    @property
    def log_key(self) -> Vkey:
        """The log's key, taken apart."""
        return parse_vkey(self.log_vkey)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "log": self.log_vkey,
            "not_after": self.not_after,
            "receipt": [public_jwk(self.receipt_key.raw)],
            "tls": [{"spki_sha256": digest.hex} for digest in self.tls_spki],
        }

    def _signing_keys(self) -> tuple[bytes, bytes]:
        return self.receipt_key.raw, self.log_key.public


def parse_keyset(value: JsonValue) -> Keyset:
    """Return the keyset of a parsed JSON value: closed, exactly one receipt key.

    Raises `MalformedError`.
    """
    members = Members(value, "the keyset")
    keys = members.array("receipt", max_items=1)
    if not keys:
        raise MalformedError(
            "the keyset has no receipt key", code="keyset", expected="exactly one receipt key"
        )
    keyset = Keyset(
        log_vkey=members.text("log"),
        not_after=members.integer("not_after"),
        receipt_key=parse_public_jwk(keys[0], what="the receipt key"),
        tls_spki=tuple(_spki(entry) for entry in members.array("tls", max_items=MAX_TLS_KEYS)),
    )
    members.close()
    return keyset


def _spki(entry: JsonValue) -> Digest:
    members = Members(entry, "a TLS key of the keyset")
    digest = members.digest_hex("spki_sha256")
    members.close()
    return digest


def _spki_digest(raw: bytes) -> Digest:
    return Digest.of(_ED25519_SPKI_PREFIX + raw)


def _two_roles(expected: str) -> MalformedError:
    return MalformedError("the keyset uses a key twice", code="keyset", expected=expected)
