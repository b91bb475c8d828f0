"""The closing part of every result: what stays open even where all checks pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attestation.encoding.counts import are, counted
from attestation.result import Check, Status
from attestation.verifier.scopes import LOG_SUBJECT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from attestation.policy import Policy

_ALWAYS = (
    "physical attacks: whoever extracts a platform's attestation key can forge its quotes",
    "the software itself: a measurement says which software ran, not that it is free of faults",
)
_SIMULATED = (
    "hardware: judged under a root that is not Intel's (--root), this evidence is SIMULATED; it "
    "can show that the checks work, and nothing about any machine"
)
_NO_ORIGIN = "which software is wanted: without a policy nothing says which measurements to accept"
_NO_CLOCK = "time: receipt times are the guest's clock, which the host controls"
_NO_STATEMENT = "what the quote speaks for: nothing was compared with its REPORTDATA"
_NO_CONTENT = (
    "no content bound: no request and answer were checked against a receipt "
    "(give --request and --response, or --contents)"
)
_SOME_CONTENT = "content of {open} of {all} receipts: their request or answer was not checked"
_NO_NONCE = "freshness not proved: no nonce was compared (--nonce)"
_SOME_NONCE = "freshness not proved for {open} of {all} receipts: their nonce was not compared"
_NOT_ANCHORED = (
    "order and completeness: {which} not anchored in a quoted log; "
    "receipts could be left out, reordered, or rewritten by whoever steals the boot's keys"
)
_NOT_JUDGED = (
    "order and completeness: {which} in a quoted state of the log, but "
    "without a policy nothing says whether the software that had it quoted is wanted"
)
_NOT_COMPLETE = (
    "completeness: that no receipt was left out of this file; only a file with every receipt below "
    "a quoted size shows that (docs/verifying.md, a range audit)"
)
_NO_END = (
    "what came after the newest quoted state of a log in this file: the host can stop a boot "
    "before its last receipts are quoted"
)
_NO_PLATFORM = "which machine: no platform list was applied, any certified machine would do"
_NO_MACHINE = "which machine: the policy's platform list was not met, or could not be applied"
_UNBOUND = "key binding: the policy accepts keys that RTMR3 does not bind"
_NO_CHANNEL = "confidentiality of the channel: only a live client can check whom it talks to"
_NO_MODEL = "which model: names are the engine's word, no measured digest stands behind them"
_FILES_UNREAD = (
    "that the engine loaded the files of the measured lock: the measured image has to see to that"
)


def not_proved(
    checks: tuple[Check, ...], policy: Policy, trust_domains: frozenset[str]
) -> tuple[str, ...]:
    """Return sentences about what these checks leave open, the gravest first."""
    passed = {check.id for check in checks if check.status is Status.PASS}
    receipts = _subjects(checks, "RECEIPT-FORMAT", Status.PASS)
    notes = [_SIMULATED] if "simulated" in trust_domains else []
    notes += [] if policy.reference_values else [_NO_ORIGIN]
    notes += [] if "BOOT-STATEMENT" in passed else [_NO_STATEMENT]
    if receipts:
        notes += _content(checks, receipts)
        notes += _freshness(checks, receipts)
        notes += _anchoring(checks, receipts, policy)
        named = receipts <= _subjects(checks, "MODEL", Status.PASS)
        notes += [_FILES_UNREAD if named else _NO_MODEL]
        notes += [] if receipts <= _subjects(checks, "CHANNEL", Status.PASS) else [_NO_CHANNEL]
        notes += [_NO_CLOCK]
    notes += [_UNBOUND] if policy.tdx.unbound_keys else []
    if not policy.platform.names_machines:
        notes += [_NO_PLATFORM]
    elif "PLATFORM" not in passed:
        notes += [_NO_MACHINE]
    return (*notes, *_ALWAYS)


def _content(checks: Iterable[Check], receipts: set[str]) -> list[str]:
    bound = _subjects(checks, "REQUEST-BODY", Status.PASS)
    bound &= _subjects(checks, "RESPONSE-BODY", Status.PASS)
    if not bound:
        return [_NO_CONTENT]
    missing = len(receipts - bound)
    return [_SOME_CONTENT.format(open=missing, all=len(receipts))] if missing else []


def _freshness(checks: Iterable[Check], receipts: set[str]) -> list[str]:
    missing = len(receipts - _subjects(checks, "NONCE", Status.PASS))
    if missing == len(receipts):
        return [_NO_NONCE]
    return [_SOME_NONCE.format(open=missing, all=len(receipts))] if missing else []


def _anchoring(checks: Iterable[Check], receipts: set[str], policy: Policy) -> list[str]:
    quoted = _subjects(checks, "EPOCH-QUOTE", Status.PASS)
    missing = len(receipts - quoted)
    # Without a policy no quote is accepted, so the epochs themselves say what was found.
    found = quoted and receipts <= _subjects(checks, "LOG-INCLUSION", Status.PASS)
    why = _NOT_JUDGED if found and not policy.reference_values else _NOT_ANCHORED
    notes = [why.format(which=_which(missing, len(receipts)))] if missing else []
    if missing == len(receipts):
        return notes
    logs = {check.subject for check in checks if check.subject.startswith(LOG_SUBJECT)}
    complete = logs <= _subjects(checks, "EPOCH-CHAIN", Status.PASS)
    return [*notes, *([] if complete else [_NOT_COMPLETE]), _NO_END]


def _which(some: int, every: int) -> str:
    return f"{some} of {counted(every, 'receipt')} {are(some)}"


def _subjects(checks: Iterable[Check], id_: str, status: Status) -> set[str]:
    return {check.subject for check in checks if check.id == id_ and check.status is status}
