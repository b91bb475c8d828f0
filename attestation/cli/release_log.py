"""`attested release log`: is the log of releases whole, and did it only grow?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from attestation.cli.files import list_folder, load_bytes, print_json, print_text, require_regular
from attestation.cli.release_verify import facts_of
from attestation.encoding.counts import counted
from attestation.encoding.printable import printable
from attestation.errors import EvidenceError
from attestation.merkle.note import parse_vkey
from attestation.release.dsse import MAX_ENVELOPE_BYTES
from attestation.release.history import ENTRY_SUFFIX, entry_name, read_checkpoint, verify_log

if TYPE_CHECKING:
    import argparse

HELP = "check the append-only log of releases"
CHECKPOINT = "checkpoint"

_EPILOG = """\
DIR holds 00000000.dsse.json and so on, without a gap, and `checkpoint`, which the release key
signed.  Keep a copy of the checkpoint: with --before, what it covered has to be there, unchanged.

Without it, this folder agrees with its own checkpoint; what stood there before is not known.

exit codes: 0 every release is signed, and the log only grew since the checkpoint of --before; 10 it
is not so; 13 a file is malformed; 2 usage

examples:
  attested release log enclave_image/measurements --signer VKEY --before kept-checkpoint
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.epilog = _EPILOG
    add = parser.add_argument
    add("folder", metavar="DIR", help="folder of the log")
    add("--signer", metavar="VKEY", action="append", required=True, help="the log's release keys")
    add("--before", metavar="FILE", help="checkpoint that you kept")
    add("--json", action="store_true", help="one JSON document on stdout")


def run(args: argparse.Namespace) -> int:
    """Verify the log, list its releases."""
    vkeys = [parse_vkey(text) for text in args.signer]
    entries = load_entries(args.folder)
    checkpoint = read_checkpoint(load_bytes(str(Path(args.folder) / CHECKPOINT)), vkeys)
    before = None if args.before is None else read_checkpoint(load_bytes(args.before), vkeys)
    log = verify_log(entries, checkpoint, vkeys, before=before)
    if args.json:
        print_json(
            {
                "origin": checkpoint.origin,
                "size": checkpoint.size,
                "root": checkpoint.root.hex(),
                "releases": [facts_of(release) for release in log.releases],
            }
        )
        return 0
    lines = [f"{checkpoint.origin}: {counted(checkpoint.size, 'release')}"]
    lines += [f"  {one.version} ({one.profile})" for one in log.releases]
    lines.append(
        "  with --before, a checkpoint you kept, you would see whether it only grew"
        if before is None
        else f"  the first {before.size} as you knew them"
    )
    print_text("".join(f"{printable(line)}\n" for line in lines))
    return 0


def load_entries(folder: str) -> list[bytes]:
    """Return the entries of a log, in order; a gap among their names raises `EvidenceError`."""
    places = [one for one in list_folder(folder) if one.name.endswith(ENTRY_SUFFIX)]
    for index, place in enumerate(places):
        if place.name != entry_name(index):
            raise EvidenceError(
                "an entry of the log is not there",
                code="release_log",
                expected=entry_name(index),
                observed=ascii(place.name)[:80],
            )
        require_regular(place)
    return [load_bytes(str(place), limit=MAX_ENVELOPE_BYTES) for place in places]
