"""The receipt as a token: a JWS in compact form (RFC 7515) under an Ed25519 key (RFC 8037).

A receipt has one spelling: header and payload are canonical JSON and the base64url is
canonical.  Its digest covers the signing input, because that is what the key vouches for.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from attestation.encoding import base64url, jcs
from attestation.encoding.digest import Digest
from attestation.encoding.jws import assemble, encode_signing_input, parse_compact_jws
from attestation.encoding.members import Members
from attestation.errors import EvidenceError, MalformedError
from attestation.receipt.claims_parser import parse_claims

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from attestation.encoding.jwk import Jwk
    from attestation.encoding.jws import CompactJws
    from attestation.receipt.claims import ReceiptClaims

TYPE: Final = "inference-receipt+jwt"
ALGORITHMS: Final = ("EdDSA", "Ed25519")
MAX_TOKEN_BYTES: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """A token whose form is right; whether its signature holds is another question."""

    jws: CompactJws
    claims: ReceiptClaims
    kid: str

    @property
    def digest(self) -> Digest:
        """SHA-256 of the signing input."""
        return self.jws.digest

    @property
    def token(self) -> str:
        """The compact JWS."""
        return self.jws.token


def sign_receipt(claims: ReceiptClaims, private_key: Ed25519PrivateKey, kid: str) -> str:
    """Return the token, at most 4096 bytes.

    `kid` is the RFC 7638 thumbprint of the key.  Raises `MalformedError` (code "size") if the
    claims do not fit.
    """
    return sign_payload(claims.encode(), private_key, kid)[0]


def sign_payload(payload: bytes, private_key: Ed25519PrivateKey, kid: str) -> tuple[str, Digest]:
    """As `sign_receipt`, for claims that are written already; return the receipt digest too."""
    signing_input = b"%s.%s" % (_header(kid), base64url.encode_ascii(payload))
    token = assemble(signing_input, private_key.sign(signing_input))
    if len(token) > MAX_TOKEN_BYTES:
        raise MalformedError(
            "the receipt is too large",
            code="size",
            expected=f"at most {MAX_TOKEN_BYTES} bytes",
            observed=f"{len(token)} bytes",
        )
    return token, Digest.of(signing_input)


def parse_receipt(token: str | bytes) -> Receipt:
    """Return the receipt in `token`.

    Guarantees: the size, the three header members, header and payload in canonical form, and
    closed claims.  Raises `MalformedError`.
    """
    jws = parse_compact_jws(token, what="the receipt", max_bytes=MAX_TOKEN_BYTES)
    header = Members(jws.header, "the header of the receipt")
    header.text("alg", choices=ALGORITHMS)
    header.text("typ", choices=(TYPE,))
    kid = header.text("kid", pattern=r"[A-Za-z0-9_-]{43}")
    header.close()
    if encode_signing_input(jws.header, jws.payload) != jws.signing_input:
        raise MalformedError(
            "the receipt is not canonical JSON",
            code="not_canonical",
            expected="header and payload in exactly the RFC 8785 form of their values",
        )
    return Receipt(jws=jws, claims=parse_claims(jws.payload), kid=kid)


def verify_receipt_signature(receipt: Receipt, key: Jwk) -> None:
    """Raise `EvidenceError` unless `key` is the named key and signed exactly this receipt."""
    if receipt.kid != key.kid:
        raise EvidenceError(
            "the receipt names another key",
            code="kid",
            expected=f"kid {key.kid}",
            observed=f"kid {receipt.kid}",
        )
    # The algorithm comes from the key; PyJWT calls it EdDSA whatever the header calls it.
    algorithm = jwt.PyJWS().get_algorithm_by_name(ALGORITHMS[0])
    public_key = Ed25519PublicKey.from_public_bytes(key.raw)
    if not algorithm.verify(receipt.jws.signing_input, public_key, receipt.jws.signature):
        raise EvidenceError(
            "the signature of the receipt does not hold",
            code="signature",
            expected=f"a signature by key {key.kid}",
            hint="the receipt was changed, or it was signed by another key",
        )


@lru_cache(maxsize=4)
def _header(kid: str) -> bytes:
    # The same for every receipt of a boot.
    return base64url.encode_ascii(jcs.canonicalize({"alg": ALGORITHMS[0], "kid": kid, "typ": TYPE}))
