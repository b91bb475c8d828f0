"""`attested conformance TOPIC DIR`: run product code over a directory of test vectors."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from attestation.conformance.runner import CASE_SECONDS, run_topic
from attestation.conformance.topics import TOPICS

if TYPE_CHECKING:
    from collections.abc import Mapping

HELP = "run product code over a directory of test vectors, one JSON line a case"

_DESCRIPTION = """\
Runs every case of DIR through the parsers and verifiers of this program.  One JSON line a case
{"case","expected","got","ok"}, then a summary line.  Reads only what DIR/manifest.json lists,
after checking its SHA-256; each case runs apart, so a crash or a hang costs only that case.
"""
_EPILOG = """\
exit codes:
  0   every case is ok
  10  some case is not
  2   no such topic or directory
  13  the directory is not what its manifest says, or holds no case

examples:
  attested conformance json vectors/json
  attested conformance tdx vectors/tdx | jq -c 'select(.ok == false)'
"""


def configure(parser: argparse.ArgumentParser, topics: Mapping[str, str] = TOPICS) -> None:
    """Declare the arguments; `topics` is the table that TOPIC names an entry of."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("topic", metavar="TOPIC", help=", ".join(sorted(topics)))
    parser.add_argument("directory", metavar="DIR", type=Path, help="where manifest.json is")
    parser.add_argument(
        "--case-seconds",
        metavar="S",
        type=float,
        default=CASE_SECONDS,
        help="longest time for one case (default: %(default)g)",
    )
    parser.add_argument("--json", action="store_true", help="accepted; the output is always JSON")
    parser.set_defaults(topics=topics)


def run(args: argparse.Namespace) -> int:
    """Run the topic, print its lines, return the exit code; refusals are raised."""
    return run_topic(
        args.topic,
        args.directory,
        topics=args.topics,
        write_line=lambda line: print(line, flush=True),
        case_seconds=args.case_seconds,
    )
