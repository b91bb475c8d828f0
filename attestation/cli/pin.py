"""`attested pin`: a policy out of evidence, marked as trust on first use."""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
from typing import TYPE_CHECKING, Any

from attestation.bundle import parse_evidence, with_endorsements
from attestation.cli.endorsement_files import load_sets
from attestation.cli.files import (
    INSTANT,
    STDIN,
    load_anchors,
    load_bytes,
    parse_instant,
    print_json,
    print_text,
    require_absent,
    require_one_stdin,
    save_bytes,
)
from attestation.encoding.digest import Digest
from attestation.encoding.printable import printable
from attestation.errors import MalformedError, UsageError
from attestation.report import document, render_text
from attestation.report.pin import Pinned, Seen, pin
from attestation.report.pinned import Choices
from attestation.verifier import malformed_result

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from attestation.report.pinned import PinnedValue
    from attestation.result import AttestationResult
    from attestation.tdx.anchor import Anchor
    from attestation.tdx.collateral import Collateral

    Gather = Callable[[str, Sequence[Collateral], Sequence[Anchor], int], Seen]

HELP = "make a policy out of evidence, marked as trust on first use"
SCHEMA = "attested-gateway/pin/v1"
_WIDTH = 100
_FLAGS = {
    "COLLATERAL-FRESH": "give current ones with --endorsements F, or a bound with --max-age-days N",
    "TCB-STATUS": "--accept-status S --until DATE pins it all the same",
    "TCB-ADVISORIES": "--accept-advisory ID --until DATE pins it all the same",
}
"""What can be given to `pin` where only these checks fail."""

_DESCRIPTION = """\
Verifies everything about a gateway's evidence that needs no policy, shows each value with why it
can be believed, and writes a policy that accepts exactly that.  Nobody compared the values with
published measurements: the policy says so at its top, and in its version, which every result shows.
Evidence that is refuted, or that only a weaker policy than the default would accept, is not
pinned.
"""
_EPILOG = """\
The policy goes to stdout and the values to stderr; with -o the policy goes to the file and the
values to stdout.

exit codes:
  0    the policy was written; it accepts this evidence
  15   the same, and the evidence is simulated
  10, 11, 12, 13   nothing was written: the evidence is what `attested verify` means by these
  14   the gateway does not answer (with an address)
  2    usage; a file that exists (--force replaces it), an exception that is not needed

examples:
  attested pin bundle.json -o policy.toml
  attested pin https://gateway.example:8443 -o policy.toml          (needs the client extra)
  attested pin bundle.json --platform "rack 4, seen by me" -o policy.toml
  attested pin bundle.json --accept-status OutOfDate --until 2026-12-31 -o policy.toml
  attested pin attested-demo/bundle.json --root attested-demo/root.pem -o policy.toml
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("evidence", metavar="FILE|URL", help='bundle or gateway answer; "-" is stdin; a gateway')
    add("-o", "--output", metavar="OUT", default=STDIN, help="where to write the policy (stdout)")
    add("--force", action="store_true", help="replace the file if there is one")
    add("--root", metavar="F", action="append", help="root instead of Intel's; may be repeated")
    add("--at", metavar="T", help="instant to judge by: " + INSTANT)
    add("--endorsements", metavar="F", action="append", help="file or store to judge by instead")
    add("--platform", metavar="LABEL", help="pin the machine too, under this label")
    add("--max-age-days", metavar="N", type=_days, default=30, help="of endorsements (%(default)s)")
    add(
        "--accept-status",
        metavar="S",
        action="append",
        default=[],
        help="a TCB status besides UpToDate",
    )
    add(
        "--accept-advisory",
        metavar="ID",
        action="append",
        default=[],
        help="an advisory that is open",
    )
    add("--until", metavar="T", help="when these two end (required with them)")
    add("--accept-unbound-keys", action="store_true", help="of a platform that cannot extend RTMR3")
    add("--json", action="store_true", help="one JSON document on stdout, policy included")


def is_address(name: str) -> bool:
    """Say whether `name` is meant as a gateway's address, and not as a file's name."""
    return re.match(r"(?:https?|unix):", name) is not None


def load_evidence(
    name: str,
    sets: Sequence[Collateral],
    anchors: Sequence[Anchor],  # noqa: ARG001 - for those that ask a gateway
    at: int,  # noqa: ARG001 - likewise
) -> Seen:
    """Return what is in a file, to be judged by `sets` where they are for its platforms.

    Raises `MalformedError`; `UsageError` for an address, and for what cannot be read.
    """
    if is_address(name):
        raise UsageError(
            "this install reads files only",
            code="address",
            expected="a bundle or a gateway's answer",
            hint="fetch /v1/attestation?format=bundle, or install the client extra",
        )
    data = load_bytes(name)
    bundle = with_endorsements(parse_evidence(data), sets)
    return Seen(bundle=bundle, source=ascii(name), digest=Digest.of(data))


def run(args: argparse.Namespace, gather: Gather = load_evidence) -> int:
    """Verify, pin, show and write; the verdict's exit code."""
    require_one_stdin([args.evidence, *(args.root or ()), *(args.endorsements or ())])
    if not args.force:
        require_absent(args.output)
    at, choices = parse_instant(args.at), _choices(args)
    anchors = load_anchors(args.root)
    sets = load_sets(args.endorsements or (), at, anchors)
    try:
        seen = gather(args.evidence, sets, anchors, at)
    except MalformedError as error:
        return _refuse(args, malformed_result(error, None, at))
    found = pin(seen, at, anchors, choices)
    if not isinstance(found, Pinned):
        return _refuse(args, found)
    if args.output != STDIN:
        save_bytes(args.output, found.text.encode(), replace=args.force)
    _tell(args, found)
    return found.result.exit_code


def _days(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= 36_500:
        raise argparse.ArgumentTypeError("expected whole days, 1 to 36500")
    return int(text)


def _choices(args: argparse.Namespace) -> Choices:
    accepted = [*args.accept_status, *args.accept_advisory]
    if bool(accepted) != (args.until is not None):
        raise UsageError(
            "--until and what it ends belong together",
            code="until",
            expected="--accept-status or --accept-advisory, with --until",
            hint="an exception without an end is forgotten",
        )
    if args.platform is not None and not re.fullmatch(
        r"[\x21-\x7e][\x20-\x7e]{0,127}", args.platform
    ):
        raise UsageError(
            "--platform is no label",
            code="label",
            expected="1 to 128 printable ASCII characters that do not begin with a space",
        )
    return Choices(
        statuses=tuple(dict.fromkeys(args.accept_status)),
        advisories=tuple(dict.fromkeys(args.accept_advisory)),
        until=0 if args.until is None else parse_instant(args.until),
        unbound_keys=args.accept_unbound_keys,
        max_age_days=args.max_age_days,
        label=args.platform,
    )


def _refuse(args: argparse.Namespace, result: AttestationResult) -> int:
    if args.json:
        print_json({"schema": SCHEMA, "exit_code": result.exit_code, "policy": None}
                   | {"result": document(result, name=args.evidence)})  # fmt: skip
    else:
        print(render_text(result, name=args.evidence), file=sys.stderr, end="")
        print("\n".join(["nothing was pinned", *_remedies(result)]), file=sys.stderr)
    return result.exit_code


def _remedies(result: AttestationResult) -> list[str]:
    """Return what would pin it knowingly, if only such checks stand in the way."""
    failing = {check.id for check in result.checks if check.fault is not None}
    if not failing <= _FLAGS.keys():
        return []
    return [f"  {id_}: {text}" for id_, text in _FLAGS.items() if id_ in failing]


def _tell(args: argparse.Namespace, found: Pinned) -> None:
    if args.json:
        print_json(_document(args, found))
        return
    shown = _render(args, found)
    if args.output != STDIN:
        print_text(shown)
    else:
        print(shown, file=sys.stderr, end="")
        print_text(found.text)


def _render(args: argparse.Namespace, found: Pinned) -> str:
    lines = []
    for table, values in found.draft.tables:
        lines += [table, *(line for value in values for line in _lines(value)), ""]
    lines.append(
        "TRUST ON FIRST USE: compare these values with measurements that somebody published"
    )
    lines.append("or computed from the image; until then the policy accepts whatever ran here.")
    where = "" if args.output == STDIN else f" {args.output}"
    lines.append(f"policy{where} {found.result.policy_digest}; on this evidence it says "
                 f"{found.result.verdict}")  # fmt: skip
    return "".join(f"{printable(line)}\n" for line in lines)


def _lines(value: PinnedValue) -> list[str]:
    _, pair = value.lines
    return [f"  {pair}", *textwrap.wrap(value.why, _WIDTH, initial_indent="      ",
                                        subsequent_indent="      ")]  # fmt: skip


def _document(args: argparse.Namespace, found: Pinned) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "exit_code": found.result.exit_code,
        "policy": found.text,
        "policy_digest": str(found.result.policy_digest),
        "values": [
            {"table": table, "key": value.key, "toml": value.lines[1], "why": value.why}
            for table, values in found.draft.tables
            for value in values
        ],
        "result": document(found.result, name=args.evidence),
    }
