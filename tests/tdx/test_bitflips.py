"""No bit of a quote in canonical form can be changed unnoticed.

dcap-qvl by itself lets hundreds of bits pass: the outer certification type, every line break of
the PEM chain, the embedded root, whatever follows the quote.  The canonical form closes that.
What is not a flip, (r, n - s) for a signature (r, s), is in `test_rewriting`.
"""

from __future__ import annotations

import pytest

from attestation.errors import AttestationError
from attestation.tdx.collateral import Collateral
from attestation.tdx.dcap import verify_quote
from attestation.tdx.quote import parse_quote, require_canonical_quote
from tests.tdx import bench


def accepted(data: bytes, collateral: Collateral) -> bool:
    anchor = bench.platform().anchor
    try:
        quote = parse_quote(data)
        require_canonical_quote(quote, anchor)
        verify_quote(quote, collateral, bench.NOW, anchor)
    except AttestationError:
        return False
    return True


@pytest.mark.parametrize("version", [4, 5])
def test_flip_of_the_lowest_bit_of_any_byte_is_refused(version: int) -> None:
    data, collateral = bench.canonical(version), bench.collateral(version)
    assert accepted(data, collateral)
    flips = range(len(data))
    assert [at for at in flips if accepted(bench.flipped(data, at), collateral)] == []


@pytest.mark.slow
@pytest.mark.parametrize("bit", range(1, 8))
@pytest.mark.parametrize("version", [4, 5])
def test_flip_of_any_other_bit_is_refused(version: int, bit: int) -> None:
    data, collateral = bench.canonical(version), bench.collateral(version)
    flips = range(len(data))
    assert [at for at in flips if accepted(bench.flipped(data, at, bit), collateral)] == []


@pytest.mark.parametrize("version", [4, 5])
def test_any_truncation_and_any_addition_is_refused(version: int) -> None:
    data, collateral = bench.canonical(version), bench.collateral(version)
    assert [size for size in range(len(data)) if accepted(data[:size], collateral)] == []
    assert [byte for byte in range(256) if accepted(data + bytes([byte]), collateral)] == []


@pytest.mark.parametrize("name", ["tcb_info", "qe_identity"])
def test_flip_of_a_bit_in_a_signed_text_is_refused(name: str) -> None:
    text = getattr(bench.collateral(), name).encode()
    for position in range(0, len(text), 17):
        changed = bench.flipped(text, position).decode()
        collateral = bench.altered(bench.collateral(), **{name: changed})
        assert bench.code_of(bench.quote(), collateral) == "signature"


@pytest.mark.parametrize(
    "name", ["root_ca_crl", "pck_crl", "tcb_info_signature", "qe_identity_signature"]
)
def test_flip_of_a_bit_in_a_list_or_signature_is_refused(name: str) -> None:
    data = getattr(bench.collateral(), name)
    for position in range(len(data)):
        collateral = bench.altered(bench.collateral(), **{name: bench.flipped(data, position)})
        assert bench.code_of(bench.quote(), collateral) != "genuine", position


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["pck_crl_issuer_chain", "tcb_info_issuer_chain", "qe_identity_issuer_chain"]
)
def test_changed_letter_in_an_issuer_chain_is_refused(name: str) -> None:
    pem = getattr(bench.collateral(), name)
    for position, letter in enumerate(pem):
        # A line break is no part of a certificate; the digest of the set covers those.
        if letter != "\n":
            changed = pem[:position] + ("B" if letter == "A" else "A") + pem[position + 1 :]
            collateral = bench.altered(bench.collateral(), **{name: changed})
            assert bench.code_of(bench.quote(), collateral) != "genuine", position
