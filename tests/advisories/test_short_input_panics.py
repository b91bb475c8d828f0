"""GHSA-3ccm-4qq2-5wrp: a verifier took 12 bytes out of an input that had fewer, and died.

Lesson: every length is checked before it is used, and nothing but our own errors comes out, for
each prefix of each thing that is parsed.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from attestation.errors import AttestationError
from attestation.merkle.note import parse_note, sign_note
from attestation.merkle.tlog_proof import parse_tlog_proof
from attestation.receipt.commitments import parse_openings_header
from attestation.receipt.signing import parse_receipt
from attestation.tdx.anchor import parse_anchor
from attestation.tdx.ccel import parse_ccel
from attestation.tdx.pck import SGX_EXTENSION_OID, parse_pck_extension_value
from attestation.tdx.quote import canonical_quote, parse_quote
from tests.support.bundles import Gateway

GATEWAY = Gateway()
EXCHANGED = GATEWAY.plain()
GATEWAY.anchored()
ITEM = GATEWAY.exchanged[0].item
PCK = next(
    extension.value.public_bytes()
    for extension in GATEWAY.machine._pki.pck.extensions
    if extension.oid.dotted_string == SGX_EXTENSION_OID
)
SPEC_ID = bytes.fromhex("00000000" "03000000") + bytes(20) + (45).to_bytes(4, "little") + (
    b"Spec ID Event03\x00" + bytes(4) + bytes([0, 2, 0, 2]) + (1).to_bytes(4, "little")
    + (0x0C).to_bytes(2, "little") + (48).to_bytes(2, "little") + bytes(13)
)  # fmt: skip
NOTE = sign_note("text\n", GATEWAY.origin, GATEWAY.log_key)
PROOF = ITEM.proof or ""
OPENINGS = ITEM.openings.encode_header() if ITEM.openings else ""

PARSERS: dict[str, tuple[Callable[..., object], bytes | str]] = {
    "quote": (parse_quote, GATEWAY.evidence.quote),
    "canonical quote": (canonical_quote, GATEWAY.evidence.quote),
    "PCK extension": (parse_pck_extension_value, PCK),
    "CCEL": (parse_ccel, SPEC_ID + bytes(64)),
    "root": (parse_anchor, GATEWAY.anchor.root_der),
    "receipt": (parse_receipt, ITEM.receipt.token),
    "openings": (parse_openings_header, OPENINGS),
    "note": (parse_note, NOTE),
    "proof": (parse_tlog_proof, PROOF),
}


@pytest.mark.parametrize("name", PARSERS)
def test_every_prefix_is_read_or_refused_and_nothing_else(name: str) -> None:
    parse, whole = PARSERS[name]
    assert whole
    refused = 0
    for size in range(len(whole)):
        try:
            parse(whole[:size])
        except AttestationError:
            refused += 1
    assert refused > len(whole) // 2


@pytest.mark.parametrize("size", range(0, 130, 7))
@pytest.mark.parametrize("fill", [b"\x00", b"\xff", b"\x04\x00\x02\x00\x81\x00\x00\x00"])
def test_input_of_any_small_size_is_refused(size: int, fill: bytes) -> None:
    for parse in (parse_quote, parse_pck_extension_value, parse_anchor, parse_ccel):
        with pytest.raises(AttestationError):
            parse((fill * size)[:size])
