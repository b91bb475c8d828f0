"""`attested log export`: a boot's static log made afresh from its segments, which it only reads."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from attestation.cli.files import print_json, print_text
from gateway.notary.files import FileLayer
from gateway.notary.log.folder import BOOT_FILE
from gateway.notary.log.rebuild import rebuild_log

if TYPE_CHECKING:
    import argparse

HELP = "write a boot's log as static files, from its segments alone"
DESCRIPTION = """\
Reads the segments of a boot folder, checks every record and every signed root on the way, and
writes checkpoint, tiles and entry bundles into the new folder OUT.  For a log folder that was
lost or lags behind after a crash: the boot folder itself is never modified.
"""
EPILOG = """\
exit codes:
  0   OUT shows the log up to its last signed checkpoint
  10  the segments are not what was written      14  they, or OUT, cannot be read or written
  2   usage; OUT exists

examples:
  attested log export data/0123456789abcdef /tmp/log && attested log verify /tmp/log \\
      --bundle data/0123456789abcdef/boot.json
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("boot", metavar="BOOT_FOLDER", type=Path, help="folder of one boot")
    parser.add_argument("out", metavar="OUT", type=Path, help="folder to make")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def run(args: argparse.Namespace) -> int:
    """Write the log and say which checkpoint it shows."""
    checkpoint = rebuild_log(FileLayer(), args.boot, args.out).checkpoint
    if args.json:
        print_json(
            {
                "exit_code": 0,
                "origin": checkpoint.origin,
                "out": str(args.out),
                "root": checkpoint.root.hex(),
                "size": checkpoint.size,
            }
        )
    else:
        print_text(f"{args.out}: {checkpoint.origin}, {checkpoint.size} entries\n")
        evidence = shlex.quote(str(args.boot / BOOT_FILE))
        print(
            f"next: attested log verify {shlex.quote(str(args.out))} --bundle {evidence}",
            file=sys.stderr,
        )
    return 0
