"""Event logs in files: told apart by shape, unwrapped and unpacked within bounds."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.encoding import base64url
from attestation.errors import MalformedError
from attestation.tdx.events import replay
from attestation.tdx.logfile import (
    MAX_FILE_BYTES,
    looks_like_log,
    parse_log_file,
    parse_recorded,
)
from tests import vectors_path
from tests.refusals import refusal
from tests.tdx import bench
from tests.tdx.test_ccel import header, record, table
from tests.tdx.test_eventlog import dstack
from tests.tdx.test_runtime_log import key, measured

CCEL = header() + record(1, b"a") + record(4, b"b") + b"\xff" * 8
GATEWAY = [measured(), key()]


def written(value: Any) -> bytes:
    return json.dumps(value).encode()


def packed(data: bytes) -> bytes:
    """The same bytes in every run: a test's name holds them."""
    return gzip.compress(data, mtime=0)


@pytest.mark.parametrize(
    ("data", "log_format", "events"),
    [
        (CCEL, "ccel", 2),
        (written([dstack(), dstack(imr=3)]), "dstack", 2),
        (b" \n" + written([dstack()]), "dstack", 1),
        (written(GATEWAY), "attested-gateway", 2),
        (b"[]", "attested-gateway", 0),
        (written({"event_log": [dstack()], "mrtd": ""}), "dstack", 1),
        (written({"event_log": json.dumps([dstack()]), "quote": "00"}), "dstack", 1),
        (written({"tcb_info": {"event_log": [dstack()]}}), "dstack", 1),
        (written({"tcb_info": json.dumps({"event_log": [dstack()]})}), "dstack", 1),
        (written({"data": GATEWAY, "format": "attested-gateway"}), "attested-gateway", 2),
        (written({"data": base64url.encode(CCEL), "format": "ccel"}), "ccel", 2),
        (written({"event_log": {"data": [dstack()], "format": "dstack"}}), "dstack", 1),
        (packed(CCEL), "ccel", 2),
        (zlib.compress(CCEL), "ccel", 2),
        (zlib.compress(CCEL, 1), "ccel", 2),
        (zlib.compress(CCEL, 5), "ccel", 2),
        (zlib.compress(CCEL, 9), "ccel", 2),
        (packed(written([dstack()])), "dstack", 1),
    ],
)
def test_log_is_told_by_its_shape(data: bytes, log_format: str, events: int) -> None:
    log = parse_log_file(data)
    assert (log.format, len(log.events)) == (log_format, events)
    assert looks_like_log(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"text",
        CCEL[1:],
        written({}),
        written({"event_log": None}),
        written({"event_log": 1}),
        written({"event_log": {"events": []}}),
        written({"data": [], "format": "tpm"}),
        written({"data": [], "format": ["dstack"]}),
        written({"data": [], "format": "ccel"}),
        written({"data": [], "format": "dstack", "more": 1}),
        table(),
        b"CCEL",
        b"CCEL" + CCEL[4:],
        packed(b"text"),
        packed(CCEL)[:-1],
        packed(CCEL) + b"x",
        b"\x1f\x8b\x08" + bytes(20),
        b"\x78\x9c" + bytes(20),
        packed(packed(CCEL)),
    ],
)
def test_file_that_holds_no_log_is_refused(data: bytes) -> None:
    assert refusal(parse_log_file, data) == "event_log"


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ({"event_log": "no json"}, "syntax"),
        ({"event_log": "\ud800"}, "surrogate"),
        ({"event_log": {"event_log": "["}}, "syntax"),
        ([dstack(), 1], "member_type"),
        ([1], "member_type"),
        ([{"imr": 0}], "missing_member"),
        ([{}], "missing_member"),
    ],
)
def test_log_in_json_that_does_not_parse_is_refused(value: Any, code: str) -> None:
    assert refusal(parse_log_file, written(value)) == code


def test_table_is_told_from_a_damaged_one() -> None:
    with pytest.raises(MalformedError) as whole:
        parse_log_file(table())
    assert whole.value.expected == "the log itself"
    with pytest.raises(MalformedError) as damaged:
        parse_log_file(bench.flipped(table(), 40))
    assert damaged.value.expected == "56 bytes that sum to zero"


def test_damaged_compression_is_the_cause_of_its_refusal() -> None:
    with pytest.raises(MalformedError) as caught:
        parse_log_file(b"\x78\x9c" + bytes(20))
    assert isinstance(caught.value.__cause__, zlib.error)


def test_what_a_log_unpacks_to_is_bounded() -> None:
    bomb = gzip.compress(bytes(MAX_FILE_BYTES + 1))
    assert len(bomb) < 20_000
    assert refusal(parse_log_file, bomb) == "event_log"


@pytest.mark.parametrize("data", [b"text", b"", CCEL[1:]])
def test_other_files_do_not_look_like_a_log(data: bytes) -> None:
    assert not looks_like_log(data)


def test_record_of_a_bundle_is_read_by_its_format() -> None:
    assert parse_recorded("ccel", base64url.encode(CCEL)) == parse_log_file(CCEL)
    assert parse_recorded("dstack", [dstack()]).format == "dstack"
    assert parse_recorded("attested-gateway", [key()]).format == "attested-gateway"
    assert refusal(parse_recorded, "ccel", []) == "event_log"


@given(st.binary(max_size=200), st.sampled_from([b"", b"[", b"{", b"CCEL", b"\x1f\x8b\x08", CCEL]))
def test_arbitrary_file_is_a_log_or_refused(data: bytes, start: bytes) -> None:
    assert bench.outcome(parse_log_file, start + data)


REAL = [
    ("Dstack-TEE-dstack/quote-report.json", "Dstack-TEE-dstack/eventlog-cbdb5b2f.json"),
    ("Dstack-TEE-dstack/tdx-lite-getquote.json", "Dstack-TEE-dstack/eventlog-1d0342e3.json"),
    ("near-mpc/tcb_info.json", "near-mpc/eventlog-b9e238b2.json"),
]


@pytest.mark.parametrize(("wrapped", "bare"), REAL)
def test_log_inside_an_agents_answer_is_the_log_by_itself(wrapped: str, bare: str) -> None:
    folder = vectors_path.need("tdx")
    inner = parse_log_file((folder / wrapped).read_bytes())
    assert inner == parse_log_file((folder / bare).read_bytes())


@pytest.mark.parametrize(
    "name", ["google-go-tdx-guest/ccel_data.dat", "cc-api-cc-trusted-api/ccel_data.bin"]
)
def test_padding_of_a_real_log_does_not_change_its_replay(name: str) -> None:
    data = (vectors_path.need("tdx") / name).read_bytes()
    log = parse_log_file(data)
    bare = data.rstrip(b"\xff\x00")
    assert len(bare) < len(data)
    for tail in (bytes(16), b"\xff" * 4, b"\xff" * 4 + bytes(100), b"\xff" * 100):
        # What is cut off may have been the last record's own zeroes: at most a few bytes.
        for own in range(8):
            if bench.outcome(parse_log_file, bare + bytes(own)) == "accepted":
                assert replay(parse_log_file(bare + bytes(own) + tail)) == replay(log)
                break
        else:
            pytest.fail("the record's end was not found")
