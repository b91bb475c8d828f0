"""`attested release pack`: is every block of a pack the one that its root hash stands for?"""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, TYPE_CHECKING

from attestation.cli.files import print_json, print_text, require_file
from attestation.encoding.digest import Digest
from attestation.errors import EvidenceError, IncompleteError, MalformedError, UsageError
from attestation.release.gpt import HEAD_BYTES, PackLayout, parse_head
from attestation.release.verity import BLOCK_BYTES, Superblock, parse_superblock, verify_tree

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

_NOTHING = "compared with nothing: root hash taken from the pack itself; give --root"

HELP = "check a model or engine pack against its root hash"

_EPILOG = """\
Reads all of it: partition table, hash tree, and each block of 4096 bytes.  Needs memory for the
hash tree, 1/128 of the pack.  The root hash to compare with is the one on the command line that
was measured, never one that came with the pack: whoever changes a pack gives it a root hash that
fits.  Without --root the pack is compared with nothing.

exit codes: 0 every block is as the root hash of --root has it; 10 another root hash, or a block
that was changed; 12 whole, but compared with nothing (no --root); 13 no pack; 2 usage

examples:
  attested release pack model.raw --root "$ROOT"
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.epilog = _EPILOG
    add = parser.add_argument
    add("file", metavar="PACK", help="pack, as a file")
    add("--root", metavar="HEX", help="root hash that it must have, 64 hexadecimal digits")
    add("--json", action="store_true", help="one JSON document on stdout")


def run(args: argparse.Namespace) -> int:
    """Read the pack, print its root hash."""
    asked = None if args.root is None else _asked(args.root)
    path = Path(args.file)
    require_file(path)
    try:
        with path.open("rb") as file:
            layout, superblock = _verified(file)
    except OSError as error:
        raise UsageError(
            f"cannot read {args.file!a}", code="file", observed=error.strerror or "an I/O error"
        ) from error
    root = Digest(layout.root)
    if asked is not None and root != asked:
        raise EvidenceError(
            "this pack is whole, and another one",
            code="pack_root",
            expected=asked.hex,
            observed=root.hex,
            hint="fetch the pack again, or take the root hash of the release that you mean",
        )
    code = IncompleteError.exit_code if asked is None else 0
    if args.json:
        print_json(
            {
                "root": root.hex,
                "compared_with": None if asked is None else asked.hex,
                "data_blocks": superblock.data_blocks,
                "size": layout.size,
                "exit_code": code,
                "not_proved": [_NOTHING] if asked is None else [],
            }
        )
    else:
        print_text(_text(root, superblock.data_blocks, asked))
    return code


def _text(root: Digest, blocks: int, asked: Digest | None) -> str:
    if asked is None:
        return f"{root.hex}: {blocks} blocks agree with it\n  {_NOTHING}\n"
    return f"{root.hex}: {blocks} blocks, each as this root hash of --root has it\n"


def _asked(text: str) -> Digest:
    try:
        return Digest.from_hex(text, what="--root")
    except MalformedError as error:
        raise UsageError(
            "--root is no root hash",
            code="root",
            expected="64 hexadecimal digits, lower case, as behind attested.model= or "
            "attested.engine= on the measured command line",
            observed=ascii(text)[:80],
        ) from error


def _verified(file: IO[bytes]) -> tuple[PackLayout, Superblock]:
    """Check all of a pack.

    1. the table in front is that of a pack, the size is the one it asks for
    2. the superblock fits the partitions
    3. every block of the data has its hash in the tree, and the tree leads to the root hash
    4. between and behind the partitions there are zeroes and the second table, nothing else
    """
    layout = parse_head(file.read(HEAD_BYTES))
    size = os.fstat(file.fileno()).st_size
    if size != layout.size:
        raise _no_pack(f"{layout.size} bytes, as its table says", f"{size}")
    file.seek(layout.verity_start)
    superblock = parse_superblock(file.read(BLOCK_BYTES))
    if (superblock.data_blocks * BLOCK_BYTES, superblock.size) != (
        layout.data_bytes,
        layout.verity_bytes,
    ):
        raise _no_pack("a hash tree over the whole file system", "another size")
    tree = file.read(superblock.size - BLOCK_BYTES)
    file.seek(layout.data_start)
    verify_tree(superblock, _blocks(file, superblock.data_blocks), tree, layout.root)
    _require_rest(file, layout)
    return layout, superblock


def _require_rest(file: IO[bytes], layout: PackLayout) -> None:
    gap = layout.verity_start - layout.data_start - layout.data_bytes
    tail = layout.tail()
    rest = layout.size - layout.verity_start - layout.verity_bytes - len(tail)
    file.seek(layout.data_start + layout.data_bytes)
    between = file.read(gap)
    file.seek(layout.verity_start + layout.verity_bytes)
    behind = file.read(rest)
    if any(between) or any(behind) or file.read(len(tail)) != tail:
        raise _no_pack("zeroes and the second table beside the partitions", "other bytes")


def _blocks(file: IO[bytes], count: int) -> Iterator[bytes]:
    for _block in range(count):
        yield file.read(BLOCK_BYTES)


def _no_pack(expected: str, observed: str) -> MalformedError:
    return MalformedError("this is no pack", code="pack", expected=expected, observed=observed)
