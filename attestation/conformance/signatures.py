"""Topic `signatures`: files of Project Wycheproof, by the `type` of each group.

`EcdsaVerify` (DER), `EcdsaP1363Verify`, `EddsaVerify`, `RsassaPkcs1Verify`, `RsassaPssVerify`:
`msg` and `sig` under the group's `publicKeyDer`.  `JsonWebSignature` and `JsonWebKey`: `jws`
under the group's JWK or JWK Set, the public one if it gives both.
"""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from attestation.conformance.case import Case, accept_or_reject
from attestation.conformance.files import (
    require_list,
    require_object,
    require_text,
    unknown_shape,
)
from attestation.encoding.jws_keys import parse_verification_keys
from attestation.encoding.jws_verify import parse_signed_token, verify_signed_token
from attestation.encoding.signature import (
    EdwardsPublicKey,
    parse_public_key,
    verify_ecdsa_der,
    verify_ecdsa_fixed,
    verify_eddsa,
    verify_rsa_pkcs1,
    verify_rsa_pss,
)
from attestation.errors import MalformedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import ExitStack

    from attestation.conformance.files import VectorDirectory
    from attestation.encoding.strict_json import JsonValue

    Check = Callable[[dict[str, Any]], Callable[[], object]]
    # A signature, a message and a key of the group's kind.
    Verify = Callable[[bytes, bytes, Any], None]
    Make = Callable[[dict[str, Any], str], Verify]

_RESULTS = ("valid", "invalid", "acceptable")
# SHA-1 is not among them: no signature of this product may rest on it.
_HASHES: Mapping[str, type[hashes.HashAlgorithm]] = {
    "SHA-224": hashes.SHA224,
    "SHA-256": hashes.SHA256,
    "SHA-384": hashes.SHA384,
    "SHA-512": hashes.SHA512,
    "SHA-512/224": hashes.SHA512_224,
    "SHA-512/256": hashes.SHA512_256,
    "SHA3-224": hashes.SHA3_224,
    "SHA3-256": hashes.SHA3_256,
    "SHA3-384": hashes.SHA3_384,
    "SHA3-512": hashes.SHA3_512,
}


def cases(directory: VectorDirectory, _resources: ExitStack) -> Iterator[Case]:
    """Yield a case for every test of every group of every listed file."""
    for file in directory.listed_files():
        if not file.endswith(".json"):
            raise unknown_shape(file)
        content = require_object(directory.read_json(file), file)
        for group in require_list(content.get("testGroups"), f"testGroups of {file}"):
            yield from _group(group, file)


def _group(group: dict[str, Any], file: str) -> Iterator[Case]:
    make = _GROUPS.get(require_text(group, "type", f"a group of {file}"))
    if make is None:
        raise unknown_shape(file)
    check = make(group, file)
    for test in require_list(group.get("tests"), f"tests of {file}"):
        yield _case(test, file, check)


def _case(test: dict[str, Any], file: str, check: Check) -> Case:
    number = test.get("tcId")
    if type(number) is not int:
        raise _bad(f"a test of {file}", 'an integer "tcId"')
    name = f"{file}#{number}"
    expected = require_text(test, "result", name)
    if expected not in _RESULTS:
        raise _bad(name, '"result" to be one of ' + ", ".join(_RESULTS))
    return Case(name=name, expected=expected, run=partial(_verdict, check(test)), agrees=_agrees)


def _verdict(action: Callable[[], object]) -> str:
    return "valid" if accept_or_reject(action) == "accept" else "invalid"


def _agrees(expected: JsonValue, got: JsonValue) -> bool:
    return expected in ("acceptable", got)


def _json_web(group: dict[str, Any], file: str) -> Check:
    keys = group.get("public", group.get("private"))
    require_object(keys, f"the key of a group of {file}")

    def check(test: dict[str, Any]) -> Callable[[], object]:
        if "jws" not in test:
            raise _bad(f"a test of {file}", '"jws"')
        # A JWS in JSON serialisation may stand there as an object; it is text to the product.
        jws = test["jws"] if isinstance(test["jws"], str) else json.dumps(test["jws"])
        return partial(_verify_token, jws, keys)

    return check


def _verify_token(jws: str, keys: JsonValue) -> None:
    verify_signed_token(parse_signed_token(jws), parse_verification_keys(keys))


def _public_key(kind: Any, make: Make) -> Callable[[dict[str, Any], str], Check]:  # noqa: ANN401
    """Return the reader of a group with a key of `kind` in DER and tests of `msg` and `sig`."""

    def read(group: dict[str, Any], file: str) -> Check:
        der = _hex(group, "publicKeyDer", f"a group of {file}")
        verify = make(group, file)

        def check(test: dict[str, Any]) -> Callable[[], object]:
            message, signature = (_hex(test, name, f"a test of {file}") for name in ("msg", "sig"))
            return partial(_verify_signature, der, kind, partial(verify, signature, message))

        return check

    return read


def _verify_signature(der: bytes, kind: Any, verify: Callable[..., None]) -> None:  # noqa: ANN401
    key = parse_public_key(der)
    if not isinstance(key, kind):
        raise MalformedError("the key is of another kind than its group", code="public_key")
    verify(key)


def _ecdsa_der(group: dict[str, Any], file: str) -> Verify:
    digest = _hash(group, "sha", file)
    return lambda signature, message, key: verify_ecdsa_der(key, signature, message, digest)


def _ecdsa_fixed(group: dict[str, Any], file: str) -> Verify:
    digest = _hash(group, "sha", file)
    return lambda signature, message, key: verify_ecdsa_fixed(key, signature, message, digest)


def _eddsa(_group: dict[str, Any], _file: str) -> Verify:
    return lambda signature, message, key: verify_eddsa(key, signature, message)


def _rsa_pkcs1(group: dict[str, Any], file: str) -> Verify:
    digest = _hash(group, "sha", file)
    return lambda signature, message, key: verify_rsa_pkcs1(key, signature, message, digest)


def _rsa_pss(group: dict[str, Any], file: str) -> Verify:
    digest, mask = _hash(group, "sha", file), _hash(group, "mgfSha", file)
    salt = group.get("sLen")
    if group.get("mgf") != "MGF1" or type(salt) is not int or salt < 0:
        raise unknown_shape(file)
    return lambda signature, message, key: verify_rsa_pss(
        key, signature, message, digest, mask_digest=mask, salt_bytes=salt
    )


_GROUPS: Mapping[str, Callable[[dict[str, Any], str], Check]] = {
    "EcdsaVerify": _public_key(EllipticCurvePublicKey, _ecdsa_der),
    "EcdsaP1363Verify": _public_key(EllipticCurvePublicKey, _ecdsa_fixed),
    "EddsaVerify": _public_key(EdwardsPublicKey, _eddsa),
    "RsassaPkcs1Verify": _public_key(RSAPublicKey, _rsa_pkcs1),
    "RsassaPssVerify": _public_key(RSAPublicKey, _rsa_pss),
    "JsonWebSignature": _json_web,
    "JsonWebKey": _json_web,
}


def _hash(group: dict[str, Any], name: str, file: str) -> hashes.HashAlgorithm:
    chosen = _HASHES.get(require_text(group, name, f"a group of {file}"))
    if chosen is None:
        raise unknown_shape(file)
    return chosen()


def _hex(members: dict[str, Any], name: str, what: str) -> bytes:
    try:
        return bytes.fromhex(require_text(members, name, what))
    except ValueError:
        raise _bad(what, f"hexadecimal characters in {name}") from None


def _bad(what: str, expected: str) -> MalformedError:
    return MalformedError(f"{what} is not usable", code="case", expected=expected)
