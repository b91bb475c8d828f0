"""The SGX extension of a PCK certificate, read strictly."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import MalformedError
from attestation.tdx import der
from attestation.tdx.chain import parse_certificate
from attestation.tdx.pck import parse_pck_extension, parse_pck_extension_value
from gateway.attester.simulated import der as writer
from gateway.attester.simulated.facts import Machine
from tests.refusals import refusal
from tests.tdx import bench

PPID, PIID = bytes(range(16)), bytes(range(16, 32))
GOOD = writer.sgx_extension(Machine(), PPID, PIID)
OID = bytes.fromhex("2a864886f84d010d01")


def pair(arcs: bytes, contents: bytes) -> bytes:
    return writer.sequence(writer.value(0x06, OID + arcs), contents)


def without(arc: int) -> bytes:
    """The good extension without its field of that number."""
    rest, kept = der.read_only_value(GOOD, der.SEQUENCE), b""
    while rest:
        item, rest = der.read_value(rest, der.SEQUENCE)
        if item[2 + len(OID)] != arc:
            kept += writer.sequence(item)
    return writer.sequence(kept)


def test_every_field_is_read() -> None:
    machine = Machine(
        cpu_svn=bytes(range(240, 256)),
        pce_svn=0xFFFF,
        pce_id=b"\x01\x02",
        fmspc=b"fmspc!",
        sgx_type=2,
        dynamic_platform=True,
        cached_keys=False,
        smt_enabled=True,
    )
    read = parse_pck_extension_value(writer.sgx_extension(machine, PPID, PIID))
    assert (read.ppid, read.piid, read.fmspc, read.pce_id) == (PPID, PIID, b"fmspc!", b"\x01\x02")
    assert (read.cpu_svn, read.components) == (machine.cpu_svn, tuple(range(240, 256)))
    assert (read.pce_svn, read.sgx_type) == (0xFFFF, 2)
    assert (read.dynamic_platform, read.cached_keys, read.smt_enabled) == (True, False, True)


def test_single_package_platform_has_no_instance_and_no_configuration() -> None:
    data = writer.sgx_extension(Machine(single_package=True), PPID, PIID)
    read = parse_pck_extension_value(data)
    assert (read.piid, read.dynamic_platform, read.cached_keys, read.smt_enabled) == (None,) * 4


def test_unknown_field_of_intels_own_is_passed_over() -> None:
    more = writer.sequence(der.read_only_value(GOOD, der.SEQUENCE) + pair(b"\x08", b"\x05\x00"))
    assert parse_pck_extension_value(more) == parse_pck_extension_value(GOOD)


@pytest.mark.parametrize("arc", [1, 2, 3, 4, 5])
def test_missing_field_is_refused(arc: int) -> None:
    assert refusal(parse_pck_extension_value, without(arc)) == "pck"


def test_repeated_field_is_refused() -> None:
    inside = der.read_only_value(GOOD, der.SEQUENCE)
    again = writer.sequence(inside + pair(b"\x04", writer.octets(bytes(6))))
    assert refusal(parse_pck_extension_value, again) == "pck"


@pytest.mark.parametrize("oid", [OID + b"\x01\x01", OID, b"\x2a\x03" + bytes([1])])
def test_field_of_another_family_is_refused(oid: bytes) -> None:
    inside = der.read_only_value(GOOD, der.SEQUENCE)
    foreign = writer.sequence(writer.value(0x06, oid), b"\x05\x00")
    assert refusal(parse_pck_extension_value, writer.sequence(inside + foreign)) == "pck"


@pytest.mark.parametrize("sgx_type", [3, 255])
def test_unknown_sgx_type_is_refused(sgx_type: int) -> None:
    data = writer.sgx_extension(Machine(sgx_type=sgx_type), PPID, PIID)
    assert refusal(parse_pck_extension_value, data) == "pck"


@pytest.mark.parametrize(
    "machine",
    [Machine(fmspc=bytes(5)), Machine(pce_id=bytes(3)), Machine(pce_svn=0x10000)],
)
def test_field_of_another_size_is_refused(machine: Machine) -> None:
    assert refusal(parse_pck_extension_value, writer.sgx_extension(machine, PPID, PIID)) == "der"


@pytest.mark.parametrize(("ppid", "piid"), [(bytes(15), PIID), (PPID, bytes(17))])
def test_identity_of_another_size_is_refused(ppid: bytes, piid: bytes) -> None:
    assert refusal(parse_pck_extension_value, writer.sgx_extension(Machine(), ppid, piid)) == "der"


def test_every_truncation_is_refused() -> None:
    for size in range(len(GOOD)):
        with pytest.raises(MalformedError):
            parse_pck_extension_value(GOOD[:size])


def test_certificate_without_the_extension_is_refused() -> None:
    root = parse_certificate(bench.platform().anchor.root_der, what="root")
    assert refusal(parse_pck_extension, root) == "pck"


def test_certificate_with_unreadable_extensions_is_refused() -> None:
    leaf = bench.quote().chain()[0]
    # The key usage extension's BIT STRING becomes another type, so no extension can be read.
    mark = bytes.fromhex("0603551d0f0101ff0404")
    broken = leaf.replace(mark, mark[:-2] + b"\x04\x04", 1)
    position = broken.index(mark) + len(mark)
    broken = broken[:position] + b"\x05" + broken[position + 1 :]
    assert refusal(parse_pck_extension, parse_certificate(broken, what="leaf")) == "pck"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x04",
        b"\x05\x00",
        b"\x04\x80",
        b"\x04\x83\x00\x00\x01A",
        b"\x04\x81",
        b"\x04\x81\x01A",
        b"\x04\x81\x7f" + bytes(0x7F),
        b"\x04\x82\x00\xff" + bytes(0xFF),
        b"\x04\x02A",
    ],
)
def test_value_in_another_form_than_der_is_refused(data: bytes) -> None:
    assert refusal(der.read_value, data, der.OCTET_STRING) == "der"


@pytest.mark.parametrize("size", [0, 1, 0x7F, 0x80, 0xFF, 0x100, 0xFFFF])
def test_value_of_any_size_is_read_with_its_rest(size: int) -> None:
    data = writer.octets(b"x" * size)
    assert der.read_value(data + b"rest", der.OCTET_STRING) == (b"x" * size, b"rest")


def test_value_with_something_after_it_is_refused_where_it_must_be_alone() -> None:
    assert refusal(der.read_only_value, b"\x04\x01AB", der.OCTET_STRING) == "der"


@pytest.mark.parametrize(
    "data", [b"\x02\x00", b"\x02\x01\xff", b"\x02\x02\x00\x01", b"\x02\x03\x01\x00\x00"]
)
def test_integer_out_of_range_or_in_another_form_is_refused(data: bytes) -> None:
    assert refusal(der.read_integer, data, maximum=0xFFFF) == "der"


@given(st.integers(0, 0xFFFF))
def test_integer_is_read_back(number: int) -> None:
    assert der.read_integer(writer.integer(number), maximum=0xFFFF) == number
    assert refusal(der.read_integer, writer.integer(number), maximum=number - 1) == "der"


@pytest.mark.parametrize("contents", [b"", b"\x01", b"\xfe", b"\xff\xff"])
def test_boolean_in_another_form_is_refused(contents: bytes) -> None:
    assert refusal(der.read_boolean, writer.value(1, contents)) == "der"
    assert der.read_boolean(writer.boolean(True)) is True
    assert der.read_boolean(writer.boolean(False)) is False


@given(st.data())
def test_damaged_extension_is_read_or_refused(data: st.DataObject) -> None:
    raw = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    outcome = bench.outcome(parse_pck_extension_value, bytes(raw))
    assert outcome in ("accepted", "der", "pck")


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_no_extension(data: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_pck_extension_value(data)


def test_dynamic_flags_do_not_depend_on_each_other() -> None:
    for name in ("dynamic_platform", "cached_keys", "smt_enabled"):
        off = Machine(dynamic_platform=False, cached_keys=False, smt_enabled=False)
        changes: dict[str, Any] = {name: True}
        machine = replace(off, **changes)
        read = parse_pck_extension_value(writer.sgx_extension(machine, PPID, PIID))
        flags = {
            "dynamic_platform": read.dynamic_platform,
            "cached_keys": read.cached_keys,
            "smt_enabled": read.smt_enabled,
        }
        assert [flag for flag, value in flags.items() if value] == [name]


def test_oid_is_intels() -> None:
    leaf = parse_certificate(bench.quote().chain()[0], what="leaf")
    oid = x509.ObjectIdentifier("1.2.840.113741.1.13.1")
    assert leaf.extensions.get_extension_for_oid(oid).value.public_bytes().startswith(b"\x30\x82")
