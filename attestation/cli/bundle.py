"""`attested bundle`: several bundles and receipts into one file."""

from __future__ import annotations

import argparse
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from attestation.bundle import (
    extract_receipt,
    make_bundle,
    merge_bundles,
    parse_evidence,
    with_endorsements,
)
from attestation.cli.endorsement_files import load_sets
from attestation.cli.files import (
    STDIN,
    load_parsed,
    parse_instant,
    print_json,
    require_absent,
    require_one_stdin,
    save_bytes,
)
from attestation.errors import MalformedError
from attestation.tdx.anchor import Anchor
from attestation.tdx.quote import parse_quote

if TYPE_CHECKING:
    from attestation.bundle import Bundle

HELP = "merge bundles and receipts into one audit bundle"

_EPILOG = """\
Nothing is verified: a merged bundle proves what its parts prove.  Files that contradict each
other about one boot or one receipt are refused; receipts that contradict each other's place in
the log are kept, because `attested verify` must see them.  A boot's evidence by itself is what
GET /v1/attestation?format=bundle answers.
Receipts come with their openings, so the file is made with mode 0600.  One that exists is not
replaced without --force (exit 2).

examples:
  attested bundle attestation.json receipt-*.json -o bundle.json
  attested bundle bundle.json --endorsements collateral.json -o complete.json
  attested bundle bundle.json --receipt 8c1f6e0a4b2d49f38a7be51c09d2f764 -o receipt.json
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EPILOG
    add = parser.add_argument
    add("files", metavar="FILE", nargs="+", help='bundle, receipt or gateway answer; "-" is stdin')
    add("-o", "--output", metavar="OUT", default=STDIN, help="where to write (stdout)")
    add("--force", action="store_true", help="with -o: replace the file if there is one")
    add("--endorsements", metavar="F", action="append", help="file or store to put in")
    add("--receipt", metavar="ID", help="keep one receipt, its boot and the epoch it needs")
    add("--json", action="store_true", help="with -o: say as JSON what was written")


def run(args: argparse.Namespace) -> int:
    """Merge, write, say what was written."""
    require_one_stdin(args.files)
    if not args.force:
        require_absent(args.output)
    merged = merge_bundles(*(load_parsed(name, parse_evidence) for name in args.files))
    sets = load_sets(args.endorsements or (), parse_instant(None), _roots_named_in(merged))
    bundle = _only_used(with_endorsements(merged, sets))
    if args.receipt is not None:
        bundle = extract_receipt(bundle, args.receipt)
    data = bundle.encode()
    # Openings prove bodies to whoever has them: the file is for nobody else.
    save_bytes(args.output, data, replace=args.force, mode=0o600)
    if args.output == STDIN:
        return 0
    _say(args, bundle, len(data))
    return 0


def _roots_named_in(bundle: Bundle) -> set[Anchor]:
    """Return the roots that the quotes end in: no set under another one can be of use to them."""
    roots = set()
    for quote in [boot.quote for boot in bundle.boots] + [one.quote for one in bundle.epochs]:
        with suppress(MalformedError):
            roots.add(Anchor(parse_quote(quote).chain()[-1]))
    return roots


def _only_used(bundle: Bundle) -> Bundle:
    return make_bundle(
        boots=bundle.boots,
        collateral=bundle.collateral.values(),
        epochs=bundle.epochs,
        receipts=bundle.receipts,
        tasks=bundle.tasks,
    )


def _say(args: argparse.Namespace, bundle: Bundle, size: int) -> None:
    counts = {
        "boots": len(bundle.boots),
        "epochs": len(bundle.epochs),
        "receipts": len(bundle.receipts),
        "bytes": size,
    }
    if args.json:
        print_json({"file": args.output} | counts)
    else:
        words = ", ".join(
            f"{count} {name[:-1] if count == 1 else name}" for name, count in counts.items()
        )
        print(f"wrote {args.output}: {words}", file=sys.stderr)
