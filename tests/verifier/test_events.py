"""EVENT-LOG: every attack on a boot's event log has a refusal of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from attestation.bundle import EventLogRecord
from attestation.encoding.digest import Digest
from attestation.policy import NO_POLICY, Policy, parse_policy
from attestation.result import Status, Verdict
from attestation.tdx.events import replay
from attestation.tdx.logfile import parse_recorded
from tests.support.bundles import Gateway, failed, open_checks
from tests.tdx.test_ccel import record
from tests.verifier.events import (
    ARGS,
    KEY,
    LOCK,
    MADE,
    OTHER,
    RUNTIME,
    STRANGER,
    Event,
    ccel,
    check,
    dstack,
    dstack_event,
    dstack_item,
    judged,
    listing,
    not_accepted,
    own,
    pins,
    rejected,
)

# What is accepted


@pytest.mark.parametrize("write", [own, dstack, ccel])
def test_measured_events_that_the_tuple_lists_and_the_keys_are_accepted(write: Any) -> None:
    log = write(LOCK, ARGS, KEY)
    result = judged(log, events=listing(LOCK, ARGS, log_format=log.format))
    assert check(result).status is Status.PASS
    assert failed(result) == set()
    assert "EVENT-LOG" not in open_checks(result)


@pytest.mark.parametrize("write", [own, dstack, ccel])
def test_keys_alone_are_accepted_where_nothing_is_listed(write: Any) -> None:
    found = check(judged(write(KEY)))
    assert found.status is Status.PASS
    covered = "RTMR0, RTMR1, RTMR2, RTMR3" if write is dstack else "RTMR3"
    assert found.reason.startswith(f"replays to the quote's {covered};")


def test_any_of_several_tuples_may_list_the_events() -> None:
    text = MADE.policy_toml(events=listing(ARGS))
    second = text[text.index("[[reference_values]]") :].replace('"simulated"', '"second"')
    text += second.replace(listing(ARGS), listing(LOCK))
    policy = parse_policy(text.encode())
    assert check(judged(own(LOCK, KEY), policy=policy)).status is Status.PASS
    not_accepted(judged(own(LOCK, ARGS, KEY), policy=policy), "does not list")
    assert '"second"' in check(judged(own(LOCK, ARGS, KEY), policy=policy)).expected


def test_pinned_value_of_rtmr3_pins_its_events() -> None:
    register = replay(parse_recorded("attested-gateway", own(LOCK, KEY).data))[3]
    result = judged(own(LOCK, KEY), rtmr3=register, policy=MADE.policy(rtmr3=f'"{register.hex()}"'))
    assert check(result).status is Status.PASS


# Steps of the replay


@pytest.mark.parametrize(
    "shown",
    [
        own(ARGS, KEY),
        own(LOCK, KEY),
        own(ARGS, LOCK, KEY),
        own(LOCK, replace(ARGS, sha256=Digest.of(b"x")), KEY),
        own(LOCK, replace(ARGS, name="boot.arg"), KEY),
        own(LOCK, ARGS, replace(KEY, n=2)),
    ],
    ids=["first removed", "second removed", "swapped", "changed", "renamed", "renumbered"],
)
def test_log_of_other_events_does_not_replay(shown: EventLogRecord) -> None:
    found = rejected(judged(shown, own(LOCK, ARGS, KEY)), "does not replay to the quote's RTMR3")
    assert "attested eventlog" in found.hint


def test_added_last_event_is_told_by_where_the_quote_stands() -> None:
    late = replace(KEY, n=2)
    found = rejected(judged(own(LOCK, KEY, late), own(LOCK, KEY)), "after event 2 of the 3")
    assert "later ones are not in it" in found.reason


def test_quote_that_was_taken_before_every_event_is_told() -> None:
    found = rejected(judged(own(KEY), own()), "RTMR3 is untouched in the quote")
    assert found.expected == "RTMR3 all zero"


def test_log_of_another_domain_is_rejected() -> None:
    other = Gateway(seed="another domain")
    rejected(judged(other.evidence.event_log, own(KEY)), "does not replay")


@pytest.mark.parametrize("log_format", ["attested-gateway", "dstack"])
def test_empty_log_beside_an_extended_register_is_rejected(log_format: str) -> None:
    empty = EventLogRecord(format=log_format, data=[])
    rejected(judged(empty, own(KEY) if log_format != "dstack" else dstack(KEY)), "has no events")


def test_changed_digest_does_not_replay() -> None:
    item = dstack_item(KEY) | {"digest": OTHER.hex()}
    rejected(judged(EventLogRecord(format="dstack", data=[item]), dstack(KEY)), "does not replay")


def test_digest_that_is_left_out_is_told() -> None:
    bare = dstack(KEY, digest="")
    found = rejected(judged(bare, dstack(KEY)), "leaves out digests of RTMR3")
    assert found.observed == "1 of 1 events without a digest"


@pytest.mark.parametrize("register", [0, 1, 2])
def test_wrong_register_is_told(register: int) -> None:
    """The key in RTMR0 to RTMR2 proves nothing about who held it: firmware writes those."""
    misplaced = EventLogRecord(format="dstack", data=[dstack_item(KEY, register)])
    rejected(judged(misplaced, dstack(KEY)), f"RTMR{register} is untouched in the quote")
    not_accepted(judged(misplaced), "RTMR3 does not bind this boot's keys")


@pytest.mark.parametrize("register", [0, 1, 2])
def test_every_register_of_a_dstack_log_is_replayed(register: int) -> None:
    extra = dstack_event("stage", b"") | {"imr": register}
    true = EventLogRecord(format="dstack", data=[extra, dstack_item(KEY)])
    rejected(judged(dstack(KEY), true), f"has no events for RTMR{register}")
    changed = EventLogRecord(
        format="dstack", data=[extra | {"digest": OTHER.hex()}, dstack_item(KEY)]
    )
    rejected(judged(changed, true), f"the quote's RTMR{register}")


@pytest.mark.parametrize("register", [0, 1, 2])
def test_register_with_events_in_a_ccel_is_replayed_and_others_rest_on_their_pins(
    register: int,
) -> None:
    true = ccel(KEY, platform=record(register + 1, b"firmware"))
    assert check(judged(true)).status is Status.PASS
    rejected(
        judged(ccel(KEY, platform=record(register + 1, b"firmwarf")), true),
        f"the quote's RTMR{register}",
    )
    assert check(judged(ccel(KEY), true)).status is Status.PASS
    pinned: dict[str, Any] = {f"rtmr{register}": f'"{OTHER.hex()}"'}
    unpinned = judged(ccel(KEY), true, **pinned)
    assert failed(unpinned) == {"MEASUREMENTS"}


def test_ccel_without_runtime_events_leaves_an_extended_rtmr3_open() -> None:
    result = judged(
        ccel(platform=record(1, b"firmware")), ccel(KEY, platform=record(1, b"firmware"))
    )
    assert result.verdict is Verdict.INCOMPLETE
    assert "EVENT-LOG" in open_checks(result)
    assert "no event log in the file accounts for it" in check(result).reason


# Keys


def test_stranger_as_the_last_key_is_rejected() -> None:
    found = rejected(judged(own(STRANGER)), "another boot's")
    assert MADE.bootseed.hex()[:16] in found.expected
    assert STRANGER.bootseed.hex()[:16] in found.observed


def test_this_boot_with_other_keys_is_rejected() -> None:
    other = replace(KEY, keyset_digest=Digest.of(b"other"))
    found = rejected(judged(own(other)), "not those of this boot's keyset")
    assert MADE.keyset.digest.hex[:16] in found.expected
    assert other.keyset_digest.hex[:16] in found.observed


def test_keys_of_a_later_start_are_rejected() -> None:
    later = replace(STRANGER, n=2)
    policy = MADE.policy(tdx="max_key_events = 2")
    rejected(judged(own(KEY, later), policy=policy), "another boot's")


def test_second_start_needs_the_policys_word() -> None:
    log = own(STRANGER, replace(KEY, n=2))
    not_accepted(judged(log), "started more often")
    result = judged(log, policy=MADE.policy(tdx="max_key_events = 2"))
    assert check(result).status is Status.PASS


@pytest.mark.parametrize("numbers", [(2,), (0,), (0, 1), (2, 3)])
def test_starts_that_are_not_counted_from_one_are_rejected(numbers: tuple[int, ...]) -> None:
    log = own(*(replace(KEY, n=n) for n in numbers))
    policy = MADE.policy(tdx="max_key_events = 9")
    rejected(judged(log, policy=policy), "do not count the starts")


def test_starts_with_a_gap_in_another_makers_log_are_rejected() -> None:
    log = dstack(KEY, replace(KEY, n=3))
    rejected(judged(log, tdx="max_key_events = 9"), "do not count the starts")


@pytest.mark.parametrize("write", [dstack, ccel])
def test_event_after_the_keys_is_rejected(write: Any) -> None:
    found = rejected(judged(write(KEY, LOCK)), "by something else after this boot's keys")
    assert found.observed.startswith("image.lock ")


@pytest.mark.parametrize("write", [dstack, ccel])
def test_event_between_keys_is_not_accepted(write: Any) -> None:
    log = write(KEY, LOCK, replace(KEY, n=2))
    listed = listing(LOCK, log_format=log.format)
    result = judged(log, tdx="max_key_events = 2", events=listed)
    assert not_accepted(result, "between keys").observed.startswith("image.lock ")


@pytest.mark.parametrize("write", [own, dstack, ccel])
def test_register_without_keys_is_rejected(write: Any) -> None:
    log = write(LOCK)
    result = judged(log, events=listing(LOCK, log_format=log.format))
    rejected(result, "extended, but by no keys")


def test_register_without_keys_is_accepted_where_unbound_keys_are() -> None:
    allowed: dict[str, Any] = {"tdx": 'unbound_keys = "allow"', "events": listing(LOCK)}
    assert check(judged(own(LOCK), **allowed)).status is Status.PASS
    assert "not bound" in check(judged(own(LOCK), **allowed)).reason
    not_accepted(judged(own(LOCK, ARGS), **allowed), "does not list")
    rejected(judged(ccel(LOCK, KEY, ARGS), **allowed), "after this boot's keys")
    rejected(judged(own(LOCK, STRANGER), **allowed), "another boot's")


@pytest.mark.parametrize("shown", [own(), None])
def test_untouched_register_is_not_accepted_where_the_tuple_lists_events(
    shown: EventLogRecord | None,
) -> None:
    allowed: dict[str, Any] = {"tdx": 'unbound_keys = "allow"'}
    result = judged(shown, own(), events=listing(LOCK), **allowed)
    not_accepted(result, "was not measured into RTMR3")
    assert check(judged(shown, own(), **allowed)).status is Status.PASS


# What a digest does not prove


def test_key_event_whose_digest_does_not_prove_it_is_rejected() -> None:
    unproven = EventLogRecord(format="dstack", data=[dstack_item(KEY) | {"digest": OTHER.hex()}])
    rejected(judged(unproven), "does not prove what it says")
    allowed = judged(unproven, tdx='unbound_keys = "allow"')
    rejected(allowed, "does not prove what it says")


@pytest.mark.parametrize(
    "change",
    [
        {"event_payload": STRANGER.content.hex()},
        {"event_payload": ""},
        {"event_type": 4},
        {"event_type": RUNTIME + 1},
    ],
)
def test_changed_content_under_the_same_digest_is_rejected(change: dict[str, Any]) -> None:
    lie = EventLogRecord(format="dstack", data=[dstack_item(KEY) | change])
    rejected(judged(lie, dstack(KEY)), "does not prove what it says")


@pytest.mark.parametrize(
    "payload",
    [b"", b"{", b"[]", b" " + KEY.content, KEY.content.replace(b":1}", b':1,"x":1}'), LOCK.content],
)
def test_proven_event_that_is_no_key_event_is_rejected(payload: bytes) -> None:
    log = EventLogRecord(format="dstack", data=[dstack_event("receipt.key", payload)])
    rejected(judged(log), "does not prove what it says")


def test_earlier_key_cannot_hide_behind_another_name() -> None:
    """One digest, told as another event: split at another colon, renamed, or of another type."""
    true = dstack(STRANGER, replace(KEY, n=2))
    hidden, last = (dstack_item(STRANGER), dstack_item(replace(KEY, n=2)))
    name, _, rest = (b"receipt.key:" + STRANGER.content).partition(b'"bootseed":')
    lies: list[dict[str, Any]] = [
        {"event": (name + b'"bootseed"').decode(), "event_payload": rest.hex()},
        {"event": "app-id"},
        {"event": "app-id", "event_type": 4},
    ]
    policy = MADE.policy(tdx="max_key_events = 1", **pins((bytes(48),) * 3))
    for lie in lies:
        shown = EventLogRecord(format="dstack", data=[hidden | lie, last])
        assert failed(judged(shown, true, policy=policy)) == {"EVENT-LOG"}


def test_key_of_the_gateway_in_another_makers_event_is_no_key() -> None:
    """Who can only emit events under other names of dstack's cannot bind keys."""
    log = EventLogRecord(format="dstack", data=[dstack_event("app", KEY.content)])
    rejected(judged(log), "by no keys")


def test_event_by_the_gateways_own_rule_counts_in_a_dstack_log() -> None:
    item = {
        "imr": 3,
        "event_type": 0,
        "digest": KEY.digest.hex(),
        "event": "receipt.key",
        "event_payload": KEY.content.hex(),
    }
    log = EventLogRecord(format="dstack", data=[item])
    assert check(judged(log)).status is Status.PASS
    renamed = EventLogRecord(format="dstack", data=[item | {"event": "app-id"}])
    rejected(judged(renamed), "by no keys")


# What the tuple lists


@pytest.mark.parametrize(
    ("measured", "listed", "reason", "expected", "observed"),
    [
        ((LOCK,), (), "does not list", "no event", "image.lock "),
        ((), (LOCK,), "was not measured", "image.lock ", "no event"),
        ((LOCK, ARGS), (LOCK,), "does not list", "no event", "boot.args "),
        ((ARGS,), (LOCK, ARGS), "was not measured", "image.lock ", "boot.args "),
        ((ARGS, LOCK), (LOCK, ARGS), "another order", "image.lock ", "boot.args "),
        (
            (replace(LOCK, sha256=Digest.of(b"tampered")),),
            (LOCK,),
            "another event than",
            "image.lock ",
            "image.lock ",
        ),
        ((replace(LOCK, name="image"),), (LOCK,), "another event than", "image.lock ", "image "),
    ],
)
@pytest.mark.parametrize("write", [own, dstack, ccel])
def test_events_that_are_not_the_tuples_are_not_accepted(
    write: Any,
    measured: tuple[Event, ...],
    listed: tuple[Event, ...],
    reason: str,
    expected: str,
    observed: str,
) -> None:
    log = write(*measured, KEY)
    wanted: dict[str, Any] = {}
    if listed:
        wanted["events"] = listing(*listed, log_format=log.format)
    found = not_accepted(judged(log, **wanted), reason)
    assert expected in found.expected
    assert found.observed.startswith(observed)


def test_name_alone_does_not_make_an_event_the_listed_one() -> None:
    log = EventLogRecord(
        format="dstack", data=[dstack_item(LOCK) | {"event": "compose-hash"}, dstack_item(KEY)]
    )
    listed = listing(LOCK, log_format="dstack")
    not_accepted(judged(log, dstack(LOCK, KEY), events=listed), "another event than")


@pytest.mark.parametrize("policy", [NO_POLICY, MADE.policy(mrtd=f'"{OTHER.hex()}"')])
def test_measured_events_without_a_matching_tuple_leave_the_check_open(policy: Policy) -> None:
    result = judged(own(LOCK, KEY), policy=policy)
    assert check(result).status is Status.SKIP
    assert "no matching tuple says what may stand before the keys" in check(result).reason
    assert "EVENT-LOG" in open_checks(result)
    assert check(judged(own(KEY), policy=policy)).status is Status.PASS


def test_long_names_are_cut_in_reasons() -> None:
    log = EventLogRecord(format="dstack", data=[dstack_event("n" * 256, b""), dstack_item(KEY)])
    assert len(not_accepted(judged(log), "does not list").observed) < 100
