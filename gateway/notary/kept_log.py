"""Starts on a platform that keeps the log of RTMR3 itself, with events of its own before ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attestation.encoding.strict_json import parse_json
from attestation.errors import MalformedError, UnavailableError
from attestation.tdx.eventlog import RECEIPT_KEY, KeyEvent, MeasuredEvent, parse_key_events, replay

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attestation.bundle import EventLogRecord
    from attestation.encoding.digest import Digest
    from attestation.tdx.events import Event
    from attestation.tdx.quote import Quote
    from gateway.attester.base import QuoteProvider

_RUNTIME = 3
_FIRST = 1


def extend_kept_log(
    provider: QuoteProvider,
    record: EventLogRecord,
    *,
    measured: Sequence[MeasuredEvent] = (),
    bootseed: bytes,
    keyset_digest: Digest,
) -> KeyEvent:
    """Measure what this start runs, then its keys, behind what `record` already holds.

    1. the key events in the log can be read, number themselves from 1 and are its last events
    2. measured events are extended unless the log has them; in a log with keys they are not new
    3. the key event is extended, numbered after the last one

    A platform's own events come first and are never changed.  Raises `UnavailableError`.
    """
    before, keys = _before_and_keys(record.parse().of(_RUNTIME))
    present = _present(before, measured)
    if keys and present < len(measured):
        raise UnavailableError(
            "RTMR3 holds keys that were bound to another model or other engine arguments",
            code="rtmr3",
            expected=", ".join(event.name for event in measured),
            observed=", ".join(event.name[:64] for event in before[-len(measured) :]) or "no event",
            hint="what runs cannot change in the life of a TD: restart the TD",
        )
    for event in measured[present:]:
        provider.extend_rtmr3(event.digest, name=event.name, content=event.content)
    n = keys[-1].n + 1 if keys else _FIRST
    key = KeyEvent(bootseed=bootseed, keyset_digest=keyset_digest, n=n)
    provider.extend_rtmr3(key.digest, name=RECEIPT_KEY, content=key.content)
    return key


def require_kept_log(record: EventLogRecord, quote: Quote, key: KeyEvent | None) -> None:
    """Raise `UnavailableError` unless the log replays to this quote and ends with `key`.

    Without a key (the platform lets nobody extend RTMR3) replaying is all that can be asked.
    """
    registers = replay(record.parse())
    wrong = [index for index, value in enumerate(quote.body.rtmrs) if registers[index] != value]
    if wrong:
        raise UnavailableError(
            "the platform's event log does not replay to the boot quote",
            code="rtmr3",
            expected=", ".join(f"RTMR{index}" for index in wrong) + " of the quote",
            observed="another value",
            hint="something extends RTMR3 beside this gateway: nothing may; restart the TD",
        )
    last = record.parse().of(_RUNTIME)[-1:]
    if key is not None and [event.content for event in last] != [key.content]:
        raise UnavailableError(
            "the platform's event log does not end with this boot's keys",
            code="rtmr3",
            expected=f"{RECEIPT_KEY}, n = {key.n}",
            observed=", ".join(event.name[:64] for event in last) or "no event in RTMR3",
            hint="something extends RTMR3 beside this gateway: nothing may; restart the TD",
        )


def key_events(record: EventLogRecord) -> tuple[KeyEvent, ...]:
    """Return the keys of earlier starts, or raise `UnavailableError` where no start can follow."""
    return _before_and_keys(record.parse().of(_RUNTIME))[1]


def _before_and_keys(events: tuple[Event, ...]) -> tuple[tuple[Event, ...], tuple[KeyEvent, ...]]:
    names = [event.name for event in events]
    first = names.index(RECEIPT_KEY) if RECEIPT_KEY in names else len(names)
    try:
        keys = parse_key_events([_content(event) for event in events[first:]])
        if keys and keys[0].n != _FIRST:
            raise MalformedError("the first start is missing", observed=f"n = {keys[0].n}")
    except MalformedError as error:
        raise UnavailableError(
            "the platform's event log is not one that this gateway can go on with",
            code="rtmr3",
            expected=f"nothing but {RECEIPT_KEY} events, numbered from {_FIRST}, after the first",
            observed=error.observed or error.message,
            hint="something else extended RTMR3 after an earlier start: restart the TD",
        ) from error
    return events[:first], keys


def _content(event: Event) -> object:
    if event.name != RECEIPT_KEY or event.content is None:
        raise MalformedError("another event follows", observed=event.name[:64])
    return parse_json(event.content)


def _present(before: Sequence[Event], measured: Sequence[MeasuredEvent]) -> int:
    """How many of `measured` the log already ends with: a start may have died half way."""
    held = [(event.name, event.content) for event in before]
    wanted = [(event.name, event.content) for event in measured]
    return next(k for k in range(len(wanted), -1, -1) if held[len(held) - k :] == wanted[:k])
