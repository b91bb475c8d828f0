"""`attested release log`: is the log of releases whole, and did it only grow?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attestation.cli.files import print_json, print_text
from attestation.cli.policy_source import load_signers
from attestation.cli.release_folder import load_log
from attestation.cli.release_verify import SIGNER, facts_of
from attestation.encoding.counts import counted
from attestation.encoding.digest import Digest
from attestation.encoding.printable import printable

if TYPE_CHECKING:
    import argparse

HELP = "check the append-only log of releases"

_EPILOG = """\
DIR holds 00000000.dsse.json and so on, without a gap, and `checkpoint`, which the release key
signed.  Keep a copy of the checkpoint: with --before, what it covered has to be there, unchanged.

Without it, this folder agrees with its own checkpoint; what stood there before is not known.
Printed are the checkpoint's root hash, to compare with what others see, and each entry's SHA-256.
Whether one release is among them: `attested release verify RELEASE --log DIR`.

exit codes: 0 every release is signed, and the log only grew since the checkpoint of --before; 10 it
is not so; 13 a file is malformed; 2 usage, or a folder in which no release stands yet

examples:
  attested release log enclave_image/measurements --signer release.vkey --before kept-checkpoint
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.epilog = _EPILOG
    add = parser.add_argument
    add("folder", metavar="DIR", help="folder of the log")
    add("--signer", metavar="V", action="append", required=True, help=SIGNER)
    add("--before", metavar="FILE", help="checkpoint that you kept")
    add("--json", action="store_true", help="one JSON document on stdout")


def run(args: argparse.Namespace) -> int:
    """Verify the log, list its releases."""
    checked = load_log(args.folder, load_signers(args.signer), args.before)
    checkpoint, before = checked.log.checkpoint, checked.before
    digests = [Digest.of(entry).hex for entry in checked.entries]
    if args.json:
        print_json(
            {
                "origin": checkpoint.origin,
                "size": checkpoint.size,
                "root": checkpoint.root.hex(),
                "releases": [
                    {**facts_of(release), "sha256": digest}
                    for release, digest in zip(checked.log.releases, digests, strict=True)
                ],
            }
        )
        return 0
    lines = [
        f"{checkpoint.origin}: {counted(checkpoint.size, 'release')}, root {checkpoint.root.hex()}"
    ]
    lines += [
        f"  {digest}  {one.version} ({one.profile})"
        for one, digest in zip(checked.log.releases, digests, strict=True)
    ]
    lines.append(
        "  with --before, a checkpoint you kept, you would see whether it only grew"
        if before is None
        else f"  the first {before.size} as you knew them"
    )
    print_text("".join(f"{printable(line)}\n" for line in lines))
    return 0
