"""Make a pack out of a staged folder: mkfs.erofs, then the hash tree, then the table."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from attestation.encoding.digest import Digest
from attestation.errors import MalformedError, UnavailableError
from attestation.release.gpt import PackLayout
from attestation.release.packs import PackDescription, PackKind, Seeds, seeds_of
from attestation.release.verity import BLOCK_BYTES, Superblock, hash_level, root_over
from enclave_image.packs.stage import place_lock, settle, unsettle

if TYPE_CHECKING:
    from collections.abc import Callable

# 2026-11-01T00:00:00Z, as the image itself.
PACK_TIME = 1793491200
# With it, mkfs.erofs writes larger inodes, hence another root hash.
_EPOCH = "SOURCE_DATE_EPOCH"
# Many blocks a read; a multiple of the block size.
_READ_BYTES = 1024 * BLOCK_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What a pack is to hold: its kind, a name for people, and the lock that says what is in it."""

    kind: PackKind
    name: str
    lock: bytes


def build_pack(
    fill: Callable[[Path], Contents], output: Path, *, mkfs: str = "mkfs.erofs"
) -> PackDescription:
    """Build the pack whose files `fill` puts into a folder; return what is told about it.

    1. the files are staged beside `output`, with fixed modes and times
    2. mkfs.erofs writes the file system: fixed UUID and time, no extended attributes
    3. the hash tree is computed over it, its salt and UUID out of the lock
    4. the partition table is put around both, its GUIDs out of the root hash

    `output` must not exist.  Raises `UnavailableError` if mkfs.erofs is missing or fails, and
    whatever `fill` raises; what was begun is removed then.
    """
    mkfs = place_of(mkfs)
    tool = tool_version(mkfs)
    with _workshop(output) as (staged, erofs, begun):
        contents = fill(staged)
        place_lock(staged, contents.kind.lock_path, contents.lock)
        settle(staged, time=PACK_TIME)
        lock = Digest.of(contents.lock)
        seeds = seeds_of(contents.kind, lock)
        _run_mkfs(mkfs, seeds, erofs, staged)
        layout = _assemble(erofs, begun, seeds)
        with begun.open("rb") as file:
            digest = Digest(hashlib.file_digest(file, "sha256").digest())
        # A link fails where the name is taken: nothing is replaced.
        output.hardlink_to(begun)
    return PackDescription(
        kind=contents.kind,
        name=contents.name,
        root=Digest(layout.root),
        lock=lock,
        digest_of_file=digest,
        size=layout.size,
        tool=tool,
    )


def place_of(mkfs: str) -> str:
    """Return the path of mkfs.erofs; raises `UnavailableError` where it is not there."""
    found = shutil.which(mkfs)
    if found is None:
        raise UnavailableError(
            f"{mkfs!a} is not there",
            code="mkfs_erofs",
            expected="mkfs.erofs on PATH, or its place with --mkfs",
            hint="Debian and Ubuntu: apt install erofs-utils",
        )
    return found


def tool_version(mkfs: str) -> str:
    """Return how the mkfs.erofs at a path names itself, e.g. "mkfs.erofs 1.8.6"."""
    # Older versions have no option for it and print their name before they complain.
    done = subprocess.run(
        [mkfs, "-V"], capture_output=True, text=True, check=False, env=_environment()
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("mkfs.erofs")]
    version = lines[0].split()[-1] if lines else ""
    return f"mkfs.erofs {version.strip('()') or 'of an unknown version'}"


def data_blocks_of(file: IO[bytes], count: int) -> Iterator[bytes]:
    """Yield `count` blocks from where the file stands; fewer if it ends before."""
    while count:
        chunk = file.read(min(_READ_BYTES, count * BLOCK_BYTES))
        if not chunk:
            return
        for place in range(0, len(chunk), BLOCK_BYTES):
            yield chunk[place : place + BLOCK_BYTES]
        count -= -(-len(chunk) // BLOCK_BYTES)


@contextmanager
def _workshop(output: Path) -> Iterator[tuple[Path, Path, Path]]:
    """Yield an empty folder to stage in, and the names of two files, on the output's disk."""
    with tempfile.TemporaryDirectory(prefix=".pack-", dir=output.parent) as name:
        staged = Path(name) / "staged"
        staged.mkdir()
        try:
            yield staged, Path(name) / "erofs", Path(name) / "pack"
        finally:
            unsettle(staged)


def _environment() -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name != _EPOCH}
    return {**inherited, "LC_ALL": "C"}


def _run_mkfs(mkfs: str, seeds: Seeds, image: Path, staged: Path) -> None:
    arguments = [
        mkfs,
        "--quiet",
        "--all-root",
        "-x-1",
        f"-T{PACK_TIME}",
        f"-U{seeds.erofs_uuid}",
        str(image),
        str(staged),
    ]
    done = subprocess.run(
        arguments, capture_output=True, text=True, check=False, env=_environment()
    )
    if done.returncode:
        raise UnavailableError(
            "mkfs.erofs failed",
            code="mkfs_erofs",
            observed=f"exit {done.returncode}: {done.stderr.strip()[-200:]!a}",
        )


def _assemble(erofs: Path, pack: Path, seeds: Seeds) -> PackLayout:
    size = erofs.stat().st_size
    if size % BLOCK_BYTES or not size:
        raise MalformedError(
            "mkfs.erofs wrote a file of an odd size",
            code="mkfs_erofs",
            expected=f"a multiple of {BLOCK_BYTES} bytes",
            observed=f"{size}",
        )
    superblock = Superblock(
        uuid=seeds.verity_uuid, data_blocks=size // BLOCK_BYTES, salt=seeds.salt
    )
    # Neither place depends on the root hash, which is known only at the end.
    places = PackLayout(root=bytes(32), data_bytes=size, verity_bytes=superblock.size)
    with pack.open("xb+") as file, erofs.open("rb") as data:
        file.seek(places.data_start)
        shutil.copyfileobj(data, file, _READ_BYTES)
        file.seek(places.verity_start)
        file.write(superblock.encode())
        root = _write_tree(file, superblock, places)
        layout = PackLayout(root=root, data_bytes=size, verity_bytes=superblock.size)
        tail = layout.tail()
        file.seek(layout.size - len(tail))
        file.write(tail)
        file.seek(0)
        file.write(layout.head())
    return layout


def _write_tree(file: IO[bytes], superblock: Superblock, places: PackLayout) -> bytes:
    """Write the levels to their places, the one over the data first; return the root hash."""
    below, count = places.data_start, superblock.data_blocks
    end = places.verity_start + superblock.size
    for blocks in superblock.levels:
        start = end - blocks * BLOCK_BYTES
        _write_level(file, below, count, start, superblock.salt)
        below, count, end = start, blocks, start
    file.seek(below)
    return root_over(file.read(BLOCK_BYTES), superblock.salt)


def _write_level(file: IO[bytes], below: int, count: int, start: int, salt: bytes) -> None:
    # One open file for reading and writing: the blocks are read far from where they go.
    written = start
    for chunk in _chunks(count):
        file.seek(below)
        level = b"".join(hash_level(data_blocks_of(file, chunk), salt))
        below += chunk * BLOCK_BYTES
        file.seek(written)
        file.write(level)
        written += len(level)


def _chunks(count: int) -> Iterator[int]:
    """Yield how many blocks to read at once: as many as fill whole blocks of hashes."""
    whole = 128 * 128
    while count:
        yield min(whole, count)
        count -= min(whole, count)
