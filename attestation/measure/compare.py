"""An event log against a prediction, event by event."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import SequenceMatcher
from enum import StrEnum
from typing import TYPE_CHECKING

from attestation.encoding.counts import counted
from attestation.measure.hostpart import LoggedEvent
from attestation.measure.prediction import Derivation
from attestation.tdx.ccel import type_name
from attestation.tdx.events import REGISTERS
from attestation.tdx.tcglog import parse_records

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from attestation.measure.prediction import (
        PredictedEvent,
        PredictedRegister,
        Prediction,
    )
    from attestation.tdx.events import EventLog

MAX_COMPARED = 512
LAST_PCR = 23


class Match(StrEnum):
    """How an event of a prediction or a log stands in the other."""

    SAME = "same"
    """Predicted, and in the log in its place."""
    FILLED = "filled"
    """In the place of an event whose digest is unknown, and of its type."""
    MISSING = "missing"
    """Predicted, and not in the log in its place."""
    EXTRA = "extra"
    """In the log, and not predicted there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedEvent:
    """One event; `place` counts from 1 in the log, or in the prediction for MISSING ones.

    `predicted` is None for EXTRA events, `seen` for MISSING ones.
    """

    match: Match
    place: int
    predicted: PredictedEvent | None
    seen: LoggedEvent | None

    @property
    def called(self) -> str:
        """Return what the prediction calls the event; the name of its type if it has none."""
        if self.predicted is not None:
            return self.predicted.name
        return "" if self.seen is None else type_name(self.seen.type)


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedRegister:
    """One register; `open`: more events than predicted were to be expected at its end."""

    name: str
    events: tuple[ComparedEvent, ...]
    open: bool

    @property
    def first_difference(self) -> ComparedEvent | None:
        """Return the first event that differs, None if all of them are as predicted.

        Events at the end of an open register are no difference.
        """
        tail = len(self.events)
        if self.open:
            while tail and self.events[tail - 1].match is Match.EXTRA:
                tail -= 1
        return next(
            (one for one in self.events[:tail] if one.match in (Match.MISSING, Match.EXTRA)), None
        )

    @property
    def settled(self) -> bool:
        """Whether each event was predicted with its digest, and nothing else is there."""
        return all(one.match is Match.SAME for one in self.events)

    @property
    def explanation(self) -> str:
        """Return in one line how the register stands, such as "rtmr1 differs from event 3: …"."""
        found = self.first_difference
        if found is None:
            filled, more = self.count(Match.FILLED), self.count(Match.EXTRA)
            told = f", {filled} of them without a predicted digest" if filled else ""
            told += f", then {counted(more, 'event')} that nobody predicted" if more else ""
            return f"{self.name}: every event as predicted{told}"
        return f"{self.name} differs from event {found.place}: {_difference(self, found)}"

    def count(self, match: Match) -> int:
        """Return how many events stand so."""
        return sum(one.match is match for one in self.events)


def read_tpm_log(data: bytes) -> Mapping[str, tuple[LoggedEvent, ...]]:
    """Return the events of a TPM's log by PCR ("pcr4"); raises `MalformedError`."""
    found: dict[str, list[LoggedEvent]] = {}
    for one in parse_records(data, what="the TPM event log", last_register=LAST_PCR):
        if one.digest:
            event = LoggedEvent(type=one.type, digest=one.digest, data=one.data)
            found.setdefault(f"pcr{one.register}", []).append(event)
    return {name: tuple(events) for name, events in found.items()}


def events_by_register(log: EventLog) -> Mapping[str, tuple[LoggedEvent, ...]]:
    """Return the events of a TDX guest's log by register ("rtmr1")."""
    return {
        f"rtmr{register}": tuple(
            LoggedEvent(type=one.type, digest=one.digest, data=one.data) for one in log.of(register)
        )
        for register in range(REGISTERS)
        if log.of(register)
    }


def compare_log(
    prediction: Prediction, log: Mapping[str, Sequence[LoggedEvent]]
) -> tuple[ComparedRegister, ...]:
    """Return how each predicted register that the log has events for compares.

    Of the others `absent_registers` names those of which the log had to say something.
    """
    return tuple(
        _compare(register, log.get(register.name, ()))
        for register in prediction.registers
        if register.name in log
    )


def absent_registers(
    prediction: Prediction, log: Mapping[str, Sequence[LoggedEvent]]
) -> tuple[str, ...]:
    """Return the registers with predicted events of which the log has none.

    Open ones are left out: what firmware logs ends before them.
    """
    return tuple(
        one.name
        for one in prediction.registers
        if one.events and not one.open and one.name not in log
    )


def _compare(register: PredictedRegister, seen: Sequence[LoggedEvent]) -> ComparedRegister:
    wanted = register.events
    events = tuple(_pairs(wanted, seen[:MAX_COMPARED]))
    rest = tuple(_extra(at, one) for at, one in enumerate(seen[MAX_COMPARED:], MAX_COMPARED))
    return ComparedRegister(name=register.name, events=events + rest, open=register.open)


def _pairs(
    wanted: Sequence[PredictedEvent], seen: Sequence[LoggedEvent]
) -> Iterator[ComparedEvent]:
    matcher = SequenceMatcher(
        None,
        [event.digest for event in wanted],
        # Digests that a log keeps to itself are no match for those that nobody predicted.
        [event.digest or b"unstated" for event in seen],
        autojunk=False,
    )
    for kind, first, last, start, end in matcher.get_opcodes():
        if kind == "equal":
            for shift in range(last - first):
                yield ComparedEvent(
                    match=Match.SAME,
                    place=start + shift + 1,
                    predicted=wanted[first + shift],
                    seen=seen[start + shift],
                )
        else:
            yield from _unequal(wanted, first, last, list(enumerate(seen))[start:end])


def _unequal(
    wanted: Sequence[PredictedEvent],
    first: int,
    last: int,
    seen: list[tuple[int, LoggedEvent]],
) -> Iterator[ComparedEvent]:
    """Fill places that nobody could predict; what is left on either side differs.

    An unknown event stands for one event of its type or more; the next unknown one of the same
    type gets what follows the first.
    """
    for place in range(first, last):
        event = wanted[place]
        shared = place + 1 < last and _stands_for(wanted[place + 1], event.type)
        fitting = _leading(seen, event.type) if _stands_for(event, event.type) else 0
        count = min(fitting, 1) if shared else fitting
        for at, found in seen[:count]:
            yield ComparedEvent(match=Match.FILLED, place=at + 1, predicted=event, seen=found)
        del seen[:count]
        if not count:
            yield ComparedEvent(match=Match.MISSING, place=place + 1, predicted=event, seen=None)
    for at, found in seen:
        yield _extra(at, found)


def _stands_for(event: PredictedEvent, kind: int) -> bool:
    return event.derivation is Derivation.UNKNOWN and event.type == kind


def _leading(seen: Sequence[tuple[int, LoggedEvent]], kind: int) -> int:
    """Return how many of the first events are of this type."""
    return next((n for n, (_, found) in enumerate(seen) if found.type != kind), len(seen))


def _extra(at: int, found: LoggedEvent) -> ComparedEvent:
    return ComparedEvent(match=Match.EXTRA, place=at + 1, predicted=None, seen=found)


def _difference(register: ComparedRegister, found: ComparedEvent) -> str:
    if found.match is Match.EXTRA:
        return f"{found.called} was not predicted"
    others = [one for one in register.events if one.match is Match.EXTRA]
    if any(one.place == found.place for one in others):
        return f"{found.called} is another than predicted"
    return f"{found.called} is missing"
