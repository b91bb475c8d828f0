"""Tokens as issuers make them, and as nobody should: any bytes, signed by keys of one's own."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from attestation.encoding import base64url
from gateway.access.bearer import Keys, TokenProfile, parse_issuer_keys

NOW = 1_800_000_000
ISSUER = "https://issuer.test"
AUDIENCE = "gateway.test"
REQUIRED = frozenset(("iss", "aud", "exp", "iat", "sub"))
PROFILE = TokenProfile(
    issuer=ISSUER,
    audience=AUDIENCE,
    types=frozenset(("at+jwt",)),
    required=REQUIRED,
    max_lifetime=3600,
    leeway=0,
)
_MAKERS: dict[str, Any] = {
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ES384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ES512": lambda: ec.generate_private_key(ec.SECP521R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
    "RS256": lambda: rsa.generate_private_key(65537, 2048),
    "PS256": lambda: rsa.generate_private_key(65537, 2048),
    "Ed448": ed448.Ed448PrivateKey.generate,
}


@dataclass(slots=True, kw_only=True)
class Signer:
    """An issuer's key: its algorithm by PyJWT's name, its `kid`, and its JWK."""

    alg: str = "ES256"
    kid: str = "k1"
    private: Any = None
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.private = self.private or _MAKERS[self.alg]()

    @property
    def jwk(self) -> dict[str, Any]:
        algorithm: Any = jwt.PyJWS().get_algorithm_by_name(self._pyjwt)
        public = json.loads(algorithm.to_jwk(self.private.public_key()))
        public = {name: value for name, value in public.items() if name not in ("key_ops", "use")}
        return {**public, "alg": self.alg, "kid": self.kid, **self.extra}

    @property
    def jwks(self) -> dict[str, Any]:
        return {"keys": [self.jwk]}

    @property
    def keys(self) -> Keys:
        return parse_issuer_keys(self.jwks)

    @property
    def _pyjwt(self) -> str:
        return "EdDSA" if self.alg.startswith("Ed") else self.alg

    def sign(self, header: bytes, payload: bytes) -> bytes:
        """A token of exactly these bytes."""
        signed = f"{base64url.encode(header)}.{base64url.encode(payload)}".encode()
        algorithm: Any = jwt.PyJWS().get_algorithm_by_name(self._pyjwt)
        signature = algorithm.sign(signed, self.private)
        return signed + b"." + base64url.encode(signature).encode()

    def token(self, header: dict[str, Any] | None = None, **claims: Any) -> bytes:
        """A good token, with members of its header and claims replaced; None leaves one out."""
        head = {"alg": self.alg, "kid": self.kid, "typ": "at+jwt", **(header or {})}
        body = {**good_claims(), **claims}
        return self.sign(_dump(head), _dump(body))


def good_claims(now: int = NOW) -> dict[str, Any]:
    return {"iss": ISSUER, "aud": AUDIENCE, "sub": "agent-1", "iat": now - 10, "exp": now + 300}


def _dump(members: dict[str, Any]) -> bytes:
    return json.dumps({k: v for k, v in members.items() if v is not None}).encode()
