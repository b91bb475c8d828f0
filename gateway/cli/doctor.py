"""`attested doctor`: what this machine and these settings can do, and what to do about the rest."""

from __future__ import annotations

import argparse
import json
import os
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING

from attestation.cli.files import print_text
from attestation.encoding.printable import printable
from attestation.errors import AttestationError, UnavailableError, UsageError
from gateway.cli.checkup.apart import Part, Viewer, unseen, viewer_of
from gateway.cli.checkup.clock import Instant, KnownTime, clock_findings, kernel_state
from gateway.cli.checkup.endorsed import (
    ENDORSEMENTS,
    choose_endorsements,
    load_configured,
    look_at_endorsements,
    look_at_tcb,
    newest_issue,
)
from gateway.cli.checkup.evidence import Wanted, look_at_evidence
from gateway.cli.checkup.finding import Finding, Level, Subject
from gateway.cli.checkup.machine import Machine
from gateway.cli.checkup.service import newest_record, service_findings
from gateway.cli.config import add_settings_arguments, load_from_arguments

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from attestation.tdx.collateral import Collateral
    from gateway.settings import Settings

HELP = "look at this machine and these settings, and say what is missing"

_EXAMPLES = """examples:
  attested doctor                                 # what this machine offers
  attested doctor --config gateway.toml           # and whether these settings can work on it
  attested doctor --provider configfs-tsm:        # one quote from this provider
  attested doctor --config gateway.toml --json

Every line is ok, warn (works, with a consequence), fail (needed by these settings and not to be
had) or absent (not there, and not needed). Asks for one quote and times it; RTMR3 is read and never
extended, no secret is read, and the settings, keys and log are left as they are.

With a notary apart (notary.user, notary.gateway_user) run it as both users: each can look at its
own part, and is told what only the other one can look at. As root it looks at both, but not at
data_dir, and what it says of permissions is about root.

exit codes: 0 nothing that is needed is missing, 14 something is, 2 usage
"""
_VARIABLES = tuple(f"ATTESTED_{name}__" for name in ("UPSTREAM", "ACCESS", "NOTARY", "EVIDENCE"))
_PROVIDERS = (("machine.dstack", "dstack:"), ("machine.reports", "configfs-tsm:"))
_WIDTH = 100
_INDENT = 34
_QUOTES = Subject(id="evidence.quote", area="evidence", title="quotes, endorsements")
_UNAVAILABLE = UnavailableError.exit_code


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.epilog = _EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add_settings_arguments(parser)
    parser.add_argument(
        "--provider", metavar="URI", help="look at this quote provider, without other settings"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def run(args: argparse.Namespace) -> int:
    """Look at everything and show it; settings that are refused are raised as `UsageError`."""
    named = args.config is not None or bool(args.assignments)
    configured = named or any(name.startswith(_VARIABLES) for name in os.environ)
    if args.provider is not None and named:
        raise UsageError(
            "--provider is for a look without settings",
            code="provider",
            expected="--provider, or --config and --set",
            hint="--set evidence.provider=URI changes the settings",
        )
    alone = args.provider is not None or not configured
    settings = None if alone else load_from_arguments(args).settings
    viewer = viewer_of(settings, os.geteuid())
    findings = tuple(examine(settings, args.provider, Path("/"), viewer))
    code = exit_code(findings)
    if args.json:
        print(json.dumps(_document(findings, code), indent=2))
    else:
        # What platform, agent and engine say of themselves is anybody's text.
        print_text("".join(f"{printable(line)}\n" for line in report(findings)))
    return code


def examine(
    settings: Settings | None, provider: str | None, root: Path, viewer: Viewer
) -> Iterator[Finding]:
    """Look at the machine below `root`, then at evidence, service and clock as they are set up.

    Of a notary apart and its gateway, at what `viewer` can look at.
    """
    began = Instant.now()
    wanted = _wanted(settings, provider)
    asks = viewer.sees(Part.NOTARY)
    yield from _machine(wanted if asks else None, root).findings()
    known: list[KnownTime] = []
    if settings is not None and not asks:
        yield unseen(_QUOTES, settings.notary, Part.NOTARY)
    elif wanted is not None:
        yield from _evidence(settings, wanted, known)
    if settings is not None:
        yield from service_findings(settings, viewer, int(time.time()), time.monotonic)
        if (at := newest_record(settings.notary.data_dir)) is not None:
            known.append(KnownTime(what="the newest record of the log", at=at))
    yield from clock_findings(began, Instant.now(), tuple(known), kernel_state())


def _evidence(
    settings: Settings | None, wanted: Wanted, known: list[KnownTime]
) -> Iterator[Finding]:
    """Look at quotes and endorsements; what these say of the time is added to `known`."""
    seen = look_at_evidence(wanted, time.monotonic)
    yield from seen.findings
    configured, refused = _configured(settings, int(time.time()))
    choice = choose_endorsements(configured, seen)
    chosen, refused = choice.collateral, refused or choice.refused
    if settings is not None or chosen is not None:
        yield refused or look_at_endorsements(chosen, seen, int(time.time()))
    if (judgement := look_at_tcb(chosen, seen, int(time.time()))) is not None:
        yield judgement
    if (at := newest_issue(chosen)) is not None:
        known.append(KnownTime(what="the endorsements' issue", at=at))


def exit_code(findings: Sequence[Finding]) -> int:
    """0, or 14 if something that is needed is not to be had."""
    return _UNAVAILABLE if any(each.level is Level.FAIL for each in findings) else 0


def report(findings: Sequence[Finding]) -> Iterator[str]:
    """Yield the lines for people."""
    area = ""
    for each in findings:
        if each.area != area:
            yield from ("", each.area) if area else (each.area,)
            area = each.area
        yield from _wrapped(f"  {each.level.value:<7} {each.title}", each.seen)
        if each.todo and each.level is not Level.OK:
            yield from _wrapped("", f"-> {each.todo}")
    yield ""
    yield _verdict(findings)


def _wrapped(label: str, text: str) -> list[str]:
    lines = textwrap.wrap(text, _WIDTH - _INDENT, break_long_words=False, break_on_hyphens=False)
    first = f"{label:<{_INDENT}}"
    lead = first if len(first) == _INDENT else f"{first} "
    return [lead + (lines[0] if lines else ""), *(" " * _INDENT + line for line in lines[1:])]


def _verdict(findings: Sequence[Finding]) -> str:
    failed = [each.title for each in findings if each.level is Level.FAIL]
    warned = sum(each.level is Level.WARN for each in findings)
    warnings = f"{warned} warning{'' if warned == 1 else 's'}"
    if failed:
        return f"not ready: {', '.join(failed)} ({warnings})"
    if any(each.data.get("looked") is False for each in findings):
        return f"nothing that is needed is missing of what this user can look at ({warnings})"
    if any(each.area == "evidence" for each in findings):
        return f"nothing that is needed is missing ({warnings})"
    return f"{_offer(findings)} ({warnings}; no settings were given: --config FILE)"


def _offer(findings: Sequence[Finding]) -> str:
    """Which provider this machine is for, by what is there."""
    there = {each.id for each in findings if each.level is Level.OK}
    for name, scheme in _PROVIDERS:
        if name in there:
            return f"this machine offers {scheme}"
    return "this machine is no TDX guest: simulated: is the only provider that works on it"


def _document(findings: Sequence[Finding], code: int) -> dict[str, object]:
    return {
        "exit_code": code,
        "findings": [each.to_json() for each in findings],
        "uid": os.getuid(),
    }


def _wanted(settings: Settings | None, provider: str | None) -> Wanted | None:
    if settings is not None:
        evidence = settings.evidence
        return Wanted(
            provider=evidence.provider,
            runtime_log=evidence.runtime_log,
            quote_timeout=evidence.quote_timeout,
            epoch_seconds=settings.log.epoch_seconds,
        )
    return None if provider is None else Wanted(provider=provider)


def _machine(wanted: Wanted | None, root: Path) -> Machine:
    scheme, _, rest = (wanted.provider if wanted else "").partition(":")
    socket = rest.partition("?")[0]
    if scheme == "dstack" and socket:
        return Machine(root=root, scheme=scheme, dstack_socket=socket)
    return Machine(root=root, scheme=scheme)


def _configured(settings: Settings | None, now: int) -> tuple[Sequence[Collateral], Finding | None]:
    """Return the endorsements that the settings name, or why they cannot be had."""
    if settings is None:
        return (), None
    evidence = settings.evidence
    try:
        return load_configured(evidence.collateral_file, evidence.endorsements, now), None
    except AttestationError as error:
        return (), ENDORSEMENTS.refused(error)
