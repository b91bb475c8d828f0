"""dm-verity hash trees as `veritysetup format` writes them: superblock v1, SHA-256, 4096 bytes.

Every block of data is hashed behind a salt; hashes are packed into blocks, filled with zeroes,
and hashed again until one block is left, whose hash is the root.  On the disk the superblock
comes first, then the levels, the one below the root first.  Source: cryptsetup's
docs/on-disk-format (dm-verity), Linux Documentation/admin-guide/device-mapper/verity.rst.
"""

from __future__ import annotations

import hashlib
import struct
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from attestation.errors import EvidenceError, MalformedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

BLOCK_BYTES: Final = 4096
HASH_BYTES: Final = 32
MAX_SALT_BYTES: Final = 256
_HASHES: Final = BLOCK_BYTES // HASH_BYTES
_MAGIC: Final = b"verity\0\0"
_ALGORITHM: Final = b"sha256"
_VERSION: Final = 1
# Salt in front of the data, hashes padded to a power of two: every format but Chrome OS's.
_HASH_TYPE: Final = 1
_HEAD: Final = struct.Struct("<8sII16s32sIIQH6x256s168x")
# What a kernel can map without a sector number that overflows.
_MAX_BLOCKS: Final = 1 << 51


@dataclass(frozen=True, slots=True, kw_only=True)
class Superblock:
    """How a hash tree is laid out: how many blocks of 4096 bytes it covers, salt, and UUID.

    The root hash covers the salt and the data, and not the UUID.
    """

    uuid: uuid.UUID
    data_blocks: int
    salt: bytes

    def __post_init__(self) -> None:
        if not 1 <= self.data_blocks < _MAX_BLOCKS:
            raise _malformed(f"1 to {_MAX_BLOCKS - 1} blocks of data", f"{self.data_blocks}")
        if len(self.salt) > MAX_SALT_BYTES:
            raise _malformed(f"a salt of at most {MAX_SALT_BYTES} bytes", f"{len(self.salt)}")

    @property
    def levels(self) -> tuple[int, ...]:
        """How many blocks each level has, the one over the data first; none over one block."""
        found: list[int] = []
        count = self.data_blocks
        while count > 1:
            count = -(-count // _HASHES)
            found.append(count)
        return tuple(found)

    @property
    def size(self) -> int:
        """How many bytes superblock and tree take."""
        return BLOCK_BYTES * (1 + sum(self.levels))

    def encode(self) -> bytes:
        """Return the superblock, filled to one block."""
        head = _HEAD.pack(
            _MAGIC,
            _VERSION,
            _HASH_TYPE,
            self.uuid.bytes,
            _ALGORITHM,
            BLOCK_BYTES,
            BLOCK_BYTES,
            self.data_blocks,
            len(self.salt),
            self.salt,
        )
        return head.ljust(BLOCK_BYTES, b"\0")


def parse_superblock(block: bytes) -> Superblock:
    """Return what a superblock of 4096 bytes says; it has the one form that `encode` gives it.

    Raises `MalformedError` for another version, hash, block size, or anything between the fields.
    """
    if len(block) != BLOCK_BYTES:
        raise _malformed(f"a block of {BLOCK_BYTES} bytes", f"{len(block)} bytes")
    fields = _HEAD.unpack_from(block)
    found = Superblock(
        uuid=uuid.UUID(bytes=fields[3]), data_blocks=fields[7], salt=fields[9][: fields[8]]
    )
    if found.encode() != block:
        raise _malformed("version 1, type 1, SHA-256, 4096-byte blocks, zeroes elsewhere", "others")
    return found


def hash_level(blocks: Iterable[bytes], salt: bytes) -> Iterator[bytes]:
    """Yield the blocks of the level above `blocks`, which have 4096 bytes each."""
    # Copying a hash that has the salt in it already is cheaper than feeding the salt again.
    salted = hashlib.sha256(salt)
    packed = bytearray()
    for block in blocks:
        one = salted.copy()
        one.update(block)
        packed += one.digest()
        if len(packed) == BLOCK_BYTES:
            yield bytes(packed)
            packed.clear()
    if packed:
        yield bytes(packed.ljust(BLOCK_BYTES, b"\0"))


def root_over(top: bytes, salt: bytes) -> bytes:
    """Return the root hash: that of the one block on top."""
    return hashlib.sha256(salt + top).digest()


def split_blocks(data: bytes) -> Iterator[bytes]:
    """Yield the blocks of `data`; raises `MalformedError` unless they are whole."""
    if len(data) % BLOCK_BYTES:
        raise _malformed(f"a multiple of {BLOCK_BYTES} bytes", f"{len(data)} bytes")
    for place in range(0, len(data), BLOCK_BYTES):
        yield data[place : place + BLOCK_BYTES]


def verify_tree(superblock: Superblock, data: Iterable[bytes], tree: bytes, root: bytes) -> None:
    """Check that data and hash tree are those of `root`, block by block.

    1. the tree has the size that the superblock asks for
    2. from the data upwards, each level is the hashes of the one below it; the first block that
       differs is named
    3. the hash of the block on top is `root`

    `data` are the blocks of the data, `tree` is what follows the superblock.  Raises
    `EvidenceError` (code "verity"), `MalformedError` for another number or size of blocks.
    """
    levels = superblock.levels
    if len(tree) != superblock.size - BLOCK_BYTES:
        raise _malformed(f"a tree of {superblock.size - BLOCK_BYTES} bytes", f"{len(tree)} bytes")
    below: Iterable[bytes] = _counted(data, superblock.data_blocks)
    end = len(tree)
    for number, count in enumerate(levels):
        start = end - count * BLOCK_BYTES
        stored = tree[start:end]
        for index, block in enumerate(hash_level(below, superblock.salt)):
            found = stored[index * BLOCK_BYTES : (index + 1) * BLOCK_BYTES]
            if found != block:
                raise _differs(number, index, found, block)
        below, end = split_blocks(stored), start
    (top,) = below
    if root_over(top, superblock.salt) != root:
        raise EvidenceError(
            "the root hash is another one",
            code="verity",
            expected=root.hex(),
            observed=root_over(top, superblock.salt).hex(),
            hint="this is another pack, or somebody changed data and tree together",
        )


def root_of(superblock: Superblock, data: Iterable[bytes]) -> tuple[bytes, bytes]:
    """Return the root hash over blocks of data, and the tree as it follows the superblock.

    The tree is held in memory, 1/128 of the data; raises `MalformedError` as `verify_tree` does.
    """
    below: Iterable[bytes] = _counted(data, superblock.data_blocks)
    tree = b""
    for _count in superblock.levels:
        level = b"".join(hash_level(below, superblock.salt))
        tree = level + tree
        below = split_blocks(level)
    (top,) = below
    return root_over(top, superblock.salt), tree


def _counted(blocks: Iterable[bytes], count: int) -> Iterator[bytes]:
    left = count
    for block in blocks:
        if not left or len(block) != BLOCK_BYTES:
            raise _malformed(f"{count} blocks of {BLOCK_BYTES} bytes", "more, or another size")
        left -= 1
        yield block
    if left:
        raise _malformed(f"{count} blocks of {BLOCK_BYTES} bytes", f"{left} fewer")


def _differs(level: int, index: int, found: bytes, block: bytes) -> EvidenceError:
    at = next(place for place in range(BLOCK_BYTES) if found[place] != block[place])
    child = index * _HASHES + at // HASH_BYTES
    what = "the data" if level == 0 else f"level {level - 1} of the tree"
    return EvidenceError(
        f"block {child} of {what} is not the one that the tree was made over",
        code="verity",
        expected="every block to have the hash that stands above it",
        hint="a guest panics when it reads this block; fetch the pack again",
    )


def _malformed(expected: str, observed: str) -> MalformedError:
    return MalformedError(
        "the hash tree is malformed", code="verity", expected=expected, observed=observed
    )
