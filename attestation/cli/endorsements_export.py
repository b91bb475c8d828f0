"""`attested endorsements export`: one set out of a store, as one file to carry."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from attestation.cli.endorsement_files import load_store, require_some
from attestation.cli.files import INSTANT, STDIN, parse_instant, require_absent, save_whole
from attestation.encoding.instants import instant
from attestation.errors import UsageError
from attestation.tdx.collateral import encode_dcap_collateral
from attestation.tdx.endorsements import in_order

if TYPE_CHECKING:
    import argparse

    from attestation.tdx.endorsements import Endorsements

HELP = "write the newest set as one file"
_EPILOG = """\
One JSON file, as `attested verify --endorsements`, `attested quote --collateral` and the setting
evidence.collateral_file take it: this is how endorsements reach a machine without a network.
Of several sets the one in date at --at (now) counts, then the greatest evaluation number, then
the newest.  A file that is there is left alone, unless --force replaces it: whole, as others may
read it meanwhile.

examples:
  attested endorsements export --store endorsements/ -o endorsements.json
  attested endorsements export --store endorsements/ --fmspc 90c06f000000 --ca platform
  attested endorsements export --store endorsements/ --digest 5b1f0c2d9a77
  attested endorsements export --store endorsements/ -o endorsements.json --force
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.epilog = _EPILOG
    add = parser.add_argument
    add("--store", metavar="DIR", required=True, help="folder that fetch fills")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--fmspc", metavar="HEX", help="platform family: 12 hex digits")
    which.add_argument("--digest", metavar="D", help="one set: at least 8 digits of its digest")
    add("--ca", choices=("platform", "processor"), help="whose list of revoked certificates")
    add("--at", metavar="T", help="instant to be in date at: " + INSTANT)
    add("-o", "--output", metavar="OUT", default=STDIN, help="where to write (stdout)")
    add("--force", action="store_true", help="with -o: replace the file if there is one")


def run(args: argparse.Namespace) -> int:
    """Write the chosen set, and say on stderr which one that is."""
    at = parse_instant(args.at)
    if not args.force:
        require_absent(args.output)
    sets = require_some(load_store(args.store), args.store)
    chosen = _choose([one for one in sets if _wanted(one, args)], sets, at)
    data = encode_dcap_collateral(chosen.collateral)
    save_whole(args.output, data, replace=args.force)
    whole = chosen.whole
    late = not whole.issued <= at <= whole.until
    print(
        f"{'WARNING: not in date: ' if late else ''}FMSPC {chosen.fmspc}, PCK {chosen.ca} CA, "
        f"evaluation number {chosen.number}, good from {instant(whole.issued)} "
        f"to {instant(whole.until)}",
        file=sys.stderr,
    )
    return 0


def _wanted(one: Endorsements, args: argparse.Namespace) -> bool:
    if args.digest is not None:
        return len(args.digest) >= 8 and one.collateral.digest.hex.startswith(args.digest.lower())
    return args.fmspc in (None, one.fmspc, one.fmspc.upper()) and args.ca in (None, one.ca)


def _choose(wanted: list[Endorsements], sets: list[Endorsements], at: int) -> Endorsements:
    kinds = {(one.fmspc, one.ca) for one in wanted}
    if len(kinds) != 1:
        shown = sorted({f"{one.fmspc} ({one.ca})" for one in (wanted or sets)})
        raise UsageError(
            "the store has no such set"
            if not wanted
            else "the store has sets for several platforms",
            code="endorsements",
            expected="--fmspc, with --ca if need be, or --digest, of one of these",
            observed=", ".join(shown),
        )
    return in_order(wanted, at)[0]
