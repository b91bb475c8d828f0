"""`attested explain`: what does this check mean, and what if it does not pass?"""

from __future__ import annotations

import argparse
import difflib
import textwrap

from attestation.checks import CHECKS
from attestation.cli.files import print_json, print_text
from attestation.errors import UsageError
from attestation.report import explain

HELP = "explain a check: what it establishes, and what to do where it does not pass"

_EPILOG = """\
examples:
  attested explain                    # every check with its title
  attested explain EPOCH-QUOTE
"""
_WIDTH = 100


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EPILOG
    parser.add_argument("check", metavar="CHECK-ID", nargs="?", help="none: list all of them")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def run(args: argparse.Namespace) -> int:
    """Print one explanation, or the list of checks."""
    ids = list(CHECKS) if args.check is None else [_known(args.check)]
    found = [explain(id_) for id_ in ids]
    if args.json:
        print_json({"checks": found})
    elif args.check is None:
        width = max(map(len, ids)) + 2
        print_text("".join(f"{one['id']:<{width}}{one['title']}\n" for one in found))
    else:
        (one,) = found
        text = "\n".join(textwrap.wrap(one["text"], _WIDTH, break_on_hyphens=False))
        print_text(
            f"{one['id']}: {one['title']}\n\n{text}\n\nrequired  {one['required']}\n"
            f"rule      {one['spec']}\n"
        )
    return 0


def _known(name: str) -> str:
    id_ = name.upper()
    if id_ not in CHECKS:
        close = difflib.get_close_matches(id_, list(CHECKS), n=1)
        raise UsageError(
            f"there is no check {ascii(name)[:48]}",
            code="check",
            expected="an id as results show it",
            hint=f"did you mean {close[0]}?" if close else "`attested explain` lists them",
        )
    return id_
