"""TDX metadata, MRTD, TD HOB and variable stores: parsed strictly, computed twice."""

from __future__ import annotations

import struct
import uuid
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.errors import MalformedError, UsageError
from attestation.measure.efivars import (
    GLOBAL,
    IMAGE_SECURITY,
    MAX_SIGNATURES,
    MAX_VARIABLES,
    describe_signatures,
    parse_signatures,
    parse_variable_store,
    variable_data,
)
from attestation.measure.hob import MAX_MEMORY, make_td_hob
from attestation.measure.mrtd import PageOrder, predict_mrtd
from attestation.measure.tdvf import MAX_FIRMWARE_BYTES, SectionType, parse_tdvf
from tests.measure import builders, independent
from tests.measure.builders import BASE, BFV, CFV, HOB, ROWS, SHA256, X509, Row


def changed(index: int, **fields: int) -> tuple[Row, ...]:
    names = ("offset", "size", "base", "memory", "kind", "flags")
    rows = list(ROWS)
    row = dict(zip(names, rows[index], strict=True)) | fields
    rows[index] = (
        row["offset"],
        row["size"],
        row["base"],
        row["memory"],
        row["kind"],
        row["flags"],
    )
    return tuple(rows)


def test_sections_are_read_as_they_are_declared() -> None:
    sections = parse_tdvf(builders.firmware())
    assert [section.type for section in sections] == [0, 1, 3, 3, 2, 3]
    assert sections[0].extended
    assert not sections[1].extended
    assert sections[2].content == bytes(0x10000)


@pytest.mark.parametrize("order", PageOrder)
def test_mrtd_is_that_of_a_second_computation(order: PageOrder) -> None:
    data = builders.firmware((*changed(1, flags=1)[:5], (0, 0, 0x800000, 0x6000, 3, 2)))
    assert predict_mrtd(parse_tdvf(data), order) == independent.mrtd(
        data, order is PageOrder.TWO_PASS
    )


def test_the_two_orders_of_pages_have_two_values() -> None:
    sections = parse_tdvf(builders.firmware())
    assert len({predict_mrtd(sections, order) for order in PageOrder}) == 2


def test_every_byte_of_the_boot_volume_counts() -> None:
    data = bytearray(builders.firmware())
    before = predict_mrtd(parse_tdvf(bytes(data)), PageOrder.INTERLEAVED)
    data[builders.STORE_BYTES + 0x2000] ^= 1
    assert predict_mrtd(parse_tdvf(bytes(data)), PageOrder.INTERLEAVED) != before


@pytest.mark.parametrize(
    "memory", [16 << 20, 1 << 30, 0xAFFF_F000, 0xB000_0000, 64 << 30, MAX_MEMORY]
)
def test_td_hob_is_that_of_a_second_computation(memory: int) -> None:
    data = builders.firmware()
    assert make_td_hob(parse_tdvf(data), memory) == independent.td_hob(data, memory)


def test_td_hob_begins_with_accepted_memory_where_a_section_does() -> None:
    sections = parse_tdvf(builders.firmware())
    moved = tuple(replace(one, address=0) if one.address == 0x800000 else one for one in sections)
    hob = make_td_hob(moved, 1 << 30)
    assert struct.unpack_from("<IIQQ", hob, 56 + 24) == (0, 7, 0, 0x6000)


@pytest.mark.parametrize("memory", [0, 1 << 20, (1 << 30) + 1, MAX_MEMORY + 4096, -4096])
def test_impossible_memory_is_refused(memory: int) -> None:
    with pytest.raises(UsageError, match="memory"):
        make_td_hob(parse_tdvf(builders.firmware()), memory)


def descriptor(
    signature: bytes = b"TDVF", version: int = 1, count: int = 0, length: int = 0
) -> bytes:
    return struct.pack("<4sIII", signature, length or 16 + 32 * count, version, count)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "an image of firmware"),
        (bytes(100), "table of GUIDs before"),
        (bytes(MAX_FIRMWARE_BYTES + 1), "at most"),
        (builders.firmware(extra=b""), "an entry for TDX metadata"),
        (builders.firmware(extra=builders.entry(builders.TDVF_GUID, b"123")), "offset of 4 bytes"),
        (builders.firmware(extra=struct.pack("<H16s", 5, bytes(16))), "entries that fill"),
        (builders.firmware(extra=struct.pack("<H16s", 500, bytes(16))), "entries that fill"),
        (builders.firmware(descriptor=descriptor(b"TDVF")), "a TDVF descriptor"),
        (builders.firmware(descriptor=descriptor(version=2, count=1)), "a TDVF descriptor"),
        (builders.firmware(descriptor=descriptor(count=0)), "a TDVF descriptor"),
        (builders.firmware(descriptor=descriptor(count=65)), "a TDVF descriptor"),
        (builders.firmware(descriptor=descriptor(count=1, length=99)), "as long as its sections"),
        (builders.firmware(changed(0, kind=9)), "type from 0 to 8"),
        (builders.firmware(changed(0, flags=4)), "type from 0 to 8"),
        (builders.firmware(changed(5, memory=1 << 40)), "at most"),
        (builders.firmware(changed(0, base=1 << 52)), "that hold their data"),
        (builders.firmware(changed(0, size=0x4000)), "that hold their data"),
        (builders.firmware(changed(0, base=BASE + 1)), "whole pages"),
        (builders.firmware(changed(0, offset=0x7000)), "bytes at offset"),
        (builders.firmware(changed(0, kind=HOB)), "a boot volume"),
        (builders.firmware(changed(4, kind=3)), "a boot volume"),
        (builders.firmware(changed(0, kind=CFV)), "a boot volume"),
        (builders.firmware((*ROWS, (0, 0, 0x900000, 0x1000, CFV, 0))), "a boot volume"),
        (builders.firmware(changed(5, base=0x80A000)), "apart in memory"),
    ],
)
def test_firmware_that_does_not_parse_is_refused(data: bytes, expected: str) -> None:
    with pytest.raises(MalformedError, match="the firmware does not parse") as caught:
        parse_tdvf(data)
    told = str(caught.value)
    assert any(part in told for part in expected.split("|")), told


@given(st.binary(max_size=300), st.integers(0, 28 << 10))
@settings(max_examples=150, deadline=None)
def test_firmware_with_any_bytes_anywhere_parses_or_is_refused(junk: bytes, at: int) -> None:
    data = builders.firmware()
    data = data[:at] + junk + data[at + len(junk) :]
    try:
        sections = parse_tdvf(data)
    except MalformedError:
        return
    assert sum(section.type is SectionType.TD_HOB for section in sections) == 1


def test_variables_of_the_store_are_read() -> None:
    body = (
        builders.variable("db", b"old", vendor=IMAGE_SECURITY, state=0x3E)
        + builders.variable("PK", b"deleted", state=0x3C)
        + builders.variable("db", b"new", vendor=IMAGE_SECURITY)
    )
    store = parse_variable_store(builders.variable_store({}, body=body))
    assert store == {(IMAGE_SECURITY, "db"): b"new"}


def test_store_may_be_filled_to_its_end() -> None:
    room = builders.STORE_BYTES - 72 - 28 - 60 - 4
    body = builders.variable("X", bytes(room))
    assert len(parse_variable_store(builders.variable_store({}, body=body))) == 1


def broken_store(at: int, data: bytes) -> bytes:
    store = bytearray(builders.variable_store({(GLOBAL, "PK"): b"key"}))
    store[at : at + len(data)] = data
    return bytes(store)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "bytes at offset"),
        (broken_store(16, bytes(16)), "a firmware volume for variables"),
        (broken_store(40, b"_FVX"), "a firmware volume for variables"),
        (broken_store(72, bytes(16)), "a healthy store"),
        (broken_store(72 + 20, b"\x00"), "a healthy store"),
        (broken_store(72 + 16, struct.pack("<I", 20)), "its own header"),
        (broken_store(72 + 16, struct.pack("<I", 1 << 30)), "bytes at offset"),
        (broken_store(72 + 28 + 40, struct.pack("<I", 1 << 30)), "bytes at offset"),
        (broken_store(72 + 28 + 60, b"\x00\xd8"), "names in UTF-16"),
        (broken_store(0x3000, b"\x00"), "erased flash"),
    ],
)
def test_store_that_does_not_parse_is_refused(data: bytes, expected: str) -> None:
    with pytest.raises(MalformedError, match="variable store does not parse") as caught:
        parse_variable_store(data)
    assert expected in str(caught.value)


def test_too_many_variables_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attestation.measure.efivars.MAX_VARIABLES", 1)
    assert MAX_VARIABLES > 1
    store = builders.variable_store({(GLOBAL, "PK"): b"1", (GLOBAL, "KEK"): b"2"})
    with pytest.raises(MalformedError, match="at most 1 variables"):
        parse_variable_store(store)


def test_signature_databases_are_read_and_described() -> None:
    data = builders.signatures(X509, [b"certificate"]) + builders.signatures(
        SHA256, [b"h" * 32, b"i" * 32]
    )
    data += builders.signatures(str(uuid.uuid4()), [b"what"])
    found = parse_signatures(data)
    assert [one.data for one in found] == [b"certificate", b"h" * 32, b"i" * 32, b"what"]
    assert {one.owner for one in found} == {builders.VENDOR}
    assert describe_signatures(data) == "1 X.509, 2 SHA-256, 1 other"
    assert describe_signatures(b"") == "empty"
    assert describe_signatures(b"junk") == "4 bytes"


@pytest.mark.parametrize(
    "data",
    [
        b"short",
        bytes(16) + struct.pack("<III", 28, 0, 16),
        bytes(16) + struct.pack("<III", 10, 0, 20),
        bytes(16) + struct.pack("<III", 29, 0, 17) + b"x",
        bytes(16) + struct.pack("<III", 28, 5, 17),
    ],
)
def test_signature_database_that_does_not_parse_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedError, match="signature database"):
        parse_signatures(data)


def test_too_many_signatures_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attestation.measure.efivars.MAX_SIGNATURES", 1)
    assert MAX_SIGNATURES > 1
    with pytest.raises(MalformedError, match="at most 1 entries"):
        parse_signatures(builders.signatures(SHA256, [bytes(32), bytes(32)]))


def test_variable_data_is_that_of_a_second_computation() -> None:
    assert variable_data(GLOBAL, "SecureBoot", b"\1") == independent.variable(
        str(GLOBAL), "SecureBoot", b"\1"
    )


def test_boot_volume_is_the_first_kind() -> None:
    assert SectionType(BFV) is SectionType.BFV
