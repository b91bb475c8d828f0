"""`attested measure compare`: an event log against what was predicted, event by event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attestation.cli.files import load_parsed, print_json, print_text, require_one_stdin
from attestation.encoding.counts import counted
from attestation.encoding.printable import printable
from attestation.errors import IncompleteError
from attestation.measure.compare import (
    Match,
    absent_registers,
    compare_log,
    read_tdx_log,
    read_tpm_log,
)
from attestation.measure.document import parse_measurements
from attestation.measure.prediction import Platform
from attestation.result import Verdict
from attestation.tdx.ccel import type_name

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from attestation.measure.compare import ComparedEvent, ComparedRegister
    from attestation.measure.hostpart import LoggedEvent

HELP = "compare an event log with predicted measurements"
SCHEMA = "attested-gateway/measure-comparison/v1"

_EPILOG = """\
LOG is the event log of a TDX guest, or for measurements of a TPM the one that Linux shows as
/sys/kernel/security/tpm0/binary_bios_measurements.  Every event of either side is listed: `same`,
`filled` (its digest was unknown), `missing` from the log, or `extra`, which nobody predicted.  A
log by itself proves nothing: `attested eventlog --quote` says whether a quote shows its registers.

exit codes:
  0   every event in the log was predicted, with a digest that was computed or given
  10  a register differs
  12  none does, and not everything was predicted: events are filled, are only as in the log of an
      earlier boot (--observed), follow at the end of RTMR3, or are in a register of which nothing
      was predicted; or the log has no event of a register with predicted events (but of RTMR3,
      which firmware does not log).  Each is named
  13  malformed
  2   usage, or a log of the other platform

examples:
  attested measure compare measurements.json /sys/firmware/acpi/tables/data/CCEL
  attested measure compare tpm.json /sys/kernel/security/tpm0/binary_bios_measurements --json
"""
_CLOSING = {
    Platform.TDX: "a log by itself proves nothing: `attested eventlog --quote` asks a quote",
    Platform.TPM: "a log by itself proves nothing, and quotes of a TPM are not looked at here",
}
_MARKS = {Match.SAME: "✓", Match.FILLED: "·", Match.MISSING: "✗", Match.EXTRA: "✗"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.epilog = _EPILOG
    add = parser.add_argument
    add("measurements", metavar="MEASUREMENTS", help='what `attested measure` wrote; "-" is stdin')
    add("log", metavar="LOG", help='the event log; "-" is stdin')
    add("--json", action="store_true", help="one JSON document on stdout")


def run(args: argparse.Namespace) -> int:
    """Print how each register compares; return the exit code."""
    require_one_stdin([args.measurements, args.log])
    prediction = load_parsed(args.measurements, parse_measurements)
    read = read_tpm_log if prediction.platform is Platform.TPM else read_tdx_log
    log = load_parsed(args.log, read)
    compared = compare_log(prediction, log)
    others = [name for name in log if prediction.register(name) is None]
    absent = absent_registers(prediction, log)
    code = _code(compared, unsettled=[*others, *absent])
    if args.json:
        print_json(_document(compared, others, absent, code))
    else:
        lines = [f"{name}: events were predicted, and the log has none" for name in absent]
        lines += _lines(compared, others, log)
        lines.append(_CLOSING[prediction.platform])
        print_text("\n".join(map(printable, lines)) + "\n")
    return code


def _code(compared: Sequence[ComparedRegister], unsettled: Sequence[str]) -> int:
    """Return 0 only where nothing in the log rests on a log alone; `unsettled` names registers."""
    if any(one.first_difference is not None for one in compared):
        return Verdict.REJECTED.exit_code
    foreseen = compared and all(one.foreseen for one in compared)
    return 0 if foreseen and not unsettled else IncompleteError.exit_code


def _document(
    compared: Sequence[ComparedRegister], others: list[str], absent: Sequence[str], code: int
) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "exit_code": code,
        "not_logged": list(absent),
        "not_predicted": others,
        "registers": [
            {
                "name": one.name,
                "explanation": one.explanation,
                "differs": one.first_difference is not None,
                "unpredicted": len(one.unforeseen),
                "events": [_event(event) for event in one.events],
            }
            for one in compared
        ],
    }


def _event(event: ComparedEvent) -> dict[str, Any]:
    predicted, seen = event.predicted, event.seen
    return {
        "match": event.match.value,
        "place": event.place,
        "name": event.called,
        "derivation": None if predicted is None else predicted.derivation.value,
        "predicted": None if predicted is None else predicted.digest.hex() or None,
        "seen": None if seen is None else seen.digest.hex() or None,
    }


def _lines(
    compared: Sequence[ComparedRegister],
    others: list[str],
    log: Mapping[str, Sequence[LoggedEvent]],
) -> list[str]:
    lines = []
    for register in compared:
        lines.append(register.explanation)
        lines += [
            f"  {_MARKS[one.match]} {one.place:>3}  {one.match.value:<7}  {_digest(one)}  "
            f"{_named(one)}"
            for one in register.events
        ]
    for name in others:
        kinds = ", ".join(dict.fromkeys(type_name(one.type) for one in log[name]))
        lines.append(f"{name}: not predicted, {counted(len(log[name]), 'event')} ({kinds})")
    total = sum(map(len, log.values()))
    rest = sum(len(one.unforeseen) for one in compared) + sum(len(log[name]) for name in others)
    lines.append(f"{total - rest} of {counted(total, 'logged event')} as predicted")
    if rest:
        lines.append(
            f"{counted(rest, 'event')} in the log: digest neither computed nor given before"
        )
    return lines


def _digest(event: ComparedEvent) -> str:
    digest = event.seen.digest if event.seen is not None else b""
    return digest.hex()[:16] or "-" * 16


def _named(event: ComparedEvent) -> str:
    if event.predicted is None:
        return event.called
    return f"{event.called} ({event.predicted.derivation.value})"
