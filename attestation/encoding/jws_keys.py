"""Keys that verify JSON Web Signatures (RFC 7517, 7518, 8037, 8812), and sets of them.

A key has one algorithm, and the key says which: "alg", or the curve where that leaves no
choice.  A token that could choose the algorithm could have a public RSA key taken for the
secret of an HMAC (RFC 8725 section 3.1).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from attestation.encoding.members import Members
from attestation.encoding.roca import has_roca_fingerprint
from attestation.errors import MalformedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from attestation.encoding.signature import PublicKey
    from attestation.encoding.strict_json import JsonValue

MIN_RSA_BITS, MAX_RSA_BITS = 2048, 16384
_MAX_KEYS = 1000
_HASHES: Mapping[str, type[hashes.SHA256 | hashes.SHA384 | hashes.SHA512]] = {
    "256": hashes.SHA256,
    "384": hashes.SHA384,
    "512": hashes.SHA512,
}
_CURVES: Mapping[str, tuple[str, type[ec.EllipticCurve]]] = {
    "P-256": ("ES256", ec.SECP256R1),
    "P-384": ("ES384", ec.SECP384R1),
    "P-521": ("ES512", ec.SECP521R1),
    "secp256k1": ("ES256K", ec.SECP256K1),
}
_EDWARDS: Mapping[str, tuple[int, type[Ed25519PublicKey | Ed448PublicKey]]] = {
    "Ed25519": (32, Ed25519PublicKey),
    "Ed448": (57, Ed448PublicKey),
}
# Published keys name ES512 after its curve; as no other algorithm signs with P-521, it can
# mean nothing else.
_MISNAMED = {"ES521": "ES512"}


@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationKey:
    """One key and the one algorithm it verifies.

    `algorithm` is a name of RFC 7518 section 3.1, "ES256K" or a curve of RFC 8037; `names` are
    the values of a header's "alg" that mean it.  `key` is a secret if the algorithm is HS*.
    """

    algorithm: str
    names: frozenset[str]
    digest: hashes.SHA256 | hashes.SHA384 | hashes.SHA512
    key: PublicKey | bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySet:
    """JSON Web Keys of which a token may name one; each is read when it is chosen."""

    keys: tuple[Members, ...]

    def choose(self, kid: str | None) -> VerificationKey:
        """Return the key named `kid`, or the only key there is if none is named.

        Raises `MalformedError` (code "jwk") if it is not one key, or no key for signatures.
        """
        found = [key for key in self.keys if kid is None or _kid(key) in (None, kid)]
        if len(found) != 1:
            raise _bad("the token does not name one key", "the kid of one key", f"{len(found)}")
        return _verification_key(found[0])


def parse_verification_keys(value: JsonValue) -> KeySet:
    """Return the set that `value` is: a JWK Set, or a single JWK.

    Refuses two keys of one kid, and secret or private keys among public ones: what verifies
    must not depend on which of them a token picks.  Members it does not know are ignored
    (RFC 7517 section 4), private ones are never used.  Raises `MalformedError`.
    """
    members = Members(value, "the key set")
    if members.has("keys"):
        items = members.array("keys", max_items=_MAX_KEYS)
        keys = tuple(Members(item, f"key {index}") for index, item in enumerate(items))
    else:
        keys = (Members(value, "the key"),)
    names = Counter(_kid(key) for key in keys)
    if len(keys) > 1 and max(names.values()) > 1:
        raise _bad("two keys of the set have one name", "a kid for each, no two alike")
    if len({_secret(key) for key in keys}) > 1:
        raise _bad("the set mixes secret and public keys", "keys of one of these kinds")
    return KeySet(keys=keys)


def _verification_key(jwk: Members) -> VerificationKey:
    kty = jwk.text("kty", choices=tuple(_READERS))
    if jwk.has("use"):
        jwk.text("use", choices=("sig",))
    if jwk.has("key_ops"):
        _require_verify(jwk.array("key_ops", max_items=16))
    alg = jwk.text("alg") if jwk.has("alg") else None
    return _READERS[kty](jwk, _MISNAMED.get(alg or "", alg))


def _require_verify(operations: list[object]) -> None:
    if "verify" not in operations or len({str(one) for one in operations}) != len(operations):
        raise _bad("the key is not for verifying", '"verify" in "key_ops", none of them twice')


def _read_ec(jwk: Members, alg: str | None) -> VerificationKey:
    own, kind = _CURVES[jwk.text("crv", choices=tuple(_CURVES))]
    curve = kind()
    _require_alg(alg, {own})
    size = (curve.key_size + 7) // 8
    x, y = (int.from_bytes(jwk.bytes_base64url(name, length=size), "big") for name in "xy")
    try:
        key = ec.EllipticCurvePublicNumbers(x, y, curve).public_key()
    except ValueError:
        raise _bad("the key is no point of its curve", f"a point of {curve.name}") from None
    return _made(own, key)


def _read_okp(jwk: Members, alg: str | None) -> VerificationKey:
    crv = jwk.text("crv", choices=tuple(_EDWARDS))
    size, kind = _EDWARDS[crv]
    _require_alg(alg or crv, {"EdDSA", crv})
    # RFC 9864 gave each curve a name of its own beside the one they share.
    names = frozenset({alg} if alg else {"EdDSA", crv})
    key = kind.from_public_bytes(jwk.bytes_base64url("x", length=size))
    return VerificationKey(algorithm=crv, names=names, digest=hashes.SHA512(), key=key)


def _read_rsa(jwk: Members, alg: str | None) -> VerificationKey:
    algorithm = _require_alg(alg, {scheme + bits for scheme in ("RS", "PS") for bits in _HASHES})
    n, e = (_unsigned(jwk, name) for name in "ne")
    bits = n.bit_length()
    if not MIN_RSA_BITS <= bits <= MAX_RSA_BITS:
        expected = f"{MIN_RSA_BITS} to {MAX_RSA_BITS} bits"
        raise _bad("the RSA key has a modulus of another size", expected, f"{bits} bits")
    if not (n & 1 and e & 1 and 3 <= e < 1 << 64):
        raise _bad("the RSA key is none", "an odd modulus, an odd exponent of 3 or more")
    if has_roca_fingerprint(n):
        raise _bad("the RSA key can be factored (ROCA, CVE-2017-15361)", "another key")
    return _made(algorithm, rsa.RSAPublicNumbers(e, n).public_key())


def _read_oct(jwk: Members, alg: str | None) -> VerificationKey:
    algorithm = _require_alg(alg, {f"HS{bits}" for bits in _HASHES})
    made = _made(algorithm, jwk.bytes_base64url("k"))
    # RFC 7518 section 3.2: a key of the same size as the hash output or larger.
    if len(jwk.bytes_base64url("k")) < made.digest.digest_size:
        raise _bad("the secret is too short", f"at least {made.digest.digest_size} bytes")
    return made


_READERS = {"EC": _read_ec, "OKP": _read_okp, "RSA": _read_rsa, "oct": _read_oct}


def _made(algorithm: str, key: PublicKey | bytes) -> VerificationKey:
    digest = _HASHES[algorithm[2:5]]()
    return VerificationKey(
        algorithm=algorithm, names=frozenset({algorithm}), digest=digest, key=key
    )


def _require_alg(alg: str | None, fitting: set[str]) -> str:
    found = fitting if alg is None else fitting & {alg}
    if len(found) == 1:
        return next(iter(found))
    expected = "alg to be one of " + ", ".join(sorted(fitting))
    raise _bad("the key does not say which algorithm it verifies", expected, "none or another")


def _unsigned(jwk: Members, name: str) -> int:
    data = jwk.bytes_base64url(name)
    if data[:1] in (b"", b"\0"):
        raise _bad(f"{name} is not in its shortest form", "no leading zero byte")
    return int.from_bytes(data, "big")


def _kid(key: Members) -> str | None:
    return key.text("kid") if key.has("kid") else None


def _secret(key: Members) -> bool:
    return key.has("k") or key.has("d")


def _bad(message: str, expected: str, observed: str = "") -> MalformedError:
    return MalformedError(message, code="jwk", expected=expected, observed=observed)
