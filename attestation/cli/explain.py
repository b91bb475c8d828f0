"""`attested explain`: what does this check prove, what does it stop, how is it redone by hand?"""

from __future__ import annotations

import argparse
import difflib
import textwrap
from itertools import zip_longest
from typing import Any

from attestation.checks import CHECKS
from attestation.cli.files import print_json, print_text
from attestation.errors import UsageError
from attestation.report import explain

HELP = "explain a check: what it proves, which attack it stops, how to redo it by hand"

_EPILOG = """\
The commands by hand work in a folder as `attested demo` leaves it, with openssl, jq, sha256sum and
python3 (3.11), and leave nothing in it. They end with status 0 only if what they redo of the check
holds on the first boot, epoch or receipt of bundle.json; what they leave out is said below them,
as comments.
For a check that this version does not make they never do. AT is the instant to judge by (Unix
seconds; now if unset); NONCE and CHANNEL ask for a value.

examples:
  attested explain                    # every check with its title
  attested explain EPOCH-QUOTE
  attested explain KEYSET --script | sh -e
  attested explain QUOTE-GENUINE --script | AT=1790000000 sh -e
"""
_WIDTH = 100
_INDENT = 10
_COMMENT = "# "


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EPILOG
    parser.add_argument("check", metavar="CHECK-ID", nargs="?", help="none: list all of them")
    parser.add_argument("--script", action="store_true", help="only the commands by hand")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def run(args: argparse.Namespace) -> int:
    """Print one explanation, or the list of checks."""
    if args.script and (args.check is None or args.json):
        raise UsageError("--script takes one CHECK-ID, and no --json", code="script")
    ids = list(CHECKS) if args.check is None else [_known(args.check)]
    found = [explain(id_) for id_ in ids]
    if args.json:
        print_json({"checks": found})
    elif args.check is None:
        width = max(map(len, ids)) + 2
        print_text("".join(f"{one['id']:<{width}}{one['title']}\n" for one in found))
    elif args.script:
        print_text(f"{found[0]['by_hand']}\n")
    else:
        print_text(_text(found[0]))
    return 0


def _text(one: dict[str, Any]) -> str:
    lines = [f"{one['id']}: {one['title']}", ""]
    for label in ("proves", "stops", "required", "spec"):
        told = textwrap.wrap(one[label], _WIDTH - _INDENT, break_on_hyphens=False)
        lines += [
            f"{name:<{_INDENT}}{line}" for name, line in zip_longest([label], told, fillvalue="")
        ]
    lines += ["", "By hand, in a folder as `attested demo` leaves it:", ""]
    # Not indented: a terminal's selection has to be what a shell can read.
    lines += one["by_hand"].splitlines()
    if one["aside"]:
        # Comments to a shell: who pastes all of it runs the commands alone.
        told = textwrap.wrap(one["aside"], _WIDTH - len(_COMMENT), break_on_hyphens=False)
        lines += ["", *(_COMMENT + line for line in told)]
    return "".join(f"{line}\n" for line in lines)


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
