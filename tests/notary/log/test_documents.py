"""docs/spec/segments.md says what the code writes."""

from __future__ import annotations

import re
from pathlib import Path

from gateway.notary.log.segments import (
    MAGIC,
    Header,
    Kind,
    encode_batch,
    encode_record,
    parse_segment,
)
from gateway.notary.log.walk import BootStatus

DOCUMENT = (Path(__file__).parents[3] / "docs" / "spec" / "segments.md").read_text("utf-8")


def test_documented_records_are_those_that_the_code_writes() -> None:
    header = Header(bootseed=b"\x11" * 32, number=0, first_leaf=0, before=bytes(32))
    frames = [
        header.encode(),
        encode_batch(0),
        encode_record(Kind.BOOT, b"{}"),
        encode_batch(1),
        encode_record(Kind.CHECKPOINT, b"note\n"),
    ]
    (block,) = re.findall(r"```\n((?:[0-9a-f]+\n)+)```", DOCUMENT)
    assert block.split() == [frame.hex() for frame in frames]
    records = parse_segment(MAGIC + b"".join(map(bytes.fromhex, block.split())))
    assert [record.kind for record in records] == [
        Kind.HEADER,
        Kind.BATCH,
        Kind.BOOT,
        Kind.BATCH,
        Kind.CHECKPOINT,
    ]


def test_documented_kinds_and_statuses_are_all_there_are() -> None:
    kinds = re.findall(r"^\| `([0-9A-F]{2})` \|", DOCUMENT, re.MULTILINE)
    assert [int(kind, 16) for kind in kinds] == sorted(Kind)
    statuses = re.findall(r"^\| `([a-z]+)` \|", DOCUMENT, re.MULTILINE)
    assert statuses == [str(status) for status in BootStatus]
