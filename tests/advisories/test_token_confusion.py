"""trustee's token verifier, CVE-2015-9235 and their many relatives: the token itself said how, or
by which key, it should be verified.

Lesson: the algorithm and the key come from the quoted keyset.  The header has exactly three
members, each with one accepted form, and is compared, never obeyed.
"""

from __future__ import annotations

import hmac
from typing import Any

import pytest

from attestation.encoding import base64url, jcs
from attestation.receipt.signing import parse_receipt
from tests.refusals import refusal
from tests.support.bundles import Gateway
from tests.tamper.document import put
from tests.tamper.folder import judge
from tests.tamper.folders import folder_of, gateway

OWN = gateway("tokens")
FOLDER = folder_of(OWN)
TOKEN = OWN.exchanged[0].item.receipt.token
HEADER: dict[str, Any] = {
    "alg": "EdDSA", "kid": OWN.receipt_jwk.kid, "typ": "inference-receipt+jwt"
}  # fmt: skip


def token(header: object, *, sign: bool = True, payload: str = TOKEN.split(".")[1]) -> str:
    data = header if isinstance(header, bytes) else jcs.canonicalize(header)  # type: ignore[arg-type]
    signing_input = f"{base64url.encode(data)}.{payload}"
    signature = OWN.receipt_key.sign(signing_input.encode()) if sign else bytes(64)
    return f"{signing_input}.{base64url.encode(signature)}"


def exit_code(text: str) -> int:
    document = FOLDER.document()
    place = next(n for n, item in enumerate(document["receipts"]) if item["receipt"] == TOKEN)
    changed = put(document, ("receipts", place, "receipt"), text)
    return judge(FOLDER.but(jcs.canonicalize(changed)))


def test_token_made_here_is_the_receipt() -> None:
    assert token(HEADER) == TOKEN
    assert exit_code(TOKEN) == 15


ALGORITHMS = (
    "none", "None", "NONE", "", "HS256", "ES256", "RS256", "eddsa", "EdDSA ", None, 1
)  # fmt: skip
ADDITIONS: tuple[dict[str, Any], ...] = (
    {"jwk": {"kty": "OKP"}}, {"jku": "https://attacker.example/"}, {"x5u": "x"}, {"x5c": []},
    {"crit": []}, {"crit": ["b64"]}, {"b64": False}, {"zip": "DEF"}, {"cty": "JWT"},
    {"typ": "JWT"}, {"typ": "task-record+jwt"}, {"typ": None},
    {"kid": "../../key"}, {"kid": ""}, {"kid": None}, {"kid": "' OR 1=1"},
)  # fmt: skip
SPELLINGS = (
    b'{"alg":"none","alg":"EdDSA","kid":"%s","typ":"inference-receipt+jwt"}'
    % OWN.receipt_jwk.kid.encode(),
    b"\xef\xbb\xbf" + jcs.canonicalize(HEADER),
    jcs.canonicalize(HEADER).replace(b'"alg"', b'"\\u0061lg"'),
    jcs.canonicalize(HEADER).replace(b":", b": "),
)


@pytest.mark.parametrize(
    "header",
    [
        *({**HEADER, "alg": alg} for alg in ALGORITHMS),
        *({**HEADER, **more} for more in ADDITIONS),
        *({name: HEADER[name] for name in HEADER if name != left} for left in HEADER),
        *({}, [], None),
        *SPELLINGS,
    ],
)
def test_header_that_says_anything_else_is_malformed_even_when_signed(header: object) -> None:
    for sign in (True, False):
        assert exit_code(token(header, sign=sign)) == 13


def test_other_name_of_the_algorithm_is_another_signing_input() -> None:
    other = {**HEADER, "alg": "Ed25519"}
    parse_receipt(token(other))
    signature = TOKEN.rpartition(".")[2]
    assert exit_code(token(other).rpartition(".")[0] + "." + signature) == 10


def test_public_key_as_an_hmac_key_makes_no_receipt() -> None:
    signing_input = TOKEN.rpartition(".")[0]
    tag = hmac.digest(OWN.receipt_jwk.raw, signing_input.encode(), "sha512")
    assert exit_code(f"{signing_input}.{base64url.encode(tag)}") == 10


@pytest.mark.parametrize("signature", [b"", bytes(63), bytes(65), bytes(512)])
def test_signature_of_another_length_is_malformed(signature: bytes) -> None:
    text = f"{TOKEN.rpartition('.')[0]}.{base64url.encode(signature)}"
    assert refusal(parse_receipt, text)
    assert exit_code(text) == 13


def test_all_zero_signature_is_refused() -> None:
    assert exit_code(token(HEADER, sign=False)) == 10


def test_receipt_under_the_log_key_is_refused() -> None:
    made = Gateway()
    assert made.receipt_jwk.raw != made.keyset.log_key.public
    signing_input = TOKEN.rpartition(".")[0]
    signature = OWN.log_key.sign(signing_input.encode())
    assert exit_code(f"{signing_input}.{base64url.encode(signature)}") == 10
