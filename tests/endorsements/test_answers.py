"""Taking answers apart: the text that was signed, exactly, or a refusal."""

from __future__ import annotations

import json
from urllib.parse import quote

from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import MalformedError
from gateway.endorsements.answers import (
    PCK_CRL_CHAIN,
    TCB_INFO_CHAIN,
    parse_crl,
    parse_issuer_chain,
    parse_signed_text,
)
from tests.refusals import refusal
from tests.tdx import bench

GOOD = bench.collateral()
SPACE = st.text(alphabet=" \t\r\n", max_size=3)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
LEAVES = st.none() | st.booleans() | st.integers(-9, 9) | NAMES
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner),
    max_leaves=9,
)


@given(
    st.dictionaries(NAMES, VALUES, max_size=4),
    st.sampled_from([None, 0, 2]),
    st.lists(SPACE, min_size=10, max_size=10),
    st.binary(min_size=64, max_size=64),
    st.booleans(),
)
def test_text_comes_out_as_it_stands_however_it_is_written(
    value: dict[str, object], indent: int | None, gaps: list[str], signature: bytes, first: bool
) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=first)
    members = [("tcbInfo", text), ("signature", f'"{signature.hex()}"')]
    if not first:
        members.reverse()
    gap = iter(gaps)
    written = ",".join(
        f'{next(gap)}"{name}"{next(gap)}:{next(gap)}{member}{next(gap)}' for name, member in members
    )
    body = f"{next(gap)}{{{written}}}{next(gap)}".encode()
    assert parse_signed_text(body, "tcbInfo") == (text, signature)


@given(st.binary(max_size=300))
def test_any_bytes_are_an_answer_or_malformed(data: bytes) -> None:
    for parse in (lambda: parse_signed_text(data, "tcbInfo"), lambda: parse_crl(data, "the list")):
        try:
            parse()
        except MalformedError:
            continue


@given(st.text(max_size=300))
def test_any_header_is_a_chain_or_malformed(text: str) -> None:
    try:
        chain = parse_issuer_chain({PCK_CRL_CHAIN[0]: text}, PCK_CRL_CHAIN)
    except MalformedError:
        return
    assert chain.startswith("-----BEGIN CERTIFICATE-----\n")


def test_chain_is_written_in_its_one_form() -> None:
    loose = GOOD.tcb_info_issuer_chain.replace("\n", "\r\n") + "\n\n"
    for name in TCB_INFO_CHAIN:
        assert (
            parse_issuer_chain({name: quote(loose)}, TCB_INFO_CHAIN) == GOOD.tcb_info_issuer_chain
        )
    # Base64's plus sign is itself in a URL-encoded header, not a space.
    raw = quote(GOOD.tcb_info_issuer_chain, safe="+/=")
    header = {TCB_INFO_CHAIN[0]: raw}
    assert parse_issuer_chain(header, TCB_INFO_CHAIN) == GOOD.tcb_info_issuer_chain


def test_list_is_taken_as_der_and_as_hexadecimal() -> None:
    for body in (GOOD.pck_crl, GOOD.pck_crl.hex().encode(), GOOD.pck_crl.hex().upper().encode()):
        assert parse_crl(body, "the list") == GOOD.pck_crl
    assert parse_crl(b" " + GOOD.pck_crl.hex().encode() + b"\r\n", "the list") == GOOD.pck_crl
    for body in (b"", b"31", b"3", b"-----BEGIN X509 CRL-----"):
        assert refusal(parse_crl, body, "the list") == "answer"
