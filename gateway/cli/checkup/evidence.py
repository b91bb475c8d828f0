"""The configured quote provider: whether it opens, what one quote takes and what it shows."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from attestation.errors import AttestationError, UnavailableError
from attestation.tdx.anchor import INTEL_ANCHOR
from attestation.tdx.eventlog import KeyEvent
from attestation.tdx.quote import Quote, canonical_quote, parse_quote
from attestation.tdx.signatures import own_checks, verify_quote_signatures
from gateway.attester.base import REPORT_DATA_BYTES, open_provider
from gateway.attester.dstack import DstackProvider
from gateway.cli.checkup.finding import Finding, Subject
from gateway.notary.kept_log import key_events, require_kept_log
from gateway.notary.runtime_log import RuntimeLog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from attestation.bundle import EventLogRecord
    from attestation.tdx.anchor import Anchor
    from attestation.tdx.collateral import Collateral
    from gateway.attester.base import QuoteProvider

AREA = "evidence"
SLOW_QUOTE = 0.7
_RTMR3 = 3
_NUMBER = re.compile(r"[0-9]{1,9}")
_NO_EVENT = (0, 6)  # the first dstack whose agent extends nothing for applications


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the settings say about evidence."""

    provider: str
    runtime_log: Path | None = None
    quote_timeout: float = 30.0
    epoch_seconds: float = 10.0


@dataclass(slots=True, kw_only=True)
class Seen:
    """What the provider gave, for what is looked at afterwards."""

    quote: Quote | None = None
    collateral: Collateral | None = None
    anchor: Anchor | None = None
    findings: list[Finding] = field(default_factory=list)


def look_at_evidence(wanted: Wanted, clock: Callable[[], float]) -> Seen:
    """Open the provider and ask it for one quote; RTMR3 is read and never extended.

    `clock` counts seconds.  What fails is a finding; only a provider's name or options that
    nobody could use are raised (`UsageError`).
    """
    seen = Seen()
    subject = _subject("provider", "quote provider")
    try:
        provider = open_provider(wanted.provider)
    except UnavailableError as error:
        seen.findings.append(subject.refused(error))
        return seen
    opened = f"{provider.name} opens"
    seen.findings.append(
        subject.warn(
            f"{opened}: SIMULATED, these quotes prove nothing about hardware",
            "on a TDX guest: configfs-tsm:, vsock-qgs: or dstack:",
        )
        if provider.name == "simulated"
        else subject.ok(opened)
    )
    report_data = secrets.token_bytes(REPORT_DATA_BYTES)
    began = clock()
    try:
        raw = provider.quote(report_data)
    except AttestationError as error:
        seen.findings.append(_subject("quote", "one quote").refused(error))
        return seen
    seen.findings.append(_time(clock() - began, wanted))
    seen.collateral, seen.anchor = provider.collateral(), provider.anchor()
    _look_at_quote(raw, report_data, seen)
    if isinstance(provider, DstackProvider):
        seen.findings.extend(_agent(provider))
    if seen.quote is not None:
        seen.findings.append(_rtmr3(provider, wanted, seen.quote))
    return seen


def _time(seconds: float, wanted: Wanted) -> Finding:
    subject = _subject("quote", "one quote")
    shown, data = f"{seconds * 1000:.1f} ms", {"seconds": round(seconds, 4)}
    if seconds > wanted.quote_timeout:
        return subject.fail(
            f"{shown}, and evidence.quote_timeout is {wanted.quote_timeout:g} s",
            "raise it, or look at the quoting service on the host",
            **data,
        )
    if seconds >= wanted.epoch_seconds:
        return subject.warn(
            f"{shown}, and log.epoch_seconds is {wanted.epoch_seconds:g}",
            "epochs come as quotes do; set log.epoch_seconds above the time of a quote",
            **data,
        )
    if seconds >= SLOW_QUOTE:
        return subject.warn(
            f"{shown}: a stock kernel looks for the answer once a second",
            "fine for epochs: no request waits for a quote. All epochs and challenges together get "
            "about one quote a second; wait=anchored takes two of them, vsock-qgs: is faster",
            **data,
        )
    return subject.ok(shown, **data)


def _look_at_quote(raw: bytes, report_data: bytes, seen: Seen) -> None:
    subject = _subject("quote_form", "what the quote says")
    try:
        quote = parse_quote(canonical_quote(raw))
    except AttestationError as error:
        seen.findings.append(subject.refused(error))
        return
    if quote.body.report_data != report_data:
        seen.findings.append(
            subject.fail(
                "it shows other report data than was asked for",
                "the quoting service answers somebody else: nothing it gives can be used",
            )
        )
        return
    seen.quote = quote
    fmspc = quote.pck.fmspc.hex() if quote.pck else "unknown"
    text = f"version {quote.version}, {len(raw)} bytes, FMSPC {fmspc}"
    data = {"fmspc": fmspc, "mrtd": quote.body.mrtd.hex(), "version": quote.version}
    if quote.debug:
        seen.findings.append(
            subject.warn(
                f"{text}; DEBUG: the host can read this guest's memory",
                "start the TD without debug: every verifier refuses it",
                **data,
            )
        )
    else:
        seen.findings.append(subject.ok(text, **data))
    seen.findings.append(_signatures(quote, seen.anchor))


def _signatures(quote: Quote, anchor: Anchor | None) -> Finding:
    subject = _subject("signatures", "signatures in the quote")
    checks = own_checks(quote)
    wrong = [
        name
        for name in ("body_sig", "ak_binding", "qe_sig", "chain")
        if getattr(checks, name) is False
    ]
    if wrong:
        return subject.fail(
            f"do not hold: {', '.join(wrong)}",
            "this is no genuine quote (a simulator's, or a changed one); the gateway refuses it",
        )
    try:
        verify_quote_signatures(quote, anchor or INTEL_ANCHOR)
    except AttestationError as error:
        return subject.warn(
            f"hold, and not up to Intel's root: {error.message}",
            "verifiers refuse it, or call it simulated if they are given its root",
        )
    if anchor is not None:
        return subject.ok("hold, up to the root of the provider itself, which is not Intel's")
    return subject.ok("hold, up to Intel's root")


def _rtmr3(provider: QuoteProvider, wanted: Wanted, quote: Quote) -> Finding:
    """Whether a start could account for RTMR3; the register is only read."""
    subject = _subject("rtmr3", "RTMR3")
    if not provider.can_extend_rtmr3:
        return subject.warn(
            getattr(provider, "rtmr3_reason", "") or "this provider does not extend it",
            'keys are not bound to RTMR3: a policy needs unbound_keys = "allow"',
        )
    try:
        kept = provider.event_log()
        starts = _kept_starts(kept, quote) if kept else _own_starts(provider, wanted, quote)
    except AttestationError as error:
        return subject.refused(error)
    if starts:
        return subject.warn(
            f"{starts} earlier starts in the life of this TD; the next is number {starts + 1}",
            "policies allow one start unless max_key_events says more: restart the TD instead",
            starts=starts,
        )
    return subject.ok("is accounted for; the next start is the first one", starts=0)


def _kept_starts(kept: EventLogRecord, quote: Quote) -> int:
    require_kept_log(kept, quote, None)
    return len(key_events(kept))


def _own_starts(provider: QuoteProvider, wanted: Wanted, quote: Quote) -> int:
    register = provider.read_rtmr3()
    if register != quote.body.rtmrs[_RTMR3]:
        raise UnavailableError(
            "RTMR3 and the quote do not agree",
            code="rtmr3",
            hint="the quote is another TD's, or something extends RTMR3 just now",
        )
    log = RuntimeLog.load(wanted.runtime_log)
    log.require_replays_to(register)
    return sum(isinstance(event, KeyEvent) for event in log.events)


def _agent(provider: DstackProvider) -> Iterator[Finding]:
    subject = _subject("dstack", "dstack agent")
    try:
        version = provider.agent_version()
    except AttestationError as error:
        yield subject.refused(error)
        return
    if version is None:
        yield subject.ok("does not tell its version (before 0.5.5)")
        return
    numbers = tuple(int(part) for part in version.split(".")[:2] if _NUMBER.fullmatch(part))
    if numbers >= _NO_EVENT and provider.can_extend_rtmr3:
        yield subject.fail(
            f"version {version}: from 0.6 on applications cannot extend RTMR3",
            'evidence.provider = "dstack:?rtmr3=off", and unbound_keys = "allow" in policies',
            version=version,
        )
        return
    yield subject.ok(f"version {version}", version=version)


def _subject(name: str, title: str) -> Subject:
    return Subject(id=f"evidence.{name}", area=AREA, title=title)
