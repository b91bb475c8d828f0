"""PE images, unified kernel images, cpio archives, kernels and partition tables."""

from __future__ import annotations

import hashlib
import struct
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.errors import MalformedError, UsageError
from attestation.measure.boot import require_command_line
from attestation.measure.bzimage import patch_kernel
from attestation.measure.gpt import gpt_event
from attestation.measure.pe import MAX_IMAGE_BYTES, parse_pe
from attestation.measure.uki import parse_uki
from tests.measure import builders, independent
from tests.measure.builders import KERNEL, SECTIONS

PLAIN = builders.pe([(".text", b"code"), (".data", b"d" * 600)])
SIGNED = builders.pe([(".text", b"code"), (".data", b"d" * 600)], signed=b"signature" * 4)


@pytest.mark.parametrize(
    "image",
    [
        PLAIN,
        SIGNED,
        KERNEL,
        builders.uki(),
        builders.pe([(".text", b"x")], tail=b"debug data behind the sections"),
        builders.pe([(".text", b"x")], tail=b"debug data", signed=b"12345678"),
        builders.pe([(".text", b"x")], plus=False),
        builders.pe([(".text", b"x")], plus=False, signed=b"12345678"),
        builders.pe([(".text", b"x")], directories=4),
        builders.pe([(".bss", b""), (".text", b"x")]),
    ],
)
def test_authenticode_is_that_of_a_second_computation(image: bytes) -> None:
    assert parse_pe(image).authenticode() == independent.authenticode(image)


def test_gap_between_sections_is_left_out_and_the_rest_begins_too_early() -> None:
    table = 64 + 24 + 112 + 128
    image = PLAIN[:1024] + bytes(512) + PLAIN[1024:]
    moved = bytearray(image)
    struct.pack_into("<I", moved, table + 60, 1024 + 512)
    found = parse_pe(bytes(moved)).authenticode()
    assert found == independent.authenticode(bytes(moved))
    assert found != parse_pe(PLAIN).authenticode()


def test_signing_does_not_change_the_digest() -> None:
    assert parse_pe(PLAIN).authenticode() == parse_pe(SIGNED).authenticode()


def test_checksum_does_not_change_the_digest_and_everything_else_does() -> None:
    before = parse_pe(PLAIN)
    same = bytearray(PLAIN)
    same[before.checksum_at] ^= 0xFF
    assert parse_pe(bytes(same)).authenticode() == before.authenticode()
    for at in (2, before.checksum_at - 1, before.checksum_at + 4, before.headers_size, -1):
        other = bytearray(PLAIN)
        other[at] ^= 0x10
        try:
            assert parse_pe(bytes(other)).authenticode() != before.authenticode()
        except MalformedError:
            continue


def test_sections_are_hashed_in_the_order_of_the_file() -> None:
    image = bytearray(PLAIN)
    table = 64 + 24 + 112 + 128
    image[table : table + 40], image[table + 40 : table + 80] = (
        image[table + 40 : table + 80],
        image[table : table + 40],
    )
    assert parse_pe(bytes(image)).authenticode() == independent.authenticode(bytes(image))


def at(offset: int, layout: str, *values: int, image: bytes = PLAIN) -> bytes:
    data = bytearray(image)
    struct.pack_into(layout, data, offset, *values)
    return bytes(data)


OPTIONAL = 64 + 24
TABLE = OPTIONAL + 112 + 128


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (b"MZ", "bytes at offset"),
        (b"no" + PLAIN[2:], 'begins with "MZ"'),
        (at(0x3C, "<I", 1 << 31), "bytes at offset"),
        (at(64, "<I", 0), "a PE signature"),
        (at(70, "<H", 97), "at most 96 sections"),
        (at(OPTIONAL + 60, "<I", 300), "headers that hold"),
        (at(OPTIONAL + 60, "<I", 1 << 30), "bytes at offset"),
        (at(OPTIONAL, "<H", 0x107), "PE32 or PE32+"),
        (at(OPTIONAL + 108, "<I", 17), "within the optional header"),
        (at(OPTIONAL + 112 + 32, "<II", 600, 8), "at the end of the file"),
        (at(TABLE + 8, "<I", MAX_IMAGE_BYTES + 1), "sections of at most"),
        (at(TABLE + 16, "<I", 1 << 30), "bytes at offset"),
        (at(TABLE + 20, "<I", 16), "behind the headers and apart"),
        (at(TABLE + 60, "<I", 512), "behind the headers and apart"),
        (at(OPTIONAL + 112 + 32, "<II", len(SIGNED) - 600, 600, image=SIGNED), "reaches into it"),
    ],
)
def test_image_that_does_not_parse_is_refused(image: bytes, expected: str) -> None:
    with pytest.raises(MalformedError, match="the image does not parse") as caught:
        parse_pe(image)
    assert expected in str(caught.value)


def test_image_beyond_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attestation.measure.pe.MAX_IMAGE_BYTES", 100)
    with pytest.raises(MalformedError, match="at most 100 bytes"):
        parse_pe(PLAIN)


@given(st.binary(max_size=64), st.integers(0, len(SIGNED)))
@settings(max_examples=200, deadline=None)
def test_image_with_any_bytes_anywhere_parses_or_is_refused(junk: bytes, place: int) -> None:
    image = SIGNED[:place] + junk + SIGNED[place + len(junk) :]
    try:
        assert len(parse_pe(image).authenticode()) == 48
    except MalformedError:
        return


def test_sections_of_a_uki_are_measured_in_the_order_of_the_stub() -> None:
    uki = parse_uki(builders.uki())
    assert uki.stub == "systemd-stub 257.13"
    assert [name for name, _ in uki.measured] == [
        ".linux",
        ".osrel",
        ".cmdline",
        ".initrd",
        ".uname",
        ".sbat",
    ]
    assert dict(uki.measured)[".uname"] == b"6.12"


def test_section_is_measured_as_it_lies_in_memory() -> None:
    uki = parse_uki(builders.uki(memory={".uname": 8, ".sbat": 4}))
    assert dict(uki.measured)[".uname"] == b"6.12\0\0\0\0"
    assert dict(uki.measured)[".sbat"] == b"sbat"


def test_command_line_is_stripped_and_blanks_become_spaces() -> None:
    assert parse_uki(builders.uki()).command_line == "root=/dev/x quiet"


def test_image_without_command_line_initrd_and_stub_says_so() -> None:
    uki = parse_uki(builders.uki([(".linux", KERNEL)]))
    assert (uki.command_line, uki.initrd, uki.stub) == ("", b"", None)


def test_stub_that_calls_itself_something_else_is_unknown() -> None:
    assert parse_uki(builders.uki([(".linux", KERNEL), (".sdmagic", b"other")])).stub is None


def test_name_of_the_stub_is_looked_for_in_the_file_only() -> None:
    image = bytearray(builders.uki())
    struct.pack_into("<I", image, image.index(b".sdmagic") + 8, 1 << 28)
    tracemalloc.start()
    try:
        assert parse_uki(bytes(image)).stub == "systemd-stub 257.13"
        assert tracemalloc.get_traced_memory()[1] < 1 << 24
    finally:
        tracemalloc.stop()


def test_lone_initrd_is_passed_on_as_it_is() -> None:
    uki = parse_uki(builders.uki([(".linux", KERNEL), (".initrd", b"12345")]))
    assert uki.initrd == b"12345"


def test_initrd_is_microcode_initrd_and_the_stubs_own_archives() -> None:
    extra = [(".pcrsig", b"{}"), (".ucode", b"micro"), (".pcrpkey", b"key")]
    found = parse_uki(builders.uki([*SECTIONS, *extra])).initrd
    files = [
        ("tpm2-pcr-signature.json", b"{}"),
        ("tpm2-pcr-public-key.pem", b"key"),
        ("os-release", b"ID=debian\n"),
    ]
    expected = b"micro\0\0\0" + b"070701 an initrd"
    for name, content in files:
        expected += independent.newc(
            [(".extra", 0o40555, b""), (f".extra/{name}", 0o100444, content)]
        )
    assert found == expected


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        ([(".text", b"x")], "a section .linux"),
        ([(".linux", KERNEL), (".linux", KERNEL)], "one section .linux"),
        ([(".linux", KERNEL), (".pcrsig", b"1"), (".pcrsig", b"2")], "one section .pcrsig"),
        ([(".linux", KERNEL), (".profile", b"ID=x")], "an image of one profile"),
        ([(".linux", KERNEL), (".cmdline", b"caf\xc3\xa9")], "a command line in ASCII"),
        ([(".linux", b"no image")], "section .linux does not parse"),
    ],
)
def test_uki_that_cannot_be_predicted_is_refused(
    sections: list[tuple[str, bytes]], expected: str
) -> None:
    with pytest.raises(MalformedError) as caught:
        parse_uki(builders.uki(sections))
    assert expected in str(caught.value)


def test_section_that_is_not_all_in_the_file_is_refused() -> None:
    with pytest.raises(MalformedError, match=r"section \.initrd that is all in the file"):
        parse_uki(builders.uki(memory={".initrd": 1 << 29}))


@pytest.mark.parametrize("text", ["caf\xe9", "a\0b"])
def test_command_line_that_firmware_converts_in_its_own_way_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="command line"):
        require_command_line(text)
    assert require_command_line("quiet") == "quiet"


@pytest.mark.parametrize("used", [(), (0,), (0, 1, 5), tuple(range(128))])
def test_partition_table_event_is_that_of_a_second_computation(used: tuple[int, ...]) -> None:
    disk = builders.gpt(used=used)
    assert gpt_event(disk) == independent.gpt_event(disk)


@pytest.mark.parametrize(
    ("disk", "expected"),
    [
        (b"", "bytes at offset"),
        (bytes(4096), "a GPT header"),
        (builders.gpt(signature=b"EFI PARX"), "a GPT header"),
        (builders.gpt(own=2), "a GPT header"),
        (builders.gpt(length=96), "a GPT header"),
        (builders.gpt(header_crc=1), "a GPT header whose checksum"),
        (builders.gpt(table_crc=1), "a partition table whose checksum"),
        (builders.gpt(size=256), "entries of 128 bytes"),
        (builders.gpt(count=0), "entries of 128 bytes"),
        (builders.gpt(count=1025), "entries of 128 bytes"),
        (builders.gpt()[:4096], "bytes at offset"),
    ],
)
def test_partition_table_that_does_not_hold_is_refused(disk: bytes, expected: str) -> None:
    with pytest.raises(MalformedError, match="partition table does not parse") as caught:
        gpt_event(disk)
    assert expected in str(caught.value)


def second_patch(kernel: bytes, initrd: int, memory: int) -> bytes:
    """QEMU's changes, written down once more."""
    header = {0x210: b"\xb0", 0x211: bytes([kernel[0x211] | 128]), 0x224: b"\x00\xfe"}
    header[0x228] = bytes.fromhex("00000200")
    if initrd:
        below = 2 << 30 if memory >= 0xB0000000 else memory
        kernels = int.from_bytes(kernel[0x22C:0x230], "little")
        top = 2**32 - 1 if kernel[0x236] & 2 else kernels
        if top >= below - 0x28000:
            top = below - 0x28000 - 1
        header[0x218] = ((top - initrd) // 4096 * 4096).to_bytes(4, "little")
        header[0x21C] = initrd.to_bytes(4, "little")
    for place, data in header.items():
        kernel = kernel[:place] + data + kernel[place + len(data) :]
    return kernel


@pytest.mark.parametrize("initrd", [0, 1, 5000, 60 << 20])
@pytest.mark.parametrize("memory", [512 << 20, 2 << 30, 64 << 30])
@pytest.mark.parametrize("flags", [0, 2])
def test_kernel_is_changed_as_qemu_does(initrd: int, memory: int, flags: int) -> None:
    kernel = builders.bzimage(flags=flags, limit=0x1FFFFFFF)
    assert patch_kernel(kernel, initrd, memory) == second_patch(kernel, initrd, memory)


@pytest.mark.parametrize(
    ("kernel", "initrd", "expected"),
    [
        (b"short", 0, "bytes at offset"),
        (PLAIN, 0, "a bzImage of boot protocol"),
        (builders.bzimage(protocol=0x20B), 0, "a bzImage of boot protocol"),
        (builders.bzimage(), 1 << 31, "fits into low memory"),
    ],
)
def test_kernel_that_qemu_would_not_load_so_is_refused(
    kernel: bytes, initrd: int, expected: str
) -> None:
    with pytest.raises(MalformedError, match="the kernel does not parse") as caught:
        patch_kernel(kernel, initrd, 2 << 30)
    assert expected in str(caught.value)


def test_digest_may_be_of_another_algorithm() -> None:
    assert len(parse_pe(PLAIN).authenticode("sha256")) == hashlib.sha256().digest_size
