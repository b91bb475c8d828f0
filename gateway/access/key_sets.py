"""Pinned keys of issuers: JWK Sets (RFC 7517), from a file or from the settings themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from attestation.encoding import jcs
from attestation.encoding.strict_json import JsonLimits, parse_json_object
from attestation.errors import MalformedError, UnavailableError
from gateway.access.bearer import Keys, parse_issuer_keys

if TYPE_CHECKING:
    from pathlib import Path

_MAX_BYTES: Final = 1 << 20
_LIMITS: Final = JsonLimits(max_bytes=_MAX_BYTES, max_depth=8, max_members=4096)
# What decides about a signature; the rest of a key says nothing that counts here.
_PUBLIC: Final = ("alg", "crv", "e", "kid", "kty", "n", "x", "y")


def load_key_set(path: Path) -> str:
    """Return the text of the file at `path`.

    Raises `UnavailableError` if it cannot be read, `MalformedError` if it is no text or too
    large; whether it is a key set is for `normal_key_set` to say.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise UnavailableError(
            f"the key set {path} cannot be read",
            code="jwks",
            expected="a JWK Set (JSON) that the gateway's user may read",
            observed=error.strerror or "an I/O error",
            hint="save what the issuer's jwks_uri shows, and look at it: these keys let callers in",
        ) from error
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = ""
    if not text or len(data) > _MAX_BYTES:
        raise MalformedError(
            f"the key set {path} is no JSON",
            code="jwks",
            expected=f"a JWK Set in UTF-8, at most {_MAX_BYTES} bytes",
            observed=f"{len(data)} bytes",
        )
    return text


def keys_of(text: str) -> Keys:
    """Return the keys of a JWK Set by `kid`; raises `MalformedError` as `parse_issuer_keys`."""
    return parse_issuer_keys(parse_json_object(text.encode(), _LIMITS))


def normal_key_set(text: str) -> str:
    """Return the one spelling of this key set: public members only, sorted by `kid`, canonical.

    Sets that verify the same tokens have the same text, whatever else an issuer writes there.
    Raises `MalformedError`.
    """
    keys_of(text)
    value = parse_json_object(text.encode(), _LIMITS)
    listed = value.get("keys", [value])
    public = [{name: jwk[name] for name in _PUBLIC if name in jwk} for jwk in listed]
    public.sort(key=lambda jwk: str(jwk["kid"]))
    return jcs.canonicalize({"keys": public}).decode()
