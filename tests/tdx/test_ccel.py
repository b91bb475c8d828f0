"""The CC event log: records in bounds, registers counted from one, nothing after the end."""

from __future__ import annotations

import hashlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.tdx.ccel import type_name
from attestation.tdx.eventlog import parse_ccel, parse_ccel_table, replay
from tests.refusals import refusal
from tests.tdx import bench

SHA384, SHA256, NO_ACTION, SEPARATOR = 0x0C, 0x0B, 3, 4
END = b"\xff" * 4


def header(
    algorithms: tuple[tuple[int, int], ...] = ((SHA384, 48),),
    *,
    kind: int = NO_ACTION,
    signature: bytes = b"Spec ID Event03\x00",
    vendor: bytes = b"\x00",
) -> bytes:
    spec = struct.pack("<16sIBBBBI", signature, 0, 0, 2, 0, 2, len(algorithms))
    spec += b"".join(struct.pack("<HH", *one) for one in algorithms) + vendor
    return struct.pack("<II20sI", 1, kind, bytes(20), len(spec)) + spec


def record(
    index: int,
    data: bytes = b"data",
    *,
    kind: int = SEPARATOR,
    digests: tuple[tuple[int, bytes], ...] | None = None,
) -> bytes:
    if digests is None:
        digests = ((SHA384, hashlib.sha384(data).digest()),)
    body = b"".join(struct.pack("<H", algorithm) + digest for algorithm, digest in digests)
    return (
        struct.pack("<III", index, kind, len(digests)) + body + struct.pack("<I", len(data)) + data
    )


def sha384(*parts: bytes) -> bytes:
    return hashlib.sha384(b"".join(parts)).digest()


def test_registers_are_counted_from_one() -> None:
    log = parse_ccel(header() + record(1, b"a") + record(4, b"b") + record(1, b"c"))
    assert [event.register for event in log.events] == [0, 3, 0]
    expected = sha384(sha384(bytes(48), sha384(b"a")), sha384(b"c"))
    assert replay(log) == (expected, bytes(48), bytes(48), sha384(bytes(48), sha384(b"b")))
    assert log.format == "ccel"


def test_event_has_its_type_name_and_data() -> None:
    other = ((SHA384, b"\x01" * 48),)
    log = parse_ccel(header() + record(2, b"x") + record(3, b"y", kind=0x99, digests=other))
    first, second = log.events
    assert (first.type, first.name, first.data, first.content) == (4, "EV_SEPARATOR", b"x", b"x")
    assert (second.name, second.data, second.content) == ("0x00000099", b"y", None)
    assert second.digest == b"\x01" * 48


# As the TCG PC Client Platform Firmware Profile names its event types.
TYPES = {
    0x0: "PREBOOT_CERT", 0x1: "POST_CODE", 0x4: "SEPARATOR", 0x5: "ACTION", 0x6: "EVENT_TAG",
    0x8: "S_CRTM_VERSION", 0xA: "PLATFORM_CONFIG_FLAGS", 0xB: "TABLE_OF_DEVICES", 0xD: "IPL",
    0xE: "IPL_PARTITION_DATA", 0x80000001: "EFI_VARIABLE_DRIVER_CONFIG",
    0x80000002: "EFI_VARIABLE_BOOT", 0x80000003: "EFI_BOOT_SERVICES_APPLICATION",
    0x80000004: "EFI_BOOT_SERVICES_DRIVER", 0x80000005: "EFI_RUNTIME_SERVICES_DRIVER",
    0x80000006: "EFI_GPT_EVENT", 0x80000007: "EFI_ACTION", 0x80000008: "EFI_PLATFORM_FIRMWARE_BLOB",
    0x80000009: "EFI_HANDOFF_TABLES", 0x8000000A: "EFI_PLATFORM_FIRMWARE_BLOB2",
    0x8000000B: "EFI_HANDOFF_TABLES2", 0x8000000C: "EFI_VARIABLE_BOOT2",
    0x80000010: "EFI_HCRTM_EVENT", 0x800000E0: "EFI_VARIABLE_AUTHORITY",
    0x800000E1: "EFI_SPDM_FIRMWARE_BLOB", 0x800000E2: "EFI_SPDM_FIRMWARE_CONFIG",
}  # fmt: skip


def test_type_of_records_without_effect_has_a_name_and_an_unknown_one_its_number() -> None:
    assert type_name(NO_ACTION) == "EV_NO_ACTION"
    assert type_name(0x7FFFFFFF) == "0x7fffffff"


@pytest.mark.parametrize("kind", TYPES)
def test_event_types_have_the_names_of_the_specification(kind: int) -> None:
    (event,) = parse_ccel(header() + record(1, kind=kind)).events
    assert event.name == f"EV_{TYPES[kind]}"


@pytest.mark.parametrize(
    "one",
    [
        record(1, b"note", kind=NO_ACTION),
        record(1, b"note", kind=NO_ACTION, digests=()),
        record(0, b"td"),
    ],
)
def test_record_that_extends_nothing_is_counted_and_left_out(one: bytes) -> None:
    log = parse_ccel(header() + one + record(1))
    assert (len(log.events), log.unmeasured) == (1, 1)


@pytest.mark.parametrize("tail", [b"", END, b"\xff" * 100, END + bytes(60), b"\xff" * 9 + bytes(3)])
def test_log_ends_at_its_end_or_at_padding(tail: bytes) -> None:
    assert len(parse_ccel(header() + record(1) + tail).events) == 1


@pytest.mark.parametrize(
    "tail", [END + b"\x01", END + bytes(3) + b"\x01" + bytes(3), END + record(1)]
)
def test_anything_but_padding_after_the_end_is_refused(tail: bytes) -> None:
    assert refusal(parse_ccel, header() + record(1) + tail) == "event_log"


@pytest.mark.parametrize("size", [1, 7, 15, 16, 17, 60_000])
def test_zero_padding_without_an_end_mark_is_no_record(size: int) -> None:
    log = parse_ccel(header() + record(1) + bytes(size))
    assert (len(log.events), log.unmeasured) == (1, 0)


@pytest.mark.parametrize(
    "tail", [bytes(16) + b"\x01", bytes(15) + record(1), bytes(64) + END + b"x"]
)
def test_anything_but_padding_after_zeroes_is_refused(tail: bytes) -> None:
    assert refusal(parse_ccel, header() + record(1) + tail) == "event_log"


@pytest.mark.parametrize(
    "second",
    [
        header(),
        record(1, b"Spec ID Event03\x00", kind=NO_ACTION),
        record(0, b"Spec ID Event03\x00"),
    ],
    ids=["as the first", "as a record", "as a record of MRTD"],
)
def test_second_header_is_refused(second: bytes) -> None:
    for log in (header() + second + record(1), header() + record(1) + second):
        assert refusal(parse_ccel, log) == "event_log"


def test_record_of_mrtd_without_a_digest_is_refused() -> None:
    assert refusal(parse_ccel, header() + record(0, digests=())) == "event_log"


def test_every_truncation_inside_a_record_is_refused() -> None:
    start = header()
    log = start + record(1)
    for size in range(len(log)):
        outcome = bench.outcome(parse_ccel, log[:size])
        assert outcome == ("accepted" if size == len(start) else "event_log")


def test_several_digests_are_told_apart_by_the_header() -> None:
    algorithms = ((SHA256, 32), (SHA384, 48), (0x7777, 5))
    digests = ((0x7777, b"odd!!"), (SHA384, b"\x02" * 48), (SHA256, b"\x03" * 32))
    log = parse_ccel(header(algorithms) + record(1, digests=digests))
    assert log.events[0].digest == b"\x02" * 48


@pytest.mark.parametrize(
    "digests",
    [
        (),
        ((SHA256, b"\x03" * 32),),
        ((0x7777, b""),),
        ((SHA384, b"\x01" * 48), (SHA384, b"\x02" * 48)),
    ],
    ids=["none", "only SHA-256", "unlisted", "twice"],
)
def test_record_without_exactly_one_sha384_digest_is_refused(
    digests: tuple[tuple[int, bytes], ...],
) -> None:
    algorithms = ((SHA256, 32), (SHA384, 48))
    assert refusal(parse_ccel, header(algorithms) + record(1, digests=digests)) == "event_log"


@pytest.mark.parametrize("index", [5, 6, 0xFFFFFFFE])
def test_register_that_does_not_exist_is_refused(index: int) -> None:
    assert refusal(parse_ccel, header() + record(index)) == "event_log"


@pytest.mark.parametrize(
    "first",
    [
        b"",
        header(kind=SEPARATOR),
        header(signature=b"Spec ID Event02\x00"),
        header(()),
        header(((SHA256, 32),)),
        header(((SHA384, 32),)),
        record(1),
    ],
)
def test_log_without_a_proper_header_is_refused(first: bytes) -> None:
    assert refusal(parse_ccel, first + record(1)) == "event_log"


def test_header_may_carry_vendor_data() -> None:
    assert len(parse_ccel(header(vendor=b"\x03abc") + record(1)).events) == 1


def test_oversized_log_is_refused() -> None:
    start = header() + END
    assert parse_ccel(start + b"\xff" * ((1 << 20) - len(start))).events == ()
    assert refusal(parse_ccel, start + b"\xff" * ((1 << 20) - len(start) + 1)) == "event_log"


def test_log_of_too_many_records_is_refused() -> None:
    many = header() + record(1, b"", kind=NO_ACTION, digests=()) * 5_000 + record(1, b"") * 5_000
    assert parse_ccel(many).unmeasured == 5_000
    assert refusal(parse_ccel, many + record(1)) == "event_log"


def table(**changes: object) -> bytes:
    fields = {"signature": b"CCEL", "length": 56, "log": 65536, "address": 0xBE000000} | changes
    data = struct.pack(
        "<4sI28sBBHQQ",
        fields["signature"], fields["length"], bytes(28), 2, 0, 0, fields["log"], fields["address"],
    )  # fmt: skip
    return data[:9] + bytes([-sum(data) % 256]) + data[10:]


def test_table_says_where_the_log_lies() -> None:
    assert parse_ccel_table(table()) == (65536, 0xBE000000)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        table()[:-1],
        table() + b"\x00",
        table(signature=b"DSDT"),
        table(length=57),
        bench.flipped(table(), 40),
    ],
)
def test_another_table_is_refused(data: bytes) -> None:
    assert refusal(parse_ccel_table, data) == "event_log"


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_a_log_or_refused(data: bytes) -> None:
    assert bench.outcome(parse_ccel, data) == "event_log"
    assert bench.outcome(parse_ccel, header() + data) in ("accepted", "event_log")
    assert bench.outcome(parse_ccel_table, data) == "event_log"


@given(st.data())
def test_damaged_log_is_read_or_refused(data: st.DataObject) -> None:
    raw = bytearray(header(((SHA256, 32), (SHA384, 48))) + record(1) + record(2, b"") + END * 4)
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    assert bench.outcome(parse_ccel, bytes(raw)) in ("accepted", "event_log")
