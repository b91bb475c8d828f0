"""dstack 565 (a loop without end), 566 (a gzip bomb), 567 (an unbounded vector): input that costs
the verifier far more than its sender.

Lesson: nothing is decompressed, every count and length is bounded before memory is taken for it,
and nesting is bounded.
"""

from __future__ import annotations

import gzip
import sys
import zlib

import pytest

from attestation.bundle import MAX_BUNDLE_BYTES, parse_bundle, parse_evidence
from attestation.encoding import jcs
from attestation.errors import MalformedError
from attestation.tdx.ccel import parse_ccel
from attestation.tdx.quote import MAX_QUOTE_BYTES, parse_quote
from tests.refusals import refusal
from tests.support.bundles import Gateway
from tests.tamper.folder import judge
from tests.tamper.folders import folder_of, gateway

GATEWAY = gateway("bombs")
FOLDER = folder_of(GATEWAY)


@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress])
def test_compressed_bundle_is_not_opened(compress: object) -> None:
    assert callable(compress)
    assert judge(FOLDER.but(compress(FOLDER.bundle))) == 13


def test_bundle_beyond_its_bound_is_refused_before_it_is_read() -> None:
    assert refusal(parse_bundle, b" " * (MAX_BUNDLE_BYTES + 1)) == "size"
    assert refusal(parse_evidence, b"x" * (MAX_BUNDLE_BYTES + 1)) == "unknown_file"


@pytest.mark.parametrize("opening", [b"[", b'{"boots":', b'[{"a":'])
def test_nesting_without_end_is_refused(opening: bytes) -> None:
    before = sys.getrecursionlimit()
    assert refusal(parse_bundle, b'{"boots":' + opening * 200_000) == "depth"
    assert sys.getrecursionlimit() == before


def test_quote_beyond_its_bound_is_refused() -> None:
    padded = GATEWAY.evidence.quote.ljust(MAX_QUOTE_BYTES, b"\0")
    assert parse_quote(padded).padding
    assert refusal(parse_quote, padded + b"\0") == "quote"


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x80000000, 0x7FFFFFFF, 1 << 20])
@pytest.mark.parametrize("at", [632, 766])
def test_quote_that_claims_more_bytes_than_it_has_is_refused(at: int, size: int) -> None:
    raw = bytearray(GATEWAY.evidence.quote)
    raw[at : at + 4] = size.to_bytes(4, "little")
    assert refusal(parse_quote, bytes(raw)) == "quote"


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x80000000, 1 << 20])
def test_event_log_that_claims_more_bytes_than_it_has_is_refused(size: int) -> None:
    record = (0).to_bytes(4, "little") + (3).to_bytes(4, "little") + bytes(20)
    with pytest.raises(MalformedError):
        parse_ccel(record + size.to_bytes(4, "little") + bytes(64))


def test_list_of_events_is_bounded() -> None:
    record = GATEWAY.evidence.event_log
    assert record is not None
    document = FOLDER.document()
    event = document["boots"][0]["event_log"]["data"][0]
    document["boots"][0]["event_log"]["data"] = [{**event, "n": n} for n in range(10_001)]
    assert refusal(parse_bundle, jcs.canonicalize(document)) == "event_log"


def test_body_of_any_size_is_compared_and_never_parsed() -> None:
    made = Gateway()
    exchanged = made.plain()
    bomb = exchanged.contents(request=b"[" * 2_000_000, response=gzip.compress(bytes(1 << 20)))
    assert made.verify(contents={exchanged.jti: bomb}).exit_code == 10
