"""What events are called, and what is said of a replay that does not lead to the quote's value."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attestation.tdx.ccel import type_name
from attestation.tdx.divergence import MAX_GUESSED, Cause, Mismatch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attestation.cli.eventlog_check import Comparison
    from attestation.tdx.events import Event

NAME_CHARS = 32


def called(event: Event) -> str:
    """Return the name the log gives an event, or that of its type, cut to `NAME_CHARS`."""
    return (event.name or type_name(event.type))[:NAME_CHARS]


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
    return f"{at} ({called(events[at - 1])})"


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
