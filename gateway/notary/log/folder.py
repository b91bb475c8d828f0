"""Names in the data folder, and the small steps that make a name last.

data_dir/
  index.sqlite                      where receipts are; can be rebuilt
  <16 hex digits of the bootseed>/  one folder for each boot
    boot.json, root.pem             its evidence
    segments/000000.seg …           its records: the truth
    log/checkpoint, log/tile/…      its log as static files
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from attestation.errors import UnavailableError

if TYPE_CHECKING:
    from pathlib import Path

    from gateway.notary.files import FileLayer

FOLDER_MODE = 0o700
INDEX_FILE = "index.sqlite"
BOOT_FILE = "boot.json"
ROOT_FILE = "root.pem"
SEGMENTS = "segments"
LOG = "log"
CHECKPOINT = "checkpoint"
MAX_SEGMENTS = 10**6
BOOT_FOLDER = re.compile(r"[0-9a-f]{16}", re.ASCII)
EXPIRED = re.compile(r"\.[0-9a-f]{16}\.expired", re.ASCII)
_SEGMENT_FILE = re.compile(r"([0-9]{6})\.seg", re.ASCII)


def boot_folder_name(bootseed: bytes) -> str:
    """Return the name of a boot's folder: 16 hex digits."""
    return bootseed.hex()[:16]


def segment_name(number: int) -> str:
    """Return the file name of a segment, 0 to 999,999."""
    if not 0 <= number < MAX_SEGMENTS:
        raise UnavailableError(
            "the log of this boot has too many segments",
            code="segments",
            expected=f"fewer than {MAX_SEGMENTS}",
            hint="raise log.segment_bytes",
        )
    return f"{number:06}.seg"


def segment_number(name: str) -> int | None:
    """Return the number in a segment's file name, None for any other name."""
    found = _SEGMENT_FILE.fullmatch(name)
    return int(found[1]) if found else None


def open_data_dir(layer: FileLayer, data_dir: Path) -> int:
    """Make the data folder if it is absent, and lock it for this process; return the lock.

    `layer.close` of the lock gives it up.  Raises `UnavailableError` (code "data_dir") if the
    folder cannot be used, if others can enter it, or if another notary runs over it.
    """
    try:
        if not exists(layer, data_dir):
            layer.make_folder(data_dir)
            layer.sync_folder(data_dir.parent)
        _require_private(layer, data_dir)
        return layer.lock_folder(data_dir)
    except BlockingIOError as error:
        raise UnavailableError(
            f"another notary uses the data folder {data_dir}",
            code="data_dir",
            expected="one notary at a time",
            hint="wait until it has ended, or set another notary.data_dir",
        ) from error
    except OSError as error:
        raise unusable(data_dir, error) from error


def make_folders(layer: FileLayer, base: Path, folder: Path) -> None:
    """Make `folder` and what is missing between it and the existing `base`, names kept."""
    missing: list[Path] = []
    while folder != base and not exists(layer, folder):
        missing.append(folder)
        folder = folder.parent
    for path in reversed(missing):
        layer.make_folder(path)
        layer.sync_folder(path.parent)


def store_file(layer: FileLayer, path: Path, data: bytes) -> None:
    """Write a small file that must not exist yet; its name lasts once its folder is synced."""
    descriptor = layer.create(path)
    try:
        write_all(layer, descriptor, data)
        layer.sync_data(descriptor)
    finally:
        layer.close(descriptor)


def write_all(layer: FileLayer, descriptor: int, data: bytes) -> None:
    """Append all of `data`; a call that takes a part is continued, one that fails is final."""
    rest = memoryview(data)
    while rest:
        taken = layer.write(descriptor, rest)
        if taken <= 0:
            raise OSError("a write took nothing")
        rest = rest[taken:]


def read_file(layer: FileLayer, path: Path, max_bytes: int) -> bytes:
    """Return the content of a file, at most one byte more than `max_bytes` of it."""
    descriptor = layer.open(path)
    try:
        parts: list[bytes] = []
        size = 0
        while size <= max_bytes:
            part = layer.read_at(descriptor, max_bytes + 1 - size, size)
            if not part:
                break
            parts.append(part)
            size += len(part)
        return b"".join(parts)
    finally:
        layer.close(descriptor)


def exists(layer: FileLayer, path: Path) -> bool:
    """Whether there is anything of that name."""
    try:
        layer.state(path)
    except FileNotFoundError:
        return False
    return True


def unusable(path: Path, error: OSError) -> UnavailableError:
    """Return the refusal of a folder or file that cannot be made."""
    return UnavailableError(
        f"{path} cannot be created or used",
        code="data_dir",
        observed=error.strerror or "an I/O error",
        hint="check notary.data_dir: its folder must exist and belong to this user",
    )


def _require_private(layer: FileLayer, folder: Path) -> None:
    state = layer.state(folder)
    if not state.is_folder:
        raise UnavailableError(
            f"the data folder {folder} is no folder",
            code="data_dir",
            expected="a folder of mode 700, or nothing there yet",
            hint="check notary.data_dir",
        )
    if state.mode & ~FOLDER_MODE:
        raise UnavailableError(
            f"others can enter the data folder {folder}",
            code="data_dir",
            expected="mode 700",
            observed=f"mode {state.mode:o}",
            hint=f"chmod 700 {folder}",
        )
