"""An event log against a prediction, event by event."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from attestation.encoding.counts import counted
from attestation.errors import MalformedError, UsageError
from attestation.measure.align import align
from attestation.measure.hostpart import LoggedEvent
from attestation.measure.prediction import EV_EFI_VARIABLE_DRIVER_CONFIG, Derivation
from attestation.tdx.ccel import type_name
from attestation.tdx.events import REGISTERS
from attestation.tdx.logfile import parse_log_file
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
# Firmware measures the variable SecureBoot here: PCR 7 (TCG PFP), or RTMR0, which a log calls 1.
_SECURE_BOOT_PCR, _RTMR0_IN_LOG = "pcr7", "pcr1"


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

    @property
    def foreseen(self) -> bool:
        """Whether the digest was computed or given before, and is in the log in its place."""
        if self.match is not Match.SAME or self.predicted is None:
            return False
        return self.predicted.derivation in (Derivation.COMPUTED, Derivation.GIVEN)


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
    def foreseen(self) -> bool:
        """Whether each event was predicted with a digest that was computed or given.

        Others may differ from nothing, and were still taken from a log: this one (filled, or at
        the end of an open register) or that of an earlier boot (observed).
        """
        return not self.unforeseen and self.first_difference is None

    @property
    def unforeseen(self) -> tuple[ComparedEvent, ...]:
        """Return the logged events whose digests nobody computed or gave before."""
        return tuple(one for one in self.events if one.seen is not None and not one.foreseen)

    @property
    def explanation(self) -> str:
        """Return in one line how the register stands, such as "rtmr1 differs from event 3: …"."""
        found = self.first_difference
        if found is not None:
            return f"{self.name} differs from event {found.place}: {_difference(self, found)}"
        filled, more = self.count(Match.FILLED), self.count(Match.EXTRA)
        observed = len(self.unforeseen) - filled - more
        told = [f"{counted(filled, 'event')} without a predicted digest"] if filled else []
        if observed:
            told.append(f"{counted(observed, 'event')} only as in the log of an earlier boot")
        if more:
            told.append(f"{counted(more, 'event')} at the end that nobody predicted")
        words = "; ".join(["nothing differs", *told]) if told else "every event as predicted"
        return f"{self.name}: {words}"

    def count(self, match: Match) -> int:
        """Return how many events stand so."""
        return sum(one.match is match for one in self.events)


def read_tpm_log(data: bytes) -> Mapping[str, tuple[LoggedEvent, ...]]:
    """Return the events of a TPM's log by PCR ("pcr4").

    Raises `MalformedError`, and `UsageError` for the log of a TDX guest.
    """
    found = _events_by_pcr(data)
    if _SECURE_BOOT_PCR not in found and any(
        one.type == EV_EFI_VARIABLE_DRIVER_CONFIG for one in found.get(_RTMR0_IN_LOG, ())
    ):
        raise _other_platform("a TPM's, with secure boot in PCR 7", "that of a TDX guest")
    return found


def read_tdx_log(data: bytes) -> Mapping[str, tuple[LoggedEvent, ...]]:
    """Return the events of a TDX guest's log by register ("rtmr1").

    Raises `MalformedError`, and `UsageError` for the log of a TPM.
    """
    try:
        return events_by_register(parse_log_file(data))
    except MalformedError:
        if _is_of_tpm(data):
            raise _other_platform("a TDX guest's, with registers 0 to 4", "a TPM's") from None
        raise


def _is_of_tpm(data: bytes) -> bool:
    try:
        return _SECURE_BOOT_PCR in _events_by_pcr(data)
    except MalformedError:
        return False


def _events_by_pcr(data: bytes) -> Mapping[str, tuple[LoggedEvent, ...]]:
    found: dict[str, list[LoggedEvent]] = {}
    for one in parse_records(data, what="the TPM event log", last_register=LAST_PCR):
        if one.digest:
            event = LoggedEvent(type=one.type, digest=one.digest, data=one.data)
            found.setdefault(f"pcr{one.register}", []).append(event)
    return {name: tuple(events) for name, events in found.items()}


def _other_platform(expected: str, observed: str) -> UsageError:
    return UsageError(
        "the event log is of the other platform",
        code="platform",
        expected=expected,
        observed=observed,
        hint="attested measure tdx is for the logs of TDX guests, attested measure tpm for a TPM's",
    )


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


def unlogged_events(
    prediction: Prediction, log: Mapping[str, Sequence[LoggedEvent]]
) -> tuple[str, ...]:
    """Return the computed events that the log does not have in their places ("rtmr0: TD HOB").

    With one of them the log is that of another machine: its events beside computed ones would
    make a register that no machine has.
    """
    return tuple(
        f"{one.name}: {event.called}"
        for one in compare_log(prediction, log)
        for event in one.events
        if event.match is Match.MISSING
        and event.predicted is not None
        and event.predicted.derivation is Derivation.COMPUTED
    )


def _compare(register: PredictedRegister, seen: Sequence[LoggedEvent]) -> ComparedRegister:
    events = tuple(_pairs(register.events, seen[:MAX_COMPARED]))
    rest = tuple(_extra(at, one) for at, one in enumerate(seen[MAX_COMPARED:], MAX_COMPARED))
    return ComparedRegister(name=register.name, events=events + rest, open=register.open)


def _pairs(
    wanted: Sequence[PredictedEvent], seen: Sequence[LoggedEvent]
) -> Iterator[ComparedEvent]:
    place = start = 0
    shared = align([event.digest for event in wanted], [event.digest for event in seen])
    for here, there in shared:
        yield from _unequal(wanted[place:here], place, seen[start:there], start)
        yield ComparedEvent(
            match=Match.SAME, place=there + 1, predicted=wanted[here], seen=seen[there]
        )
        place, start = here + 1, there + 1
    yield from _unequal(wanted[place:], place, seen[start:], start)


def _unequal(
    wanted: Sequence[PredictedEvent], place: int, seen: Sequence[LoggedEvent], start: int
) -> Iterator[ComparedEvent]:
    """Fill places that nobody could predict; what is left on either side differs.

    An unknown event stands for one event of its type or more; the next unknown one of the same
    type gets what follows the first.  `place` and `start` are where the two lists begin.
    """
    used = 0
    for number, event in enumerate(wanted, 1):
        shared = number < len(wanted) and _stands_for(wanted[number], event.type)
        left = seen[used : used + 1] if shared else seen[used:]
        count = _leading(left, event.type) if _stands_for(event, event.type) else 0
        for at, found in enumerate(seen[used : used + count], start + used + 1):
            yield ComparedEvent(match=Match.FILLED, place=at, predicted=event, seen=found)
        used += count
        if not count:
            yield ComparedEvent(
                match=Match.MISSING, place=place + number, predicted=event, seen=None
            )
    for at, found in enumerate(seen[used:], start + used):
        yield _extra(at, found)


def _stands_for(event: PredictedEvent, kind: int) -> bool:
    return event.derivation is Derivation.UNKNOWN and event.type == kind


def _leading(seen: Sequence[LoggedEvent], kind: int) -> int:
    """Return how many of the first events are of this type."""
    return next((n for n, found in enumerate(seen) if found.type != kind), len(seen))


def _extra(at: int, found: LoggedEvent) -> ComparedEvent:
    return ComparedEvent(match=Match.EXTRA, place=at + 1, predicted=None, seen=found)


def _difference(register: ComparedRegister, found: ComparedEvent) -> str:
    if found.match is Match.EXTRA:
        return f"{found.called} was not predicted"
    others = [one for one in register.events if one.match is Match.EXTRA]
    if any(one.place == found.place for one in others):
        return f"{found.called} is another than predicted"
    return f"{found.called} is missing"
