"""The canonical form: many ways to write a quote, one way to carry it."""

from __future__ import annotations

import pytest

from attestation.errors import EvidenceError, MalformedError
from attestation.tdx.anchor import INTEL_ANCHOR
from attestation.tdx.quote import canonical_quote, parse_quote, require_canonical_quote
from tests.refusals import refusal
from tests.tdx import bench

OTHER_WRITINGS = [
    {"padding": 1},
    {"padding": 8000},
    {"outer_type": 5},
    {"outer_type": 7},
    {"final_nul": False},
    {"final_nul": True},
]


def rewritten(**writing: object) -> bytes:
    return bench.changed(bench.platform(), writing=writing).quote(bench.REPORT_DATA)


def with_pem(pem: bytes) -> bytes:
    """The healthy quote around another certificate chain."""
    raw, old = bench.raw_quote(), bench.quote().certification_data
    inner, delta = raw.index(old) - 4, len(pem) - len(old)
    data = bytearray(raw[: inner + 4] + pem)
    for offset in (632, 766, inner):
        size = int.from_bytes(data[offset : offset + 4], "little") + delta
        data[offset : offset + 4] = size.to_bytes(4, "little")
    return bytes(data)


@pytest.mark.parametrize("version", [4, 5])
def test_canonical_form_is_accepted_and_stays_as_it_is(version: int) -> None:
    data = bench.canonical(version)
    assert canonical_quote(data) == data
    require_canonical_quote(parse_quote(data), bench.platform(version).anchor)


@pytest.mark.parametrize("writing", OTHER_WRITINGS)
def test_other_ways_of_writing_have_the_same_canonical_form(writing: dict[str, object]) -> None:
    assert canonical_quote(rewritten(**writing)) == bench.canonical()


@pytest.mark.parametrize(
    "pem",
    [
        bench.quote().certification_data.replace(b"\n", b"\r\n"),
        b"\n" + bench.quote().certification_data,
        bench.quote().certification_data.rstrip(b"\n\x00"),
        bench.quote().certification_data + bytes(5),
        bench.quote().certification_data.replace(b"-----\n-----", b"-----\n\n-----"),
        bench.quote().certification_data.replace(b"\nMII", b"\nM\nII"),
    ],
)
def test_other_ways_of_writing_the_chain_have_the_same_canonical_form(pem: bytes) -> None:
    data = with_pem(pem)
    assert data != bench.canonical()
    assert canonical_quote(data) == bench.canonical()
    assert (
        refusal(require_canonical_quote, parse_quote(data), bench.platform().anchor)
        == "not_canonical"
    )


def test_canonical_form_keeps_digest_and_verdict() -> None:
    parsed = parse_quote(bench.canonical())
    assert parsed.digest == bench.quote().digest
    assert bench.code_of(parsed, bench.collateral()) == "genuine"


@pytest.mark.parametrize("writing", OTHER_WRITINGS[:4] + OTHER_WRITINGS[5:])
def test_quote_in_another_form_is_refused(writing: dict[str, object]) -> None:
    parsed = parse_quote(rewritten(**writing))
    code = refusal(require_canonical_quote, parsed, bench.platform().anchor)
    assert code == "not_canonical"


def test_padding_alone_is_refused() -> None:
    parsed = parse_quote(bench.canonical() + b"\x00")
    assert refusal(require_canonical_quote, parsed, bench.platform().anchor) == "not_canonical"


def test_quote_under_another_root_is_refused() -> None:
    parsed = parse_quote(bench.canonical())
    code = refusal(require_canonical_quote, parsed, INTEL_ANCHOR, error=EvidenceError)
    assert code == "root"


@pytest.mark.parametrize("pem", [b"", b"not a certificate", b"-----BEGIN CERTIFICATE-----\nAA"])
def test_quote_without_a_chain_has_no_canonical_form(pem: bytes) -> None:
    data = with_pem(pem)
    assert refusal(canonical_quote, data) == "pem"
    with pytest.raises(MalformedError):
        require_canonical_quote(parse_quote(data), bench.platform().anchor)
