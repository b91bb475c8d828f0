"""Event logs against predictions: the first difference is named, and every event is listed."""

from __future__ import annotations

import pytest

from attestation.errors import MalformedError
from attestation.measure.compare import (
    MAX_COMPARED,
    ComparedRegister,
    Match,
    absent_registers,
    compare_log,
    events_by_register,
    read_tpm_log,
)
from attestation.measure.hostpart import host_part
from attestation.measure.prediction import Prediction
from attestation.tdx.eventlog import parse_ccel
from tests.measure import machines
from tests.tdx.test_ccel import header, record

GUEST = machines.tdx()
EVENTS = machines.logged(GUEST)


def compared(events: list[machines.Logged], guest: Prediction = GUEST) -> list[ComparedRegister]:
    return list(compare_log(guest, events_by_register(parse_ccel(machines.log(events)))))


def at(register: int, place: int) -> int:
    """Where the event stands among all."""
    found = [n for n, (index, _, _) in enumerate(EVENTS) if index == register + 1]
    return found[place - 1]


def test_log_of_the_predicted_guest_has_no_difference() -> None:
    found = compared(EVENTS)
    assert [one.first_difference for one in found] == [None] * 4
    assert found[1].explanation == "rtmr1: every event as predicted"
    assert sum(one.count(Match.SAME) for one in found) == len(EVENTS)


def test_another_image_is_named_with_its_place() -> None:
    events = list(EVENTS)
    index, kind, _ = events[at(1, 4)]
    events[at(1, 4)] = (index, kind, b"\7" * 48)
    found = compared(events)[1]
    assert found.explanation == ("rtmr1 differs from event 4: UKI digest is another than predicted")
    assert [one.match for one in found.events].count(Match.MISSING) == 1
    assert found.count(Match.EXTRA) == 1


def test_event_that_is_left_out_is_missing() -> None:
    events = list(EVENTS)
    del events[at(1, 3)]
    assert compared(events)[1].explanation == (
        "rtmr1 differs from event 3: partition table is missing"
    )


def test_event_that_nobody_predicted_is_named_by_its_type() -> None:
    events = list(EVENTS)
    events.insert(at(2, 2), (3, 0xD, b"\7" * 48))
    assert compared(events)[2].explanation == "rtmr2 differs from event 2: EV_IPL was not predicted"


def test_keys_at_the_end_of_rtmr3_are_no_difference_and_other_places_are() -> None:
    key = (4, 0, b"\7" * 48)
    last = compared([*EVENTS, key])[3]
    assert last.first_difference is None
    assert last.explanation == ("rtmr3: nothing differs; 1 event at the end that nobody predicted")
    events = list(EVENTS)
    events.insert(at(3, 2), key)
    found = compared(events)[3].first_difference
    assert found is not None
    assert (found.match, found.place) == (Match.EXTRA, 2)


def test_more_events_in_a_closed_register_are_a_difference() -> None:
    found = compared([*EVENTS, (2, 7, b"\7" * 48)])[1].first_difference
    assert found is not None
    assert found.match is Match.EXTRA


def test_unknown_events_are_filled_by_events_of_their_type() -> None:
    guest = machines.tdx(host=machines.NOTHING)
    found = compared(EVENTS, guest)[0]
    assert found.first_difference is None
    assert found.explanation == ("rtmr0: nothing differs; 6 events without a predicted digest")
    filled = [one.called for one in found.events if one.match is Match.FILLED]
    assert filled == [
        "ACPI loader",
        "ACPI rsdp",
        "ACPI tables",
        "variable BootOrder",
        "variables Boot####",
        "variables Boot####",
    ]


def test_unknown_event_is_not_filled_by_one_of_another_type() -> None:
    guest = machines.tdx(host=machines.NOTHING)
    events = list(EVENTS)
    index, _, digest = events[at(0, 9)]
    events[at(0, 9)] = (index, 5, digest)
    assert compared(events, guest)[0].explanation == (
        "rtmr0 differs from event 9: ACPI loader is another than predicted"
    )


def test_register_is_foreseen_only_if_each_digest_was_computed_or_given() -> None:
    given = compared(EVENTS)
    assert [one.foreseen for one in given] == [True] * 4
    assert [one.unforeseen for one in given] == [()] * 4
    unknown = compared(EVENTS, machines.tdx(host=machines.NOTHING))
    assert [one.foreseen for one in unknown] == [False, True, True, True]
    assert len(unknown[0].unforeseen) == 6
    assert [one.foreseen for one in compared([*EVENTS, (4, 0, b"\7" * 48)])] == [True] * 3 + [False]


def test_digests_of_an_earlier_boot_are_as_predicted_and_not_foreseen() -> None:
    log = events_by_register(parse_ccel(machines.log(EVENTS)))["rtmr0"]
    guest = machines.tdx(host=host_part(acpi={}, variables=[], observed=log))
    found = compared(EVENTS, guest)[0]
    assert found.settled
    assert not found.foreseen
    assert found.explanation == (
        "rtmr0: nothing differs; 6 events only as in the log of an earlier boot"
    )


def test_event_that_is_missing_is_not_foreseen_though_all_others_are() -> None:
    events = list(EVENTS)
    del events[at(1, 3)]
    found = compared(events)[1]
    assert found.unforeseen == ()
    assert not found.foreseen


def test_registers_that_the_log_says_nothing_of_are_left_out() -> None:
    assert [one.name for one in compared(EVENTS[-2:])] == ["rtmr3"]


def test_closed_register_with_predicted_events_and_none_logged_is_named() -> None:
    log = events_by_register(parse_ccel(machines.log([one for one in EVENTS if one[0] != 3])))
    assert absent_registers(GUEST, log) == ("rtmr2",)
    assert absent_registers(GUEST, {}) == ("rtmr0", "rtmr1", "rtmr2")


def test_only_the_first_events_of_a_register_are_aligned() -> None:
    events = [*EVENTS, *[(2, 7, bytes([n % 256]) * 48) for n in range(MAX_COMPARED + 10)]]
    found = compared(events)[1]
    assert len(found.events) == 7 + MAX_COMPARED + 10
    assert found.events[-1].place == len(found.events)


def test_log_of_a_tpm_is_read_by_pcr() -> None:
    data = header() + record(4, b"a") + record(4, b"b") + record(23, b"c") + record(0, b"x", kind=3)
    log = read_tpm_log(data)
    assert {name: len(events) for name, events in log.items()} == {"pcr4": 2, "pcr23": 1}
    with pytest.raises(MalformedError, match="TPM event log"):
        read_tpm_log(header() + record(24))


def test_log_of_the_predicted_tpm_has_no_difference() -> None:
    tpm = machines.tpm()
    log = read_tpm_log(machines.log(machines.logged(tpm)))
    assert [one.first_difference for one in compare_log(tpm, log)] == [None] * 9
