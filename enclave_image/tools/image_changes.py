"""What a host may do to a copy of the image's disk and to the firmware's variables."""

from __future__ import annotations

import json
import struct
import subprocess
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from image_files import ImageError, host

_SECTOR = 512
_ESP, _ROOT = "esp", "root-x86-64"
# Text of a file that nobody reads before the units of the gateway do (gateway.toml).
_SETTINGS = b"# Settings of the "
_EROFS_SUPERBLOCK = 1024

_GLOBAL = uuid.UUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")
_STORE = struct.Struct("<16sIBBHI")
_VARIABLE = struct.Struct("<HBBIQ16sIII16s")
_ADDED = 0x3F
_NON_VOLATILE_BOOT_RUNTIME = 7
_OPTION = 0x0099
_ACTIVE = 1

Change = Callable[[Path, Path], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """Where a partition lies, in bytes; its number, from 1; its UUID."""

    number: int
    offset: int
    size: int
    uuid: uuid.UUID


def partitions(disk: Path) -> dict[str, Partition]:
    """The partitions of a disk, by name."""
    done = subprocess.run(
        host("sfdisk", "--json", disk), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ImageError(f"{disk.name}: {done.stderr.strip()}")
    return {
        one["name"]: Partition(
            number=number,
            offset=one["start"] * _SECTOR,
            size=one["size"] * _SECTOR,
            uuid=uuid.UUID(one["uuid"]),
        )
        for number, one in enumerate(json.loads(done.stdout)["partitiontable"]["partitions"], 1)
    }


def put_on_esp(files: Mapping[str, bytes]) -> Change:
    """A change that puts files on the EFI system partition, where the UKI is."""

    def change(disk: Path, folder: Path) -> None:
        image = f"{disk}@@{partitions(disk)[_ESP].offset}"
        for name, data in files.items():
            source = folder / "injected"
            source.write_bytes(data)
            parts = name.split("/")
            for depth in range(1, len(parts)):
                # There already, or made now; what could not be made shows in the copy.
                _mtool("mmd", "-i", image, "-D", "s", "::/" + "/".join(parts[:depth]))
            done = _mtool("mcopy", "-o", "-i", image, source, f"::/{name}")
            if done.returncode:
                raise ImageError(f"mcopy: {done.stderr.decode(errors='replace')}")

    return change


def _mtool(*command: str | Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        host(*command), capture_output=True, stdin=subprocess.DEVNULL, check=False
    )


def spoil_superblock(disk: Path, _: Path) -> None:
    """Change one bit of the root file system that every boot reads."""
    _flip(disk, partitions(disk)[_ROOT].offset + _EROFS_SUPERBLOCK + 64)


def spoil_settings(disk: Path, _: Path) -> None:
    """Change one bit of the root file system that nobody reads before the gateway's units."""
    root = partitions(disk)[_ROOT]
    with disk.open("rb") as file:
        file.seek(root.offset)
        at = file.read(root.size).find(_SETTINGS)
    if at < 0:
        raise ImageError("expected the settings in the root file system, seen none")
    _flip(disk, root.offset + at)


def _flip(disk: Path, at: int) -> None:
    with disk.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))


def add_boot_option(store: bytes, *, esp: Partition, file: str, arguments: str) -> bytes:
    """A store of variables with Boot0099, which starts `file` with `arguments`, and BootNext.

    `store` is the flash of a firmware that has not run yet: what follows its last variable is
    erased. UEFI 2.10, sections 3.1.3 (load options), 10.3.5 (hard drive and file path nodes).
    """
    drive = struct.pack(
        "<BBHIQQ16sBB",
        *(4, 1, 42, esp.number, esp.offset // _SECTOR, esp.size // _SECTOR),
        *(esp.uuid.bytes_le, 2, 2),
    )
    name = file.replace("/", "\\").encode("utf-16-le") + b"\0\0"
    path = drive + struct.pack("<BBH", 4, 4, 4 + len(name)) + name + b"\x7f\xff\x04\x00"
    title = "injected\0".encode("utf-16-le")
    option = struct.pack("<IH", _ACTIVE, len(path)) + title + path
    option += f"{arguments}\0".encode("utf-16-le")
    store = _add_variable(store, f"Boot{_OPTION:04X}", option)
    return _add_variable(store, "BootNext", struct.pack("<H", _OPTION))


def _add_variable(flash: bytes, name: str, data: bytes) -> bytes:
    (header,) = struct.unpack_from("<H", flash, 48)
    _, size, *_ = _STORE.unpack_from(flash, header)
    at = header + _STORE.size
    while flash[at : at + 2] == b"\xaa\x55":
        *_, name_size, data_size, _ = _VARIABLE.unpack_from(flash, at)
        at += _VARIABLE.size + name_size + data_size
        at += -at % 4
    wide = f"{name}\0".encode("utf-16-le")
    head = _VARIABLE.pack(
        *(0x55AA, _ADDED, 0, _NON_VOLATILE_BOOT_RUNTIME, 0, bytes(16), 0),
        *(len(wide), len(data), _GLOBAL.bytes_le),
    )
    one = head + wide + data
    if at + len(one) > header + size or flash[at : at + len(one)].strip(b"\xff"):
        raise ImageError(f"expected room for {name} in the variables, seen none")
    return flash[:at] + one + flash[at + len(one) :]
