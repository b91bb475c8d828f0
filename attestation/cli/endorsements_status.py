"""`attested endorsements status`: what expires when, of files, bundles and stores."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attestation.cli.endorsement_files import load_any, load_store, require_some
from attestation.cli.files import (
    INSTANT,
    parse_instant,
    print_json,
    print_text,
    require_one_stdin,
)
from attestation.encoding.instants import instant
from attestation.errors import EvidenceError, MalformedError, PolicyError, UsageError
from attestation.result import Verdict
from attestation.tdx.dates import DAY_SECONDS, State
from attestation.tdx.endorsements import in_order, verify_own_root

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attestation.tdx.dates import Part
    from attestation.tdx.endorsements import Endorsements

HELP = "show what expires when"
_EPILOG = """\
Every part of every set, with the instants between which it holds.  A bundle is asked for the
sets inside it.  Nothing is fetched, and no quote is judged: `attested verify` does that.

exit codes:
  0   everything is in date at --at (now), and signed under Intel's root
  15  the same, but a set is SIMULATED: signed under a root of its own
  11  something has expired, or does not hold yet
  10  a set is not signed by the root it brings       13  a file cannot be parsed
  2   usage; there are no sets

examples:
  attested endorsements status --store endorsements/
  attested endorsements status bundle.json --at 2026-09-30T12:00:00Z --json
"""

_ROW = "  {:<20}{:<22}{:<22}{:>9}  {}"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.epilog = _EPILOG
    add = parser.add_argument
    add("files", metavar="FILE", nargs="*", help='set, bundle, answer or store; "-" is stdin')
    add("--store", metavar="DIR", help="folder that `attested endorsements fetch` fills")
    add("--at", metavar="T", help="instant to judge by: " + INSTANT)
    add("--soon", metavar="DAYS", type=_days, default=7, help="days before the end are soon (7)")
    add("--json", action="store_true", help="one JSON document on stdout")


def _days(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 4:
        raise argparse.ArgumentTypeError("expected whole days")
    return int(text)


def run(args: argparse.Namespace) -> int:
    """Show every set with its parts; the worst exit code."""
    if not args.files and args.store is None:
        raise UsageError("nothing to look at was named: name a FILE or --store DIR", code="files")
    require_one_stdin(args.files)
    at = parse_instant(args.at)
    found: list[tuple[str, Endorsements]] = []
    broken: list[tuple[str, MalformedError]] = []
    for name in args.files:
        try:
            found += [(name, one) for one in in_order(load_any(name), at)]
        except MalformedError as error:
            broken.append((name, error))
    if args.store is not None:
        found += [(args.store, one) for one in in_order(load_store(args.store), at)]
    if not broken:
        require_some([one for _, one in found], "what was named")
    looks = [
        _Look(name=name, one=one, domain=_domain(one), at=at, soon=args.soon * DAY_SECONDS)
        for name, one in found
    ]
    code = _worst([look.exit_code for look in looks], broken)
    if args.json:
        print_json(_document(looks, broken, at, code))
    else:
        _show(looks, broken)
    return code


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """One set as it is shown: `domain` is None if its signatures do not hold."""

    name: str
    one: Endorsements
    domain: str | None
    at: int
    soon: int

    def state(self, part: Part) -> State:
        return part.state(self.at, soon=self.soon)

    @property
    def exit_code(self) -> int:
        if self.domain is None:
            return EvidenceError.exit_code
        late = self.state(self.one.whole) in (State.EXPIRED, State.NOT_YET)
        if late:
            return PolicyError.exit_code
        return 0 if self.domain == "intel" else Verdict.SIMULATED.exit_code


def _worst(codes: Sequence[int], broken: Sequence[object]) -> int:
    """13 before 10 before 11 before 15 before 0, as everywhere."""
    if broken:
        return MalformedError.exit_code
    for code in (EvidenceError.exit_code, PolicyError.exit_code, Verdict.SIMULATED.exit_code):
        if code in codes:
            return code
    return 0


def _domain(one: Endorsements) -> str | None:
    try:
        return verify_own_root(one).trust_domain
    except (EvidenceError, MalformedError):
        return None


def _show(looks: Sequence[_Look], broken: Sequence[tuple[str, MalformedError]]) -> None:
    for look in looks:
        print_text("\n".join(_lines(look)) + "\n\n")
    for _, error in broken:
        # The error names the file by itself.
        print_text(f"MALFORMED: {error}\n")


def _lines(look: _Look) -> list[str]:
    one = look.one
    return [
        f"FMSPC {one.fmspc}, PCK {one.ca} CA: {_standing(look)}",
        f"  signed by {_signer(look.domain)}; newest TCB level {one.tcb_date[:10]}",
        f"  evaluation numbers: TCB info {one.tcb_number}, QE identity {one.qe_number}",
        f"  digest {one.collateral.digest.hex}  ({look.name})",
        _ROW.format("part", "issued", "good until", "days left", "state"),
        *(
            _ROW.format(
                part.name,
                instant(part.issued),
                instant(part.until),
                _days_left(part, look.at),
                look.state(part),
            )
            for part in one.parts
        ),
    ]


def _standing(look: _Look) -> str:
    whole = look.one.whole
    match look.state(whole):
        case State.NOT_YET:
            return f"NOT YET: it holds from {instant(whole.issued)}"
        case State.EXPIRED:
            return f"EXPIRED {instant(whole.until)} ({whole.name})"
        case state:
            left = _days_left(whole, look.at)
            return f"{state}, {left} days left, until {instant(whole.until)} ({whole.name})"


def _signer(domain: str | None) -> str:
    if domain is None:
        return "NOBODY: its signatures do not hold"
    return "Intel" if domain == "intel" else "a root of its own (SIMULATED, not Intel)"


def _document(
    looks: Sequence[_Look], broken: Sequence[tuple[str, MalformedError]], at: int, code: int
) -> dict[str, Any]:
    return {
        "at": at,
        "exit_code": code,
        "malformed": [_error_json(name, error) for name, error in broken],
        "sets": [_set_json(look) for look in looks],
    }


def _error_json(name: str, error: MalformedError) -> dict[str, str]:
    return {
        "code": error.code,
        "expected": error.expected,
        "hint": error.hint,
        "message": error.message,
        "name": name,
        "observed": error.observed,
    }


def _set_json(look: _Look) -> dict[str, Any]:
    one, whole = look.one, look.one.whole
    return {
        "ca": one.ca,
        "digest": one.collateral.digest.hex,
        "fmspc": one.fmspc,
        "issued": one.issued,
        "name": look.name,
        "not_after": whole.until,
        "not_before": whole.issued,
        "parts": [
            {
                "issued": part.issued,
                "name": part.name,
                "state": str(look.state(part)),
                "until": part.until,
            }
            for part in one.parts
        ],
        "pce_id": one.pce_id,
        "qe_evaluation_number": one.qe_number,
        "state": str(look.state(whole)),
        "tcb_date": one.tcb_date,
        "tcb_evaluation_number": one.tcb_number,
        "trust_domain": look.domain,
    }


def _days_left(part: Part, at: int) -> int:
    return (part.until - at) // DAY_SECONDS
