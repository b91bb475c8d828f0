"""EVENT-LOG: every attack on a boot's event log has a refusal of its own."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.bundle import EventLogRecord
from attestation.encoding import base64url
from attestation.encoding.digest import Digest
from attestation.errors import AttestationError
from attestation.policy import NO_POLICY, Policy, parse_policy
from attestation.result import AttestationResult, Check, Status, Verdict
from attestation.tdx.eventlog import KeyEvent, MeasuredEvent, parse_runtime_events
from attestation.tdx.events import EventLog, replay
from attestation.tdx.logfile import parse_recorded
from attestation.tdx.quote import canonical_quote
from attestation.verifier.extensions import runtime_events
from tests.support.bundles import Gateway, failed, open_checks, the_check
from tests.tdx.test_ccel import header, record

RUNTIME = 0x08000001
MADE = Gateway()
DOMAIN = MADE.machine.domain
LOCK = MeasuredEvent(name="image.lock", sha256=Digest.of(b"model"))
ARGS = MeasuredEvent(name="boot.args", sha256=Digest.of(b"arguments"))
KEY = KeyEvent(bootseed=MADE.bootseed, keyset_digest=MADE.keyset.digest, n=1)
STRANGER = KeyEvent(bootseed=b"\x07" * 32, keyset_digest=Digest.of(b"other"), n=1)
OTHER = b"\x5a" * 48

Event = MeasuredEvent | KeyEvent


def own(*events: Event) -> EventLogRecord:
    return EventLogRecord(format="attested-gateway", data=[event.to_json() for event in events])


def dstack(*events: Event, **changes: Any) -> EventLogRecord:
    """The same events the way dstack logs them; RTMR0 to 2 untouched."""
    return EventLogRecord(format="dstack", data=[dstack_item(one) | changes for one in events])


def dstack_item(event: Event, register: int = 3) -> dict[str, Any]:
    return dstack_event(event.name, event.content) | {"imr": register}


def dstack_event(name: str, payload: bytes) -> dict[str, Any]:
    measured = RUNTIME.to_bytes(4, "little") + b":" + name.encode() + b":" + payload
    return {
        "imr": 3,
        "event_type": RUNTIME,
        "digest": hashlib.sha384(measured).hexdigest(),
        "event": name,
        "event_payload": payload.hex(),
    }


def ccel(*events: Event, platform: bytes = b"") -> EventLogRecord:
    """The same events as records of a CC event log, whose register index 4 is RTMR3."""
    records = b"".join(record(4, event.content, kind=6) for event in events)
    data = header() + platform + records
    return EventLogRecord(format="ccel", data=base64url.encode(data))


def listing(*events: Event, log_format: str = "attested-gateway") -> str:
    """The tuple's `events` for these."""
    items = [
        dstack_item(event)["digest"] if log_format == "dstack" else event.digest.hex()
        for event in events
    ]
    rows = [
        f'{{ name = "{event.name}", digest = "{digest}" }}'
        for event, digest in zip(events, items, strict=True)
    ]
    return f"[{', '.join(rows)}]"


def pins(registers: tuple[bytes, ...]) -> dict[str, str]:
    return {f"rtmr{at}": f'"{value.hex()}"' for at, value in enumerate(registers[:3])}


def judged(
    shown: EventLogRecord | None,
    true: EventLogRecord | None = None,
    *,
    policy: Policy | None = None,
    rtmr3: bytes | None = None,
    **keys: str,
) -> AttestationResult:
    """A boot that shows one log while its quote holds what `true` (or the same) replays to."""
    measured = true or shown
    assert measured is not None
    log = parse_recorded(measured.format, measured.data)
    registers = replay(log)
    if log.format == "attested-gateway":
        registers = (*DOMAIN.rtmrs[:3], registers[3])
    if rtmr3 is not None:
        registers = (*registers[:3], rtmr3)
    domain = replace(DOMAIN, rtmrs=registers)
    quote = replace_domain(domain)
    boot = replace(MADE.evidence, event_log=shown, quote=quote)
    wanted = policy or MADE.policy(**{**pins(registers), **keys})
    bundle = MADE.bundle(boots=[boot], receipts=[])
    return MADE.verify(bundle=bundle, policy=wanted, contents={})


def replace_domain(domain: Any) -> bytes:
    report_data = MADE.evidence.statement.report_data
    return canonical_quote(MADE.machine.quote(report_data, domain=domain))


def check(result: AttestationResult) -> Check:
    return the_check(result, "EVENT-LOG")


def refused(result: AttestationResult, verdict: Verdict, reason: str) -> Check:
    found = check(result)
    assert result.verdict is verdict
    assert failed(result) == {"EVENT-LOG"}
    assert reason in found.reason
    assert found.expected
    assert found.observed
    return found


def rejected(result: AttestationResult, reason: str) -> Check:
    return refused(result, Verdict.REJECTED, reason)


def not_accepted(result: AttestationResult, reason: str) -> Check:
    return refused(result, Verdict.NOT_ACCEPTED, reason)


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
    assert "EVENT-LOG" in open_checks(result)
    assert check(judged(own(KEY), policy=policy)).status is Status.PASS


def test_long_names_are_cut_in_reasons() -> None:
    log = EventLogRecord(format="dstack", data=[dstack_event("n" * 256, b""), dstack_item(KEY)])
    assert len(not_accepted(judged(log), "does not list").observed) < 100


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
