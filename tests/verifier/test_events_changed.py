"""EVENT-LOG: any change of a log is refused, does not parse, or changes nothing it proves."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.bundle import EventLogRecord
from attestation.encoding import base64url
from attestation.errors import AttestationError
from attestation.tdx.eventlog import parse_runtime_events
from attestation.tdx.events import EventLog
from attestation.tdx.logfile import parse_recorded
from attestation.verifier.extensions import runtime_events
from tests.support.bundles import failed
from tests.tdx.test_ccel import header, record
from tests.verifier.events import (
    ARGS,
    KEY,
    LOCK,
    OTHER,
    ccel,
    dstack_event,
    dstack_item,
    judged,
    listing,
    own,
)

# Any change at all


def claims_no_more(log: EventLog, true: EventLog) -> bool:
    """Say whether `log` proves nothing that `true` does not prove.

    A content may lose its proof, and RTMR0 to RTMR2 of a CCEL their events: their values are
    pinned.  No digest, no content and no run-time event may be another one.
    """
    for register in range(4):
        seen, wanted = log.of(register), true.of(register)
        dropped = not seen and log.format == "ccel" and register < 3
        if not dropped and [one.digest for one in seen] != [one.digest for one in wanted]:
            return False
        pairs = [] if dropped else zip(seen, wanted, strict=True)
        if any(one.content not in (None, other.content) for one, other in pairs):
            return False
    return list(runtime_events(log)) == list(runtime_events(true))


def changed_own(events: list[dict[str, Any]], data: st.DataObject) -> list[dict[str, Any]]:
    """One change of a log: an event less, twice, moved, or one member of one event."""
    items = [dict(item) for item in events]
    at = data.draw(st.integers(0, len(items) - 1))
    how = data.draw(st.sampled_from(["drop", "twice", "move", "edit"]))
    if how == "drop":
        del items[at]
    elif how == "twice":
        items.insert(at, items[at])
    elif how == "move":
        items.insert(data.draw(st.integers(0, len(items) - 1)), items.pop(at))
    else:
        name = data.draw(st.sampled_from(sorted(items[at])))
        value = items[at][name]
        other = value + 1 if isinstance(value, int) else edited(value, data)
        items[at][name] = other
    return items


def edited(text: str, data: st.DataObject) -> str:
    place = data.draw(st.integers(0, len(text)))
    letter = data.draw(st.sampled_from("0123456789abcdef"))
    return text[:place] + letter + text[place + data.draw(st.integers(0, 1)) :]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_single_change_of_the_gateways_log_is_refused(data: st.DataObject) -> None:
    true = own(LOCK, ARGS, KEY)
    events: Any = true.data
    shown = changed_own(events, data)
    if shown == events:
        return
    try:
        parse_runtime_events(shown)
    except AttestationError:
        return
    result = judged(replace(true, data=shown), true, events=listing(LOCK, ARGS))
    assert failed(result) == {"EVENT-LOG"}


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_single_change_of_a_dstack_log_is_refused_or_changes_no_evidence(
    data: st.DataObject,
) -> None:
    stage = dstack_event("stage", b"\x01") | {"imr": 0, "event_type": 4, "digest": OTHER.hex()}
    true = EventLogRecord(format="dstack", data=[stage, dstack_item(LOCK), dstack_item(KEY)])
    events: Any = true.data
    shown = changed_own(events, data)
    try:
        log = parse_recorded("dstack", shown)
    except AttestationError:
        return
    before = parse_recorded("dstack", events)
    listed = listing(LOCK, log_format="dstack")
    result = judged(replace(true, data=shown), true, events=listed)
    if failed(result):
        assert failed(result) == {"EVENT-LOG"}
    else:
        # Only what the first event says about itself, which its digest does not prove, and how
        # the log mixes events of different registers.
        assert claims_no_more(log, before)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 7))
def test_any_flipped_bit_of_a_ccel_is_refused_or_changes_no_evidence(place: int, bit: int) -> None:
    firmware = record(1, b"claim", digests=((0x0C, OTHER),)) + record(2, b"note", kind=3)
    true = ccel(LOCK, KEY, platform=firmware)
    raw = bytearray(base64url.decode(str(true.data)))
    raw[place % len(raw)] ^= 1 << bit
    shown = EventLogRecord(format="ccel", data=base64url.encode(bytes(raw)))
    try:
        log = shown.parse()
    except AttestationError:
        return
    result = judged(shown, true, events=listing(LOCK))
    if failed(result):
        assert failed(result) == {"EVENT-LOG"}
    else:
        assert claims_no_more(log, true.parse())


@pytest.mark.parametrize("size", [1, 20, 60, 100])
def test_truncated_ccel_does_not_parse(size: int) -> None:
    raw = base64url.decode(str(ccel(LOCK, KEY).data))
    shown = EventLogRecord(format="ccel", data=base64url.encode(raw[:-size]))
    with pytest.raises(AttestationError):
        shown.parse()


def test_ccel_with_two_headers_does_not_parse() -> None:
    data = header() + header() + record(4, KEY.content)
    with pytest.raises(AttestationError):
        EventLogRecord(format="ccel", data=base64url.encode(data)).parse()
    again = header() + record(4, struct.pack("<16s", b"Spec ID Event03"), kind=3)
    with pytest.raises(AttestationError):
        EventLogRecord(format="ccel", data=base64url.encode(again)).parse()
