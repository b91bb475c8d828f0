"""What was found about event logs, for people."""

from __future__ import annotations

from typing import Any

from attestation.cli.eventlog_check import Findings, Standing
from attestation.cli.eventlog_words import NAME_CHARS, called, explain
from attestation.encoding.counts import counted
from attestation.encoding.printable import printable
from attestation.tdx.eventdata import read_content
from attestation.tdx.events import REGISTERS, Event, replay, trace
from attestation.verifier.words import short

_TEXT_CHARS = 120
_NOT_VERIFIED = "signed, and not verified beyond that: `attested quote` and `verify` judge"
_UNSIGNED = "its signatures do not hold, so that anybody may have written its registers"
_ROOTS = {True: "Intel's root", False: "another root than Intel's (SIMULATED)", None: "no chain"}


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
    lines += _predicted_lines(findings)
    lines += _tuple_lines(findings)
    return "\n".join(map(printable, lines)) + "\n"


def _event_lines(number: int, event: Event, after: bytes) -> list[str]:
    content = read_content(event)
    line = (
        f"{number:>4}  RTMR{event.register}  {called(event):<{NAME_CHARS}}  "
        f"{_value(event.digest)}  then {_value(after)}"
    )
    if content is not None:
        return [line, f"      content: {_told(content)}"]
    return [f"{line}  {'digest only' if event.digest else 'nothing proven'}"]


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


def _predicted_lines(findings: Findings) -> list[str]:
    return [
        f"{'✗' if one.first_difference else '✓' if one.foreseen else '·'} {one.explanation}"
        for one in findings.predicted or ()
    ] + [f"· {name}: events were predicted, and the log has none" for name in findings.not_logged]


def _event(event: Event | None) -> str:
    return "no event" if event is None else f"{called(event)} {_value(event.digest)}"


def _tuple_lines(findings: Findings) -> list[str]:
    return [
        f'✗ "{one.name}": {"; ".join(one.differences)}'
        if one.differences
        else f'✓ "{one.name}": nothing in the log differs from this tuple'
        for one in findings.tuples or ()
    ]
