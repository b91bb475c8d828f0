"""What Intel's Provisioning Certification Service answers, taken apart; no I/O.

API version 4 (Intel SGX and Intel TDX Provisioning Certification Service, sections "Get Revocation
List", "Get TDX TCB Info", "Get TDX QE identity"): the body holds a signed text and its signature,
a header the issuer's chain as URL-encoded PEM.  The text that is signed is the exact text in the
body: it is cut out of it and never written anew.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from attestation.encoding.strict_json import JsonLimits, parse_json_object
from attestation.errors import MalformedError
from attestation.tdx.chain import encode_pem, split_pem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_ANSWER_BYTES = 1 << 20
MAX_CHAIN_CHARS = 32 * 1024
TCB_INFO_CHAIN = ("TCB-Info-Issuer-Chain", "SGX-TCB-Info-Issuer-Chain")
"""Version 4 names the header so; version 3, and what stands before some caches, adds the prefix."""
QE_IDENTITY_CHAIN = ("SGX-Enclave-Identity-Issuer-Chain",)
PCK_CRL_CHAIN = ("SGX-PCK-CRL-Issuer-Chain",)

_LIMITS = JsonLimits(max_bytes=MAX_ANSWER_BYTES, max_depth=16, max_members=20_000)
_SIGNATURE = re.compile("[0-9a-fA-F]{128}", re.ASCII)
_HEX = re.compile(rb"(?:[0-9a-fA-F]{2})+")
_SPACE = " \t\r\n"
_SEQUENCE = b"\x30"
_DECODER = json.JSONDecoder()


def parse_signed_text(body: bytes, name: str) -> tuple[str, bytes]:
    """Return the text of the member `name` exactly as it stands in `body`, and its signature.

    The body is `{"<name>": {…}, "signature": "<128 hex digits>"}`.  That the signature is one
    over the text is not looked at.  Raises `MalformedError`.
    """
    value = parse_json_object(body, _LIMITS)
    signature = value.get("signature")
    if value.keys() != {name, "signature"} or not isinstance(value[name], dict):
        raise _refused("the answer has other members", f'"{name}", an object, and "signature"')
    if not isinstance(signature, str) or not _SIGNATURE.fullmatch(signature):
        raise _refused("the answer's signature has another form", "128 hexadecimal digits")
    return _member_text(body.decode(), name), bytes.fromhex(signature)


def parse_issuer_chain(headers: Mapping[str, str], names: Sequence[str]) -> str:
    """Return the issuer chain in the first header of `names`, as canonical PEM.

    Nothing signs how a chain is written, so it is written here in the one form that bundles
    take.  Raises `MalformedError`.
    """
    for name in names:
        text = headers.get(name)
        if text is not None:
            if len(text) > MAX_CHAIN_CHARS:
                raise _refused(f"the header {name} is too long", f"{MAX_CHAIN_CHARS} characters")
            chain = split_pem(unquote_to_bytes(text), what=f"the header {name}")
            return encode_pem(chain).decode()
    raise _refused("the answer lacks its issuer chain", f"the header {names[0]}")


def parse_crl(body: bytes, what: str) -> bytes:
    """Return the DER bytes of a revocation list that is sent as DER or as hexadecimal.

    Intel's service sends DER; its caches send the root's list in hexadecimal.  Raises
    `MalformedError`.
    """
    if body.startswith(_SEQUENCE):
        return body
    text = body.strip()
    if _HEX.fullmatch(text):
        data = bytes.fromhex(text.decode())
        if data.startswith(_SEQUENCE):
            return data
    raise _refused(f"{what} is no revocation list", "DER, or hexadecimal of DER")


def _member_text(text: str, name: str) -> str:
    """Walk the members of an object that is known to parse, and cut one value out."""
    at = text.index("{") + 1
    while True:
        key, at = _DECODER.raw_decode(text, _skip(text, at))
        start = _skip(text, _skip(text, at) + 1)
        _, end = _DECODER.raw_decode(text, start)
        if key == name:
            return text[start:end]
        at = _skip(text, end) + 1


def _skip(text: str, at: int) -> int:
    while text[at] in _SPACE:
        at += 1
    return at


def _refused(message: str, expected: str) -> MalformedError:
    return MalformedError(
        message,
        code="answer",
        expected=expected,
        hint="is this the address of Intel's service or of a PCCS?",
    )
