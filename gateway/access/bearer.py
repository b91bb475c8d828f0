"""Bearer tokens (JWT, RFC 7519) of others: parsed strictly, then verified against pinned keys.

JWT libraries accept duplicate members, `zip`, any `typ` and several spellings of one token
(RFC 8725 lists what came of it).  Here a token has one spelling, its header exactly the members
that are known, and the key says which algorithm.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any, Final

import jwt

from attestation.encoding import base64url
from attestation.encoding.jws_keys import parse_verification_keys
from attestation.encoding.members import Members
from attestation.encoding.strict_json import JsonLimits, parse_json_object
from attestation.errors import EvidenceError, MalformedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from attestation.encoding.jws_keys import VerificationKey
    from attestation.encoding.strict_json import JsonValue

MAX_TOKEN_BYTES: Final = 8192
MAX_KEYS: Final = 64
_LIMITS: Final = JsonLimits(max_bytes=MAX_TOKEN_BYTES, max_depth=16, max_members=512)
_MAX_AUDIENCES: Final = 64
_MAX_SUBJECT: Final = 1024
_NAME: Final = r"[\x21-\x7e]{1,128}"
# PyJWT's names.  RFC 9864 named the curve of EdDSA; for an Ed25519 key both mean the same.
_ALGORITHMS: Final = {
    kind + bits: kind + bits for kind in ("ES", "RS", "PS") for bits in ("256", "384", "512")
} | {"Ed25519": "EdDSA"}
_TIMES: Final = ("exp", "nbf", "iat")
_TEXTS: Final = ("iss", "sub", "jti")

Keys = dict[str, "VerificationKey"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BearerToken:
    """The parts of a token; nothing is said yet about who signed it."""

    algorithm: str
    kid: str
    type: str | None
    claims: dict[str, Any]
    signing_input: bytes
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenProfile:
    """What a token has to say: exactly this issuer, this audience, one of these types (None: no
    `typ`), at least these claims.

    `max_lifetime` bounds exp - iat in seconds (None: no bound); `leeway` is how many seconds
    the issuer's clock may be off.
    """

    issuer: str
    audience: str
    types: frozenset[str | None]
    required: frozenset[str]
    max_lifetime: int | None = None
    leeway: int = 0


def parse_bearer_token(token: bytes) -> BearerToken:
    """Return the parts of `token`.

    Guarantees: ASCII of at most 8192 bytes, exactly two dots, canonical base64url without
    padding, header and payload strict JSON objects, the header just `alg`, `kid` and perhaps
    `typ`.  So there is no `jwk`, `jku`, `x5u`, `x5c`, `crit`, `zip` or `b64`.  Raises
    `MalformedError`, whose texts quote nothing of the token.
    """
    parts = token.split(b".")
    if len(token) > MAX_TOKEN_BYTES or len(parts) != 3 or not token.isascii():
        raise MalformedError(
            "the token is not a compact JWS",
            code="jws",
            expected=f"three parts of ASCII separated by dots, at most {MAX_TOKEN_BYTES} bytes",
            observed=f"{len(parts)} parts, {len(token)} bytes",
        )
    header, payload, signature = (
        base64url.decode(part.decode("ascii"), what="a part of the token") for part in parts
    )
    members = Members(parse_json_object(header, _LIMITS), "the token's header")
    parsed = BearerToken(
        algorithm=members.text("alg", pattern=_NAME),
        kid=members.text("kid", pattern=_NAME),
        type=members.text("typ", pattern=_NAME) if members.has("typ") else None,
        claims=parse_json_object(payload, _LIMITS),
        signing_input=token[: token.rindex(b".")],
        signature=signature,
    )
    members.close()
    return parsed


def parse_issuer_keys(value: JsonValue) -> Keys:
    """Return the keys of a JWK Set by their `kid`.

    Every key has a `kid` of its own and an `alg`: one key, one algorithm.  Only ES*, EdDSA with
    Ed25519, RS* and PS* with at least 2048 bits; no secret, no private key.  Raises
    `MalformedError`.
    """
    found = parse_verification_keys(value)
    if not 1 <= len(found.keys) <= MAX_KEYS:
        raise MalformedError(
            "the key set has another number of keys",
            code="jwk",
            expected=f"1 to {MAX_KEYS}",
            observed=f"{len(found.keys)}",
        )
    keys: Keys = {}
    for index, jwk in enumerate(found.keys):
        kid = jwk.text("kid", pattern=_NAME)
        if jwk.has("k") or jwk.has("d"):
            raise MalformedError(
                f"key {index} of the set is secret",
                code="jwk",
                expected="public keys: whoever holds these could make tokens",
            )
        jwk.text("alg")
        keys[kid] = _supported(found.choose(kid), index)
    return keys


def _supported(key: VerificationKey, index: int) -> VerificationKey:
    if key.algorithm not in _ALGORITHMS:
        raise MalformedError(
            f"key {index} of the set is for an algorithm that is not supported",
            code="jwk",
            expected=", ".join(sorted(_ALGORITHMS)) + " (EdDSA)",
            observed=key.algorithm,
        )
    return key


def verify_bearer_token(
    token: BearerToken, keys: Mapping[str, VerificationKey], profile: TokenProfile, now: int
) -> None:
    """Show that the token is one of `profile`, signed by one of `keys` and good at `now`.

    1. the issuer is the profile's, to the letter
    2. `kid` names one of the issuer's keys, and `alg` is that key's algorithm
    3. `typ` is one the profile takes
    4. the signature holds over header and payload
    5. the required claims are there, and every registered one has its type
    6. the audience is, or lists, the profile's
    7. now < exp, nbf <= now, iat <= now, each by at most the leeway; exp - iat within bounds

    `now` is in Unix seconds.  Raises `EvidenceError` (codes "iss", "kid", "alg", "typ",
    "signature", "claims", "aud", "expired", "not_yet", "lifetime").
    """
    if token.claims.get("iss") != profile.issuer:
        raise _refused("iss", "the token is of another issuer")
    key = keys.get(token.kid)
    if key is None:
        raise _refused("kid", "the token names no key of its issuer")
    if token.algorithm not in key.names:
        raise _refused("alg", "the token names another algorithm than its key")
    if token.type not in profile.types:
        raise _refused("typ", "the token is of another type")
    _verify_signature(token, key)
    _require_claims(token.claims, profile.required)
    _require_audience(token.claims, profile.audience)
    _require_time(token.claims, profile, now)


def _verify_signature(token: BearerToken, key: VerificationKey) -> None:
    # The algorithm comes from the key.
    algorithm = jwt.PyJWS().get_algorithm_by_name(_ALGORITHMS[key.algorithm])
    if not algorithm.verify(token.signing_input, key.key, token.signature):
        raise _refused("signature", "the signature of the token does not hold")


def _require_claims(claims: dict[str, Any], required: frozenset[str]) -> None:
    if not required <= claims.keys():
        raise _refused("claims", "the token lacks a claim")
    for name in _TEXTS:
        if name in claims and type(claims[name]) is not str:
            raise _refused("claims", "a claim of the token has the wrong type")
    if not 0 < len(claims.get("sub", "-")) <= _MAX_SUBJECT:
        raise _refused("claims", "the subject of the token is empty or too long")
    for name in _TIMES:
        value = claims.get(name, 0)
        # RFC 7519 section 2: a NumericDate may have a fraction.  A boolean is no number.
        if type(value) not in (int, float) or not isfinite(value):
            raise _refused("claims", "a time in the token is no number")


def _require_audience(claims: dict[str, Any], audience: str) -> None:
    named = claims.get("aud")
    several = named if isinstance(named, list) else [named]
    if len(several) > _MAX_AUDIENCES or not all(isinstance(one, str) for one in several):
        raise _refused("aud", "the audience of the token is no text and no list of texts")
    if audience not in several:
        raise _refused("aud", "the token is for another audience")


def _require_time(claims: dict[str, Any], profile: TokenProfile, now: int) -> None:
    leeway = profile.leeway
    if "exp" in claims and claims["exp"] + leeway <= now:
        raise _refused("expired", "the token has expired")
    if max(claims.get("nbf", now), claims.get("iat", now)) > now + leeway:
        raise _refused("not_yet", "the token is from the future")
    if profile.max_lifetime is None:
        return
    # A required claim is there: a profile with a bound requires both.
    if claims["exp"] - claims["iat"] > profile.max_lifetime:
        raise _refused("lifetime", "the token is good for longer than it may be")


def _refused(code: str, message: str) -> EvidenceError:
    return EvidenceError(message, code=code)
