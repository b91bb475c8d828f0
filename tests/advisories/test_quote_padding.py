"""Intel's quotes come padded, their tails are malleable, and a hash over the whole buffer names
nothing (a claim of Intel Trust Authority is such a hash); Linux fixed a host-set length in
tdx-guest in 2026 that let kernel memory follow the quote.

Lesson: a quote ends where its lengths say.  Only zeroes may follow, its name covers the signed
region alone, and a bundle carries one canonical form.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from attestation.result import Verdict
from attestation.tdx.quote import canonical_quote, parse_quote
from tests.refusals import refusal
from tests.support.bundles import Gateway, failed

GATEWAY = Gateway()
GATEWAY.plain()
QUOTE = GATEWAY.evidence.quote


@pytest.mark.parametrize("padding", [0, 1, 70, 3000])
def test_padding_changes_neither_name_nor_canonical_form(padding: int) -> None:
    padded = QUOTE + bytes(padding)
    assert parse_quote(padded).digest == parse_quote(QUOTE).digest
    assert canonical_quote(padded) == QUOTE


@pytest.mark.parametrize("tail", [b"\x01", bytes(70) + b"kernel memory", b"\x00\xff\x00"])
def test_anything_but_zeroes_after_a_quote_is_refused(tail: bytes) -> None:
    assert refusal(parse_quote, QUOTE + tail) == "quote"


@pytest.mark.parametrize("tail", [b"\x00", bytes(70)])
def test_bundle_carries_no_padding(tail: bytes) -> None:
    boot = replace(GATEWAY.evidence, quote=QUOTE + tail)
    result = GATEWAY.verify(bundle=GATEWAY.bundle(boots=[boot]))
    assert result.verdict is Verdict.MALFORMED
    assert failed(result) == {"QUOTE-FORMAT"}


def test_name_of_a_quote_covers_every_byte_that_is_signed() -> None:
    signed = parse_quote(QUOTE).signed_region
    assert QUOTE.startswith(signed)
    assert len(signed) == 632
    for offset in (28, 168, 184, 376, 568, 631):
        raw = bytearray(QUOTE)
        raw[offset] ^= 1
        assert parse_quote(bytes(raw)).digest != parse_quote(QUOTE).digest
