"""What was found about event logs, for people and for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attestation.cli.eventlog_check import NO_LOG, Comparison, Findings, Standing
from attestation.cli.progress import counted
from attestation.encoding.printable import printable
from attestation.tdx.ccel import type_name
from attestation.tdx.divergence import MAX_GUESSED, Cause, Difference, Mismatch
from attestation.tdx.eventdata import read_content
from attestation.tdx.events import REGISTERS, Event, replay, trace
from attestation.verifier.words import short

if TYPE_CHECKING:
    from collections.abc import Sequence

SCHEMA = "attested-gateway/eventlog-report/v1"
_NAME_CHARS = 32
_TEXT_CHARS = 120
_NOT_VERIFIED = "signed, and not verified beyond that: `attested quote` and `verify` judge"
_UNSIGNED = "its signatures do not hold, so that anybody may have written its registers"
_ROOTS = {True: "Intel's root", False: "another root than Intel's (SIMULATED)", None: "no chain"}


def documents(findings: Sequence[Findings], exit_code: int) -> dict[str, Any]:
    """Return everything that was found, as plain JSON values (docs/verifying.md)."""
    return {
        "schema": SCHEMA,
        "exit_code": exit_code,
        "logs": [_document(one) for one in findings],
    }


def render(findings: Findings) -> str:
    """Return what was found about one log as lines for a terminal."""
    log = findings.log
    lines = [f"event log of {findings.name}: {log.format}, {counted(len(log.events), 'event')}"]
    if log.unmeasured:
        lines[0] += f" and {log.unmeasured} records that extend no register"
    if log.events:
        lines.append(
            "Each event: its digest, and its register then.  Content is shown where the digest "
            "proves it; names and types are what the log calls them."
        )
    for number, (event, after) in enumerate(zip(log.events, trace(log), strict=True), 1):
        lines += _event_lines(number, event, after)
    lines += _quote_lines(findings)
    lines += [line for at in range(REGISTERS) for line in _register_lines(findings, at)]
    lines += _reference_lines(findings)
    lines += _tuple_lines(findings)
    return "\n".join(map(printable, lines)) + "\n"


def _event_lines(number: int, event: Event, after: bytes) -> list[str]:
    content = read_content(event)
    line = (
        f"{number:>4}  RTMR{event.register}  {_called(event):<{_NAME_CHARS}}  "
        f"{_value(event.digest)}  then {_value(after)}"
    )
    if content is not None:
        return [line, f"      content: {_told(content)}"]
    return [f"{line}  {'digest only' if event.digest else 'nothing proven'}"]


def _called(event: Event) -> str:
    return (event.name or type_name(event.type))[:_NAME_CHARS]


def _value(value: bytes) -> str:
    return short(value) if value else "not stated"


def _told(content: dict[str, Any]) -> str:
    """Return the content in one line, cut to what a terminal can hold."""
    kind = content["kind"]
    if kind == "gateway-event":
        rest = (name for name in content if name not in ("kind", "event"))
        text = ", ".join(f"{name} {_brief(content[name])}" for name in rest)
        text = f"{content['event']}: {text}"
    elif kind == "efi-variable":
        place = content["namespace"] or content["guid"]
        text = f"{content['name']} ({place}) = {_variable_value(content)}"
    elif kind == "separator":
        text = f"{content['hex']}, {content['meaning']}"
    elif kind == "partition-table":
        names = ", ".join(one["name"] or "unnamed" for one in content["partitions"])
        text = f"disk {content['disk']}, {len(content['partitions'])} partitions: {names}"
    else:
        text = _plain(content)
    return text if len(text) <= _TEXT_CHARS else f"{text[:_TEXT_CHARS]}…"


def _brief(value: str | int) -> str:
    text = str(value)
    return text if len(text) <= 16 else f"{text[:16]}…"


def _variable_value(content: dict[str, Any]) -> str:
    if "value" in content:
        return "on" if content["value"] else "off"
    return _plain(content)


def _plain(content: dict[str, Any]) -> str:
    if "text" in content:
        return f'"{content["text"]}"'
    if not content["size"]:
        return "empty"
    if "hex" in content:
        return str(content["hex"])
    return f"{content['size']} bytes, SHA-256 {content['sha256'][:16]}…"


def _quote_lines(findings: Findings) -> list[str]:
    if findings.quote is None:
        return []
    root = _ROOTS[findings.intel_root]
    if not findings.signed:
        return [f"✗ quote {findings.quote.digest}: {_UNSIGNED}"]
    return [f"quote {findings.quote.digest}, {root}; {_NOT_VERIFIED}"]


def _register_lines(findings: Findings, register: int) -> list[str]:
    events = findings.log.of(register)
    replayed = replay(findings.log)[register]
    told = f"RTMR{register}  {counted(len(events), 'event')}, replay to {_value(replayed)}"
    if findings.compared is None:
        return [told]
    one = findings.compared[register]
    if one.standing is Standing.MATCH:
        return [f"✓ {told}: the quote's value"]
    if one.standing is Standing.NOT_COVERED:
        seen = short(one.quoted)
        return [f"· RTMR{register}  not covered: the quote shows {seen}, the log has no events"]
    return [
        f"✗ {told}: not the quote's value",
        f"    quote   {one.quoted.hex()}",
        f"    replay  {replayed.hex() or 'none'}",
        f"    {explain(one, events)}",
    ]


def explain(one: Comparison, events: Sequence[Event]) -> str:
    """Return what is known about a replay that does not lead to the quote's value."""
    mismatch = one.mismatch
    if mismatch is None:
        return ""
    text = _EXPLANATIONS[mismatch.cause](mismatch, events)
    if one.recomputed:
        text += (
            "; digests recomputed by dstack's rule from what the log tells lead to the quote's "
            "value, but the log does not state them"
        )
    return text


def _unstated(mismatch: Mismatch, events: Sequence[Event]) -> str:
    count = sum(not event.digest for event in events)
    return (
        f"the log states no digest for {count} of {mismatch.events} events, first for event "
        f"{_nth(mismatch.at, events)}, so there is nothing to replay"
    )


def _earlier(mismatch: Mismatch, events: Sequence[Event]) -> str:
    if not mismatch.at:
        return (
            f"the quote shows the register untouched: none of the {mismatch.events} events is in it"
        )
    return (
        f"the quote was taken after event {_nth(mismatch.at, events)} of {mismatch.events}: the "
        "later ones are not in it"
    )


def _unknown(mismatch: Mismatch, _: Sequence[Event]) -> str:
    if not mismatch.events:
        return "the log has no events for this register, and the quote shows that there were some"
    tried = "no beginning of the log leads to the quote's value"
    if mismatch.events <= MAX_GUESSED:
        tried += ", nor does leaving out, repeating or exchanging one event"
    return (
        f"{tried}: events differ or are missing, or the register was extended after the log ends; "
        "the register alone does not say which (--expect LOG compares event by event)"
    )


def _nth(at: int, events: Sequence[Event]) -> str:
    return f"{at} ({_called(events[at - 1])})"


def _omitted(mismatch: Mismatch, events: Sequence[Event]) -> str:
    return f"without event {_nth(mismatch.at, events)} the log replays to the quote's value"


def _repeated(mismatch: Mismatch, events: Sequence[Event]) -> str:
    return f"with event {_nth(mismatch.at, events)} twice the log replays to the quote's value"


def _swapped(mismatch: Mismatch, events: Sequence[Event]) -> str:
    one, other = _nth(mismatch.at, events), _nth(mismatch.at + 1, events)
    return f"with events {one} and {other} exchanged the log replays to the quote's value"


_EXPLANATIONS = {
    Cause.UNSTATED: _unstated,
    Cause.EARLIER: _earlier,
    Cause.OMITTED: _omitted,
    Cause.REPEATED: _repeated,
    Cause.SWAPPED: _swapped,
    Cause.UNKNOWN: _unknown,
}


def _reference_lines(findings: Findings) -> list[str]:
    lines = []
    for at, found in enumerate(findings.reference or ()):
        if found is None:
            lines.append(f"✓ RTMR{at}  the reference log's events")
        else:
            lines.append(
                f"✗ RTMR{at}  differs from the reference log at event {found.place}: "
                f"{found.change}; expected {_event(found.expected)}, saw {_event(found.seen)}"
            )
    return lines


def _event(event: Event | None) -> str:
    return "no event" if event is None else f"{_called(event)} {_value(event.digest)}"


def _tuple_lines(findings: Findings) -> list[str]:
    return [
        f'✗ "{one.name}": {"; ".join(one.differences)}'
        if one.differences
        else f'✓ "{one.name}": nothing in the log differs from this tuple'
        for one in findings.tuples or ()
    ]


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
    return None if event is None else {"name": _called(event), "digest": event.digest.hex() or None}
