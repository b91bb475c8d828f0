"""Event logs in JSON: replay is arithmetic, content is proven or only claimed."""

from __future__ import annotations

import hashlib
import json
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.encoding.digest import Digest
from attestation.tdx import dcap, eventlog
from attestation.tdx.eventlog import (
    Event,
    EventLog,
    KeyEvent,
    extend,
    parse_dstack,
    parse_gateway_events,
    parse_key_events,
    replay,
)
from tests.refusals import refusal
from tests.tdx import bench
from tests.tdx.test_collateral import json_values

RUNTIME = 0x08000001
ZERO = bytes(48)


def sha384(*parts: bytes) -> bytes:
    return hashlib.sha384(b"".join(parts)).digest()


def dstack(**changes: Any) -> dict[str, Any]:
    event = {"imr": 0, "event_type": 4, "digest": "ab" * 48, "event": "", "event_payload": ""}
    return {**event, **changes}


def key_event(n: int = 0, **changes: Any) -> dict[str, Any]:
    event = {"bootseed": "01" * 32, "event": "receipt.key", "keyset_digest": "02" * 32, "n": n}
    return {**event, **changes}


def test_empty_log_replays_to_zero() -> None:
    assert replay(EventLog(format="dstack", events=())) == (ZERO,) * 4
    assert replay(parse_dstack([])) == replay(parse_gateway_events([])) == (ZERO,) * 4


def test_log_of_json_events_has_no_record_without_effect() -> None:
    assert parse_dstack([dstack()]).unmeasured == 0
    assert parse_gateway_events([key_event()]).unmeasured == 0


@pytest.mark.parametrize("module", [eventlog, dcap])
def test_every_exported_name_exists(module: ModuleType) -> None:
    assert [name for name in module.__all__ if not hasattr(module, name)] == []


def test_each_event_extends_its_own_register_in_order() -> None:
    first, second = sha384(b"1"), sha384(b"2")
    log = parse_dstack(
        [
            dstack(imr=1, digest=first.hex()),
            dstack(imr=3, digest=second.hex()),
            dstack(imr=1, digest=second.hex()),
        ]
    )
    expected = sha384(sha384(ZERO, first), second)
    assert replay(log) == (ZERO, expected, ZERO, sha384(ZERO, second))
    reordered = EventLog(format="dstack", events=log.events[::-1])
    assert replay(reordered)[1] == sha384(sha384(ZERO, second), first) != expected


def test_extension_is_the_hash_of_old_value_and_digest() -> None:
    assert extend(ZERO, ZERO) == hashlib.sha384(bytes(96)).digest()


def test_register_with_an_unstated_digest_cannot_be_replayed() -> None:
    log = parse_dstack([dstack(imr=2), dstack(imr=2, digest=""), dstack(imr=2), dstack(imr=0)])
    registers = replay(log)
    assert registers[2] == b""
    assert registers[0] == extend(ZERO, b"\xab" * 48)


def test_dstack_fields_are_read() -> None:
    (event,) = parse_dstack(
        [dstack(imr=3, event_type=RUNTIME, event="app-id", event_payload="00ff")]
    ).events
    assert event == Event(
        register=3, digest=b"\xab" * 48, type=RUNTIME, name="app-id", data=b"\x00\xff", content=None
    )


def test_firmware_event_is_proven_if_its_digest_is_that_of_its_data() -> None:
    data = b"separator"
    item = dstack(digest=sha384(data).hex(), event_payload=data.hex())
    assert parse_dstack([item]).events[0].content == data
    assert parse_dstack([item | {"imr": 1}]).events[0].content == data
    assert parse_dstack([item | {"event_payload": "00"}]).events[0].content is None


def test_runtime_event_is_proven_with_its_type_and_name() -> None:
    digest = sha384(RUNTIME.to_bytes(4, "little"), b":", b"compose-hash", b":", b"\x01\x02")
    item = dstack(
        imr=3,
        event_type=RUNTIME,
        event="compose-hash",
        digest=digest.hex(),
        event_payload="0102",
    )
    assert parse_dstack([item]).events[0].content == b"\x01\x02"
    for change in ({"event": "app-id"}, {"event_payload": "0103"}, {"event_type": RUNTIME + 1}):
        assert parse_dstack([item | change]).events[0].content is None


def test_name_that_could_be_split_elsewhere_proves_nothing() -> None:
    digest = sha384(RUNTIME.to_bytes(4, "little"), b":receipt.key:a:b")
    item = dstack(imr=3, event_type=RUNTIME, event="receipt.key", digest=digest.hex())
    assert parse_dstack([item | {"event_payload": b"a:b".hex()}]).events[0].content == b"a:b"
    moved = item | {"event": "receipt.key:a", "event_payload": b"b".hex()}
    assert parse_dstack([moved]).events[0].content is None


def test_event_without_digest_proves_nothing() -> None:
    assert parse_dstack([dstack(digest="")]).events[0].content is None


@pytest.mark.parametrize(
    "change",
    [
        {"imr": 4},
        {"imr": -1},
        {"event_type": -1},
        {"event_type": 1 << 32},
        {"digest": "ab" * 47},
        {"digest": "AB" * 48},
        {"digest": "ab" * 48 + "\n"},
        {"event_payload": "0"},
        {"event_payload": "zz"},
        {"event_payload": "00" * (64 * 1024 + 1)},
        {"event": "x" * 257},
    ],
)
def test_dstack_event_out_of_bounds_is_refused(change: dict[str, Any]) -> None:
    assert refusal(parse_dstack, [dstack(**change)]) == "member_value"


@pytest.mark.parametrize("name", ["imr", "event_type", "digest", "event", "event_payload"])
def test_dstack_event_that_lacks_a_member_is_refused(name: str) -> None:
    item = dstack()
    del item[name]
    assert refusal(parse_dstack, [item]) == "missing_member"
    assert refusal(parse_dstack, [dstack(**{name: None})]) == "member_type"


def test_unknown_member_of_an_event_is_refused() -> None:
    assert refusal(parse_dstack, [dstack(extra=1)]) == "unknown_member"
    assert refusal(parse_gateway_events, [key_event(extra=1)]) == "unknown_member"


@pytest.mark.parametrize("parse", [parse_dstack, parse_gateway_events])
@pytest.mark.parametrize("value", [None, {}, "[]", 1])
def test_log_that_is_no_array_is_refused(parse: Any, value: Any) -> None:
    assert refusal(parse, value) == "event_log"


def test_longest_log_is_read_and_a_longer_one_is_not() -> None:
    assert len(parse_dstack([dstack()] * 10_000).events) == 10_000
    assert refusal(parse_dstack, [dstack()] * 10_001) == "event_log"


def test_largest_payload_is_read() -> None:
    assert parse_dstack([dstack(event_payload="00" * 64 * 1024)]).events[0].data == bytes(64 * 1024)


def test_key_event_is_measured_as_its_canonical_json() -> None:
    expected = json.dumps(key_event(7), separators=(",", ":"), sort_keys=True).encode()
    (event,) = parse_key_events([key_event(7)])
    assert event == KeyEvent(bootseed=b"\x01" * 32, keyset_digest=Digest(b"\x02" * 32), n=7)
    assert event.content == expected
    assert event.digest == sha384(expected)
    assert event.to_json() == key_event(7)


def test_gateway_log_extends_rtmr3_only() -> None:
    log = parse_gateway_events([key_event(0), key_event(1)])
    first, second = (sha384(event.content or b"") for event in log.events)
    assert replay(log) == (ZERO, ZERO, ZERO, sha384(sha384(ZERO, first), second))
    assert log.format == "attested-gateway"
    assert [event.name for event in log.events] == ["receipt.key"] * 2
    assert all(event.data == event.content and event.type == 0 for event in log.events)


@pytest.mark.parametrize("numbers", [(0, 0), (0, 2), (1, 0), (3, 5)])
def test_starts_that_do_not_follow_each_other_are_refused(numbers: tuple[int, ...]) -> None:
    assert refusal(parse_gateway_events, [key_event(n) for n in numbers]) == "event_log"


@pytest.mark.parametrize("first", [0, 1, 5])
def test_starts_may_begin_at_any_number(first: int) -> None:
    numbers = [event.n for event in parse_key_events([key_event(first), key_event(first + 1)])]
    assert numbers == [first, first + 1]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"event": "receipt.kex"}, "missing_member"),
        ({"event": ""}, "missing_member"),
        ({"n": -1}, "member_value"),
        ({"n": 1 << 53}, "member_value"),
        ({"n": True}, "member_type"),
        ({"n": 0.0}, "member_type"),
        ({"bootseed": "01" * 31}, "digest"),
        ({"bootseed": "0A" * 32}, "digest"),
        ({"keyset_digest": ""}, "digest"),
        ({"keyset_digest": None}, "member_type"),
    ],
)
def test_key_event_out_of_bounds_is_refused(change: dict[str, Any], code: str) -> None:
    assert refusal(parse_gateway_events, [key_event(**change)]) == code


@given(json_values)
def test_arbitrary_json_is_a_log_or_refused(value: Any) -> None:
    for parse in (parse_dstack, parse_gateway_events):
        outcome = bench.outcome(parse, value)
        assert outcome == ("accepted" if value == [] else outcome)
        assert value == [] or outcome in ("event_log", "member_type", "missing_member")


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "imr": st.integers(-1, 5),
                "event_type": st.sampled_from([3, 4, RUNTIME]),
                "digest": st.sampled_from(["", "ab" * 48, "zz"]),
                "event": st.text(st.characters(), max_size=5),
                "event_payload": st.binary(max_size=4).map(bytes.hex),
            }
        ),
        max_size=5,
    )
)
def test_log_of_any_events_is_read_or_refused(value: list[Any]) -> None:
    assert bench.outcome(parse_dstack, value) in ("accepted", "member_value")


def test_name_with_half_a_character_is_hashed_without_an_error() -> None:
    item = dstack(imr=3, event_type=RUNTIME, event="\ud800")
    assert parse_dstack([item]).events[0].content is None
