"""Every stream of the shared vectors ends as the format's rules say, however it is read."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from attestation.receipt.claims import End
from attestation.receipt.delivery import body_of
from tests.receipt.support import Streamed, stream

UNCLEAN = {"short", "no-last-chunk"}
WANTED = {
    "complete": {End.COMPLETE},
    "complete-with-error": {End.COMPLETE},
    "incomplete": {End.UPSTREAM_ERROR},
    "error": {End.UPSTREAM_ERROR},
    "error-or-passthrough": {End.COMPLETE, End.UPSTREAM_ERROR},
}


def cases(folder: Path) -> Iterator[tuple[dict[str, Any], bytes]]:
    for file in sorted(folder.glob("*.ndjson")):
        for line in file.read_text(encoding="utf-8").splitlines():
            case = json.loads(line)
            packed = case.get("zlib_b64")
            data = base64.b64decode(packed or case["bytes_b64"])
            yield case, zlib.decompress(data) if packed else data


def reads(data: bytes) -> Iterator[list[bytes]]:
    yield [data]
    yield [data[position : position + 7] for position in range(0, len(data), 7)]
    if len(data) < 2000:
        yield [bytes([byte]) for byte in data]


def is_clean(case: dict[str, Any], data: bytes) -> bool:
    """A reset counts by when it came: after the whole message it changes nothing."""
    if case["upstream_close"] == "rst":
        return data.endswith(b"[DONE]\n\n")
    return case["upstream_close"] not in UNCLEAN


def require_expected(case: dict[str, Any], told: Streamed) -> None:
    assert told.outcome.end in WANTED[case["expect"]], case["name"]
    assert told.outcome.response == body_of(told.sent + told.terminal), case["name"]
    if case["expect"] == "complete-with-error":
        assert "error" in told.outcome.finish_reasons


def test_every_stream_of_the_vectors_ends_as_expected(vectors: Callable[[str], Path]) -> None:
    seen = 0
    for case, data in cases(vectors("sse")):
        for pieces in reads(data):
            require_expected(case, stream(pieces, clean=is_clean(case, data)))
        seen += 1
    if not seen:
        pytest.fail("the vectors hold no case")
