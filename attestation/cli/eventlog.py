"""`attested eventlog`: what was measured, event by event, and is that what a quote shows?"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from attestation.bundle import parse_bundle
from attestation.bundle.model import SCHEMA as BUNDLE_SCHEMA
from attestation.cli.eventlog_check import (
    NO_LOG,
    Findings,
    compare_with_policy,
    compare_with_quote,
    compare_with_reference,
)
from attestation.cli.eventlog_document import documents
from attestation.cli.eventlog_report import render
from attestation.cli.files import (
    load_parsed,
    print_json,
    print_text,
    require_one_stdin,
)
from attestation.cli.log_report import worst
from attestation.cli.measure_inputs import load_prediction
from attestation.cli.policy_source import add_policy_options, policy_from
from attestation.cli.quote import decode_quote
from attestation.errors import UsageError
from attestation.measure.compare import absent_registers, compare_log, events_by_register
from attestation.tdx.events import EventLog
from attestation.tdx.logfile import parse_log_file
from attestation.tdx.quote import parse_quote

if TYPE_CHECKING:
    from attestation.bundle import BootEvidence
    from attestation.policy import Policy, ReferenceValues

HELP = "show an event log event by event, replay it, compare it with a quote"

_EPILOG = """\
FILE is a CC event log (CCEL, bytes), a dstack log or a gateway's runtime log (JSON), a file that
holds one as `event_log`, or a bundle, whose boots bring their own quotes.  A log proves what it
says only as far as it replays to a quote that `attested quote` or `attested verify` accepts: this
command looks at the signatures inside a quote and verifies nothing else of it.

exit codes: 0 everything that was compared agrees, or nothing was; 10 a register is not the
quote's, the log is not the reference or not as predicted, or the quote's signatures do not hold;
11 no tuple of the policy agrees; 12 the quote shows a register extended, or events were predicted
of one, that the log has no events for, or nothing differs from --measurements and events in the log
are none that were computed or given there; 13 malformed; 15 all agree, but the quote's root is not
Intel's.  With --policy-signer also 10 for a policy that is not authentic, 14 for one without a
signature.

examples:
  attested eventlog /sys/firmware/acpi/tables/data/CCEL
  attested eventlog ccel.bin --quote quote.bin
  attested eventlog ccel.bin --expect ccel-of-the-last-release.bin
  attested eventlog ccel.bin --measurements measurements.json
  attested eventlog bundle.json --policy policy.toml --tuple "gateway image 0.1.0" --json
"""
_NO_EVENTS = EventLog(format=NO_LOG, events=())


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EPILOG
    add = parser.add_argument
    add("file", metavar="FILE", help='the event log; "-" is stdin')
    add("--quote", metavar="Q", help="quote to compare with: bytes, hexadecimal or base64")
    add("--expect", metavar="LOG", help="reference log: names the first event that differs")
    add_policy_options(add, "appraisal policy (TOML): compare with its tuples")
    add("--tuple", metavar="NAME", help="only this tuple of the policy")
    add("--measurements", metavar="M", help="what was predicted (attested measure tdx)")
    add("--json", action="store_true", help="one JSON document on stdout")


def run(args: argparse.Namespace) -> int:
    """Print what is in the logs and how they compare; return the exit code."""
    own_files = (
        args.quote,
        args.expect,
        args.policy,
        args.measurements,
        *(args.policy_signer or ()),
    )
    require_one_stdin([args.file, *own_files])
    policy = policy_from(args)
    tuples = _tuples(policy, args.tuple)
    reference = None if args.expect is None else _reference(args.expect)
    predicted = load_prediction(args.measurements)
    findings = [
        replace(
            one,
            compared=compare_with_quote(one.log, one.quote) if one.quote else None,
            reference=compare_with_reference(one.log, reference) if reference else None,
            tuples=compare_with_policy(one.log, policy, tuples) if policy else None,
            predicted=None if predicted is None else compare_log(predicted, logged),
            not_logged=() if predicted is None else absent_registers(predicted, logged),
        )
        for one in _logs(args.file, args.quote)
        for logged in (events_by_register(one.log),)
    ]
    code = worst([code for one in findings for code in one.exit_codes])
    if args.json:
        print_json(documents(findings, code))
    else:
        print_text("\n".join(map(render, findings)))
    return code


def _logs(name: str, quote_name: str | None) -> list[Findings]:
    logs = load_parsed(name, lambda data: parse_logs(data, name=name))
    if quote_name is None:
        return logs
    if len(logs) != 1 or logs[0].quote is not None:
        raise UsageError(
            "a bundle brings its own quotes",
            code="quote",
            hint="leave --quote out, or give the log by itself",
        )
    quote = load_parsed(quote_name, lambda data: parse_quote(decode_quote(data)))
    return [replace(logs[0], quote=quote)]


def parse_logs(data: bytes, *, name: str) -> list[Findings]:
    """Return the log in a file, or that of every boot of a bundle beside its quote.

    Raises `MalformedError`, and `UsageError` for a bundle without boots.
    """
    if f'"{BUNDLE_SCHEMA}"'.encode() not in data:
        return [Findings(name=name, log=parse_log_file(data))]
    boots = parse_bundle(data).boots
    if not boots:
        raise UsageError("the bundle holds no boot", code="boots", hint="give one with its boot")
    return [_of_boot(boot) for boot in boots]


def _of_boot(boot: BootEvidence) -> Findings:
    return Findings(
        name=f"boot {boot.statement.bootseed.hex()[:16]}",
        log=boot.event_log.parse() if boot.event_log else _NO_EVENTS,
        quote=parse_quote(boot.quote),
    )


def _reference(name: str) -> EventLog:
    logs = load_parsed(name, lambda data: parse_logs(data, name=name))
    if len(logs) != 1:
        raise UsageError(
            "the reference holds several logs", code="reference", expected="a file with one"
        )
    return logs[0].log


def _tuples(policy: Policy | None, name: str | None) -> tuple[ReferenceValues, ...]:
    values = policy.reference_values if policy else ()
    if name is None:
        return values
    named = tuple(one for one in values if one.name == name)
    if not named:
        raise UsageError(
            "the policy has no tuple of this name",
            code="tuple",
            expected=", ".join(f'"{one.name}"' for one in values) or "a policy (--policy P)",
            observed=ascii(name)[:80],
        )
    return named
