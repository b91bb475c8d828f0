"""What was found about event logs, for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attestation.cli.eventlog_check import NO_LOG
from attestation.cli.eventlog_words import called, explain
from attestation.tdx.eventdata import read_content
from attestation.tdx.events import REGISTERS, replay, trace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attestation.cli.eventlog_check import Findings
    from attestation.tdx.divergence import Difference
    from attestation.tdx.events import Event

SCHEMA = "attested-gateway/eventlog-report/v1"


def documents(findings: Sequence[Findings], exit_code: int) -> dict[str, Any]:
    """Return everything that was found, as plain JSON values (docs/verifying.md)."""
    return {
        "schema": SCHEMA,
        "exit_code": exit_code,
        "logs": [_document(one) for one in findings],
    }


def _document(findings: Findings) -> dict[str, Any]:
    log = findings.log
    return {
        "name": findings.name,
        "format": None if log.format == NO_LOG else log.format,
        "unmeasured": log.unmeasured,
        "events": [
            {
                "register": event.register,
                "type": event.type,
                "name": event.name,
                "digest": event.digest.hex() or None,
                "content": read_content(event),
                "register_after": after.hex() or None,
            }
            for event, after in zip(log.events, trace(log), strict=True)
        ],
        "quote": None
        if findings.quote is None
        else {
            "digest": findings.quote.digest.hex,
            "signed": findings.signed,
            "verified": False,
            "intel_root": findings.intel_root,
        },
        "registers": [_register(findings, at) for at in range(REGISTERS)],
        "reference": None
        if findings.reference is None
        else [None if found is None else _difference(found) for found in findings.reference],
        "predicted": None
        if findings.predicted is None
        else [
            {
                "register": one.name,
                "differs": one.first_difference is not None,
                "explanation": one.explanation,
            }
            for one in findings.predicted
        ],
        "not_logged": list(findings.not_logged),
        "tuples": None
        if findings.tuples is None
        else [{"name": one.name, "differences": list(one.differences)} for one in findings.tuples],
    }


def _register(findings: Findings, at: int) -> dict[str, Any]:
    events = findings.log.of(at)
    members: dict[str, Any] = {
        "register": at,
        "events": len(events),
        "replayed": replay(findings.log)[at].hex() or None,
    }
    if findings.compared is not None:
        one = findings.compared[at]
        members |= {
            "quoted": one.quoted.hex(),
            "standing": one.standing.value,
            "cause": one.mismatch.cause.value if one.mismatch else None,
            "at": one.mismatch.at if one.mismatch else None,
            "explanation": explain(one, events),
        }
    return members


def _difference(found: Difference[Event]) -> dict[str, Any]:
    return {
        "change": found.change.value,
        "place": found.place,
        "expected": _brief_event(found.expected),
        "seen": _brief_event(found.seen),
    }


def _brief_event(event: Event | None) -> dict[str, Any] | None:
    return None if event is None else {"name": called(event), "digest": event.digest.hex() or None}
