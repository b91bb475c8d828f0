"""`attested quote`: what does this raw TDX quote prove?"""

from __future__ import annotations

import argparse
import base64
import binascii
import re
import sys
from typing import TYPE_CHECKING

from attestation.bundle import endorsements_for
from attestation.cli.endorsement_files import load_offered
from attestation.cli.files import (
    INSTANT,
    is_folder,
    load_anchors,
    load_bytes,
    print_json,
    print_text,
    require_one_stdin,
)
from attestation.cli.high_water import HighWaterFile
from attestation.cli.moments import Moments
from attestation.cli.policy_source import add_policy_options, policy_from
from attestation.report import documents, render_text
from attestation.verifier import verify_raw_quote

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attestation.tdx.collateral import Collateral

HELP = "appraise a raw TDX quote against a policy"

_EPILOG = """\
FILE holds the quote as bytes, hexadecimal or base64, padded or not.  Of --collateral a file is
taken as it is, and of a store's folder the set for the quote's platform, one in date before
others.  The checks are those that `attested verify` makes on the quotes of a bundle; exit codes
are the same, and so are --at and --high-water.

examples:
  attested quote quote.bin --collateral collateral.json --policy policy.toml
  attested quote quote.bin --collateral endorsements/ --policy policy.toml
  attested quote quote.hex --collateral c.json --policy policy.toml --at 2025-06-15T12:00:00Z --json
"""

_HEX = re.compile(rb"(?:0x)?((?:[0-9a-fA-F]{2})+)")
_MAX_FILE = 1 << 20


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EPILOG
    add = parser.add_argument
    add("file", metavar="FILE", help='the quote; "-" is stdin')
    add("--collateral", metavar="F", help="endorsements: a file (either JSON), or a store's folder")
    add("--root", metavar="F", action="append", help="root instead of Intel's; may be repeated")
    add("--at", metavar="T", help="instant to judge by: " + INSTANT)
    add_policy_options(add)
    add("--high-water", metavar="F", help="refuse endorsements older than those seen before")
    add("--json", action="store_true", help="one JSON document on stdout")


def run(args: argparse.Namespace) -> int:
    """Appraise the quote, print the report, return the verdict's exit code."""
    own_files = (args.collateral, args.policy, *(args.policy_signer or ()), *(args.root or ()))
    require_one_stdin([args.file, *own_files])
    policy, anchors = policy_from(args), load_anchors(args.root)
    moments = Moments(args.at)
    offered = load_offered([] if args.collateral is None else [args.collateral], anchors)
    raw = decode_quote(load_bytes(args.file, limit=_MAX_FILE))
    choose = _of_store if is_folder(args.collateral or "") else _of_file
    sets = {at: choose(raw, offered.at(at)) for at in moments.each}
    memory = None if args.high_water is None else HighWaterFile(args.high_water)
    high_water = memory.open(policy) if memory else None
    result = moments.judge(
        lambda at: verify_raw_quote(raw, sets[at], policy, at, anchors, high_water=high_water)
    )
    if memory:
        memory.raise_by(result.endorsed)
    if args.json:
        print_json(documents([(args.file, result)]))
    else:
        print_text(render_text(result, name=args.file))
    return result.exit_code


def _of_file(_raw: bytes, sets: Sequence[Collateral]) -> Collateral | None:
    """Return the one set there is, for whichever platform: it was meant."""
    return next(iter(sets), None)


def _of_store(raw: bytes, sets: Sequence[Collateral]) -> Collateral | None:
    found = endorsements_for(raw, sets)
    if found is None:
        print(
            "attested: no set in the folder of --collateral is for this quote's platform; "
            "`attested endorsements status --store` shows what there is",
            file=sys.stderr,
        )
    return found


def decode_quote(data: bytes) -> bytes:
    """Return the bytes of a quote that may be written in hexadecimal or base64.

    What is neither is returned as it is: the quote parser then says what is wrong.
    """
    text = b"".join(data.split())
    if match := _HEX.fullmatch(text):
        return bytes.fromhex(match[1].decode("ascii"))
    try:
        return base64.b64decode(text.translate(bytes.maketrans(b"-_", b"+/")), validate=True)
    except binascii.Error:
        return data
