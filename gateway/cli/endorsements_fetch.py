"""`attested endorsements fetch`: endorsements from Intel or a PCCS into a store."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from attestation.bundle import parse_evidence
from attestation.cli.files import (
    INSTANT,
    load_anchors,
    load_bytes,
    load_parsed,
    parse_instant,
    print_json,
)
from attestation.cli.quote import decode_quote
from attestation.encoding.instants import instant
from attestation.errors import UsageError
from attestation.tdx.endorsements import CAS, platform_of
from attestation.tdx.quote import parse_quote
from gateway.cli.main import lacking_extra
from gateway.endorsements.store import EndorsementStore

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from attestation.bundle import Bundle
    from attestation.tdx.endorsements import Endorsements
    from gateway.endorsements.service import Wanted
    from gateway.endorsements.store import Added

HELP = "fetch the present set from Intel or a PCCS, verify and store it"
_EPILOG = """\
Fetches TCB info, QE identity, the PCK revocation list and the root CA's, each with its issuers,
for the platforms that are named, or for those of the quotes in a file or of a running gateway.
Nothing is stored before it is verified: signatures up to Intel's root (or --root), dates, FMSPC
and CA.  A set is stored under its digest; one that is there already is not stored again.  One
that is older than a stored one (evaluation number or issue) is stored, and reported.

Proxies and certificates of this machine's environment count (HTTPS_PROXY, NO_PROXY,
SSL_CERT_FILE); redirects are not followed.  Without a network: fetch elsewhere, then
`attested endorsements export` makes one file to carry over.

exit codes:
  0   the store has the present set of every platform named
  14  UNAVAILABLE   the service or the store cannot be used
  13  the service's answer cannot be parsed       10  it does not verify, or is out of date
  2   usage

examples:
  attested endorsements fetch --fmspc 90c06f000000 --ca platform --store endorsements/
  attested endorsements fetch --quote quote.bin --store endorsements/
  attested endorsements fetch --from https://pccs.example:8081 --tls-root pccs.pem \\
      --gateway https://gateway.example:8443 --store endorsements/
"""
_FMSPC = re.compile("[0-9a-fA-F]{12}", re.ASCII)
_MAX_SECONDS = 3600


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.epilog = _EPILOG
    add = parser.add_argument
    add("--from", dest="service", metavar="URL", default="pcs", help="a PCCS (pcs: Intel's)")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--fmspc", metavar="HEX", help="platform family: 12 hex digits")
    which.add_argument("--quote", metavar="FILE", help="the platform of a raw quote")
    which.add_argument("--bundle", metavar="FILE", help="the platforms of a bundle's quotes")
    which.add_argument("--gateway", metavar="URL", help="the platform of a running gateway")
    add("--ca", choices=CAS, help="with --fmspc: who certified the platforms' keys")
    add("--store", metavar="DIR", required=True, type=Path, help="folder to keep the sets in")
    add("--early", action="store_true", help="the evaluation that is not yet the standard one")
    add("--root", metavar="F", help="root certificate instead of Intel's")
    add("--at", metavar="T", help="instant to be in date at: " + INSTANT)
    add("--timeout", metavar="S", type=_seconds, default=60, help="seconds for everything (60)")
    add("--tls-root", metavar="F", type=Path, help="roots for the service's TLS certificate")
    add("--json", action="store_true", help="one JSON document on stdout")


def _seconds(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= _MAX_SECONDS:
        raise argparse.ArgumentTypeError(f"expected whole seconds, 1 to {_MAX_SECONDS}")
    return int(text)


def run(args: argparse.Namespace) -> int:
    """Fetch, verify and store the set of every platform that was named."""
    try:
        # Only here: status and export of an auditor need no HTTP client.
        from gateway.endorsements.service import fetch_endorsements, parse_service  # noqa: PLC0415
        from gateway.endorsements.transfer import Patience, Transfer  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise lacking_extra(error) from error
    service, at = parse_service(args.service), parse_instant(args.at)
    (anchor,) = load_anchors(None if args.root is None else [args.root])
    platforms = _platforms(args)
    source = Transfer(Patience(seconds=args.timeout), roots=args.tls_root)
    store = EndorsementStore(args.store)
    done: list[tuple[Endorsements, Added]] = []
    for wanted in platforms:
        found = fetch_endorsements(service, wanted, source, anchor, at)
        done.append((found, store.add(found)))
        if not args.json:
            _say(found, done[-1][1])
    if args.json:
        print_json({"exit_code": 0, "sets": [_shown(*item) for item in done]})
    return 0


def _platforms(args: argparse.Namespace) -> list[Wanted]:
    from gateway.endorsements.service import Wanted  # noqa: PLC0415 - as above

    if args.fmspc is not None:
        if not _FMSPC.fullmatch(args.fmspc) or args.ca is None:
            raise UsageError(
                "--fmspc wants 12 hexadecimal digits, and --ca beside it",
                code="fmspc",
                expected="for example --fmspc 90c06f000000 --ca platform",
                hint="--quote FILE reads both out of a quote",
            )
        return [Wanted(fmspc=args.fmspc.lower(), ca=args.ca, early=args.early)]
    if args.ca is not None:
        raise UsageError("--ca goes with --fmspc; a quote says it itself", code="ca")
    found = {platform_of(parse_quote(quote)) for quote in _quotes(args)}
    if not found:
        raise UsageError("the bundle holds no quotes", code="no_quotes")
    return [
        Wanted(fmspc=one.fmspc, ca=one.ca, early=args.early)
        for one in sorted(found, key=lambda one: (one.fmspc, one.ca))
    ]


def _quotes(args: argparse.Namespace) -> Iterable[bytes]:
    if args.quote is not None:
        return [decode_quote(load_bytes(args.quote, limit=1 << 20))]
    if args.bundle is not None:
        return _bundle_quotes(load_parsed(args.bundle, parse_evidence))
    from gateway.client.endpoint import parse_endpoint  # noqa: PLC0415 - needs the HTTP client
    from gateway.client.evidence import fetch_evidence  # noqa: PLC0415

    return _bundle_quotes(fetch_evidence(parse_endpoint(args.gateway)).bundle)


def _bundle_quotes(bundle: Bundle) -> list[bytes]:
    return [boot.quote for boot in bundle.boots] + [epoch.quote for epoch in bundle.epochs]


def _say(found: Endorsements, added: Added) -> None:
    what = "stored" if added.stored else "unchanged, stored before"
    print(
        f"FMSPC {found.fmspc}, PCK {found.ca} CA: {what} as {found.collateral.digest.hex}\n"
        f"  evaluation number {found.number}, good until {instant(found.whole.until)}"
    )
    for other in added.newer:
        print(
            f"attested: the store has a newer set: evaluation number {other.number}, issued "
            f"{instant(other.issued)}, digest {other.collateral.digest.hex}\n"
            f"  hint     the service lags behind, or gives standard endorsements after --early",
            file=sys.stderr,
        )


def _shown(found: Endorsements, added: Added) -> dict[str, Any]:
    return {
        "ca": found.ca,
        "digest": found.collateral.digest.hex,
        "evaluation_number": found.number,
        "fmspc": found.fmspc,
        "newer": [other.collateral.digest.hex for other in added.newer],
        "not_after": found.whole.until,
        "stored": added.stored,
    }
