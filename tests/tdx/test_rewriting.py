"""Rewriting that keeps every signature: other spellings of signatures and chains are refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from attestation.errors import EvidenceError
from attestation.tdx.anchor import Anchor
from attestation.tdx.chain import encode_pem, split_pem
from attestation.tdx.collateral import Collateral, require_canonical_collateral
from attestation.tdx.ecdsa import P256_ORDER, low_s
from attestation.tdx.quote import canonical_quote, parse_quote, require_canonical_quote
from gateway.attester.simulated.keys import complement_s
from tests.refusals import refusal
from tests.tdx import bench

CHAINS = ("pck_crl_issuer_chain", "tcb_info_issuer_chain", "qe_identity_issuer_chain")
R = bytes(range(32))


def signature(s: int) -> bytes:
    return R + s.to_bytes(32, "big")


def anchor() -> Anchor:
    return bench.platform().anchor


@pytest.mark.parametrize("s", [0, 1, P256_ORDER // 2, P256_ORDER, P256_ORDER + 1, 2**256 - 1])
def test_low_signature_and_one_that_never_holds_stay_as_they_are(s: int) -> None:
    assert low_s(signature(s)) == signature(s)


@pytest.mark.parametrize("s", [P256_ORDER // 2 + 1, P256_ORDER - 1])
def test_high_signature_becomes_its_low_complement(s: int) -> None:
    assert low_s(signature(s)) == signature(P256_ORDER - s)
    assert low_s(signature(s)) == low_s(complement_s(signature(s)))


@pytest.mark.parametrize("version", [4, 5])
def test_both_spellings_of_the_signatures_have_one_canonical_form(version: int) -> None:
    other = bench.changed(bench.platform(version), writing={"complement_s": True})
    assert canonical_quote(other.quote(bench.REPORT_DATA)) == bench.canonical(version)


@pytest.mark.parametrize("offset", [636, 1154])
def test_quote_with_a_high_signature_is_not_canonical_though_it_verifies(offset: int) -> None:
    data = bytearray(bench.canonical())
    data[offset : offset + 64] = complement_s(bytes(data[offset : offset + 64]))
    changed = parse_quote(bytes(data))
    assert bench.code_of(changed, bench.collateral()) == "genuine"
    assert refusal(require_canonical_quote, changed, anchor()) == "not_canonical"


def embedded(*ders: bytes) -> bytes:
    """The canonical quote around another chain."""
    raw, pem = bench.canonical(), encode_pem(ders)
    old = bench.quote().chain()
    data = bytearray(raw.replace(encode_pem(old), pem))
    inner = raw.index(encode_pem(old)) - 4
    for at in (632, 766, inner):
        size = int.from_bytes(data[at : at + 4], "little") + len(pem) - len(encode_pem(old))
        data[at : at + 4] = size.to_bytes(4, "little")
    return bytes(data)


def test_quote_whose_chain_repeats_the_root_is_refused() -> None:
    chain = bench.quote().chain()
    assert embedded(*chain) == bench.canonical()
    for ders in ((*chain, chain[2]), chain[:2], chain[2:]):
        code = refusal(
            require_canonical_quote, parse_quote(embedded(*ders)), anchor(), error=EvidenceError
        )
        assert code == "root"


def test_collateral_as_it_is_delivered_is_canonical() -> None:
    require_canonical_collateral(bench.collateral(), anchor())


def chain_of(name: str) -> tuple[str, tuple[bytes, ...]]:
    text = getattr(bench.collateral(), name)
    return text, split_pem(text.encode(), what=name)


def with_chain(name: str, text: str) -> Collateral:
    changes: dict[str, Any] = {name: text}
    return replace(bench.collateral(), **changes)


@pytest.mark.parametrize("name", CHAINS)
def test_issuer_chain_written_otherwise_is_not_canonical_though_it_verifies(name: str) -> None:
    text, _ = chain_of(name)
    for other in (text.replace("\n", "\r\n"), text + "\n", "\n" + text, text[:-1],
                  text.replace("\n", "\x0b", 1), text.replace("MII", "M\nII")):  # fmt: skip
        changed = with_chain(name, other)
        assert bench.code_of(bench.quote(), changed) == "genuine"
        assert refusal(require_canonical_collateral, changed, anchor()) == "not_canonical"


@pytest.mark.parametrize("name", CHAINS)
def test_issuer_chain_of_another_length_is_refused(name: str) -> None:
    _, (issuer, root) = chain_of(name)
    for ders in ((issuer,), (issuer, root, root), (issuer, issuer, root), (issuer, issuer)):
        changed = with_chain(name, encode_pem(ders).decode())
        code = refusal(require_canonical_collateral, changed, anchor(), error=EvidenceError)
        assert code == "root"


@pytest.mark.parametrize("name", CHAINS)
def test_missing_issuer_chain_is_refused(name: str) -> None:
    assert refusal(require_canonical_collateral, with_chain(name, ""), anchor()) == "pem"
