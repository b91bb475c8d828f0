"""`attested inspect`: what is in this file?  No verdict."""

from __future__ import annotations

import argparse
import json
from typing import Any

from attestation.bundle import parse_evidence
from attestation.cli.files import load_parsed, print_json, print_text
from attestation.cli.quote import decode_quote
from attestation.encoding.strict_json import JsonLimits, parse_json_object
from attestation.errors import MalformedError
from attestation.receipt.commitments import parse_openings, parse_openings_header
from attestation.report import show_bundle, show_openings, show_quote
from attestation.tdx.quote import parse_quote

HELP = "show what a bundle, receipt, quote or openings file holds, without judging it"

_EPILOG = """\
Nothing is verified: what is shown may be forged.  Opening keys are never shown.

examples:
  attested inspect bundle.json
  attested inspect quote.bin --json | jq -r .content.mrtd
"""
_WARNING = "Nothing below was verified; `attested verify` and `attested quote` judge."
_SMALL = JsonLimits(max_bytes=1 << 16, max_depth=4, max_members=16)
_OPENING_LABELS = frozenset({"req", "fwd", "eng", "res", "ins"})


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EPILOG
    parser.add_argument("file", metavar="FILE", help='what to show; "-" is stdin')
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def run(args: argparse.Namespace) -> int:
    """Print the contents."""
    kind, content = load_parsed(args.file, recognise)
    if args.json:
        print_json({"kind": kind, "verified": False, "content": content})
    else:
        print_text(f"{kind}\n{_WARNING}\n\n{json.dumps(content, indent=2, sort_keys=True)}\n")
    return 0


def recognise(data: bytes) -> tuple[str, dict[str, Any]]:
    """Return what kind of file `data` is and its contents.

    Bundle, receipt, the gateway's answer, openings (JSON or header text) and quotes (bytes,
    hexadecimal, base64) are known.  Raises `MalformedError`.
    """
    head = data.strip(b" \t\r\n")
    if head.startswith(b"{"):
        return _json_file(data)
    if head.count(b".") == 2 and head.isascii():
        return "receipt", show_bundle(parse_evidence(data))
    if head.startswith(b"ey"):
        return "openings", show_openings(parse_openings_header(head.decode("ascii", "replace")))
    try:
        return "quote", show_quote(parse_quote(decode_quote(data)))
    except MalformedError as error:
        raise MalformedError(
            "the file is nothing that is known",
            code="unknown_file",
            expected="a bundle, a receipt, openings or a TDX quote",
            observed=f"as a quote: {error}",
        ) from error


def _json_file(data: bytes) -> tuple[str, dict[str, Any]]:
    try:
        members = parse_json_object(data, _SMALL)
    except MalformedError:
        members = {}
    if members and members.keys() <= _OPENING_LABELS:
        return "openings", show_openings(parse_openings(members))
    bundle = parse_evidence(data)
    # No other file that was just read has a place for this name, not even inside its texts.
    return "bundle" if b'"schema"' in data else "receipt", show_bundle(bundle)
