"""The gateway's own runtime log: measured events, then key events, every digest a proof."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.encoding.digest import Digest
from attestation.tdx.eventlog import (
    KeyEvent,
    MeasuredEvent,
    extend,
    parse_gateway_events,
    parse_key_events,
    parse_runtime_events,
    replay,
)
from attestation.tdx.runtime import parse_runtime_content
from tests.refusals import refusal
from tests.tdx import bench
from tests.tdx.test_collateral import json_values


def measured(name: str = "model.lock", **changes: Any) -> dict[str, Any]:
    return {"event": name, "sha256": "03" * 32, **changes}


def key(n: int = 1, **changes: Any) -> dict[str, Any]:
    event = {"bootseed": "01" * 32, "event": "receipt.key", "keyset_digest": "02" * 32, "n": n}
    return {**event, **changes}


def test_measured_event_is_measured_as_its_canonical_json() -> None:
    (event,) = parse_runtime_events([measured()])
    expected = json.dumps(measured(), separators=(",", ":"), sort_keys=True).encode()
    assert event == MeasuredEvent(name="model.lock", sha256=Digest(b"\x03" * 32))
    assert event.content == expected
    assert event.digest == hashlib.sha384(expected).digest()
    assert event.to_json() == measured()


def test_measured_events_come_before_the_keys_in_their_order() -> None:
    value = [measured("model.lock"), measured("engine.args"), key(1), key(2)]
    events = parse_runtime_events(value)
    assert [event.name for event in events] == [
        "model.lock",
        "engine.args",
        "receipt.key",
        "receipt.key",
    ]
    assert [event.to_json() for event in events] == value
    assert [type(event) for event in events] == [MeasuredEvent] * 2 + [KeyEvent] * 2


def test_log_replays_measured_events_and_keys_into_rtmr3() -> None:
    value = [measured("model.lock"), key()]
    log = parse_gateway_events(value)
    register = bytes(48)
    for event in parse_runtime_events(value):
        register = extend(register, event.digest)
    assert replay(log) == (bytes(48), bytes(48), bytes(48), register)
    assert log.format == "attested-gateway"
    assert [event.name for event in log.events] == ["model.lock", "receipt.key"]
    assert all(event.content == event.data and event.register == 3 for event in log.events)
    assert all(
        hashlib.sha384(event.content or b"").digest() == event.digest for event in log.events
    )


def test_same_thing_measured_with_another_digest_is_another_event() -> None:
    (one,) = parse_runtime_events([measured()])
    (other,) = parse_runtime_events([measured(sha256="04" * 32)])
    (renamed,) = parse_runtime_events([measured("model.lock2")])
    assert len({one.digest, other.digest, renamed.digest}) == 3


@pytest.mark.parametrize(
    "value",
    [
        [key(), measured()],
        [measured("a"), key(1), measured("b"), key(2)],
        [measured("a"), measured("b"), measured("a")],
        [measured("a"), key(1), key(3)],
        [key(1), {"event": 1}],
    ],
)
def test_event_out_of_its_place_is_refused(value: list[Any]) -> None:
    assert refusal(parse_runtime_events, value) == "event_log"
    assert refusal(parse_gateway_events, value) == "event_log"


def test_log_of_keys_holds_nothing_else() -> None:
    assert refusal(parse_key_events, [measured()]) == "event_log"
    assert refusal(parse_key_events, [measured(), key()]) == "event_log"


@pytest.mark.parametrize(
    "name", ["", ".a", "-a", "A", "model lock", "model\n", "x" * 65, "modèle", "a_b"]
)
def test_name_outside_the_pattern_is_refused(name: str) -> None:
    assert refusal(parse_runtime_events, [measured(name)]) == "event_log"


@pytest.mark.parametrize("name", ["a", "0", "model.lock", "engine-args.2", "x" * 64])
def test_name_inside_the_pattern_is_read(name: str) -> None:
    assert parse_runtime_events([measured(name)])[0].name == name


def test_measured_event_cannot_be_called_like_a_key() -> None:
    digest = Digest(bytes(32))
    assert refusal(MeasuredEvent, name="receipt.key", sha256=digest) == "event_log"
    assert refusal(parse_runtime_events, [measured("receipt.key")]) == "missing_member"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"sha256": "03" * 31}, "digest"),
        ({"sha256": "0A" * 32}, "digest"),
        ({"sha256": None}, "member_type"),
        ({"event": 1}, "member_type"),
        ({"extra": 1}, "unknown_member"),
        ({"n": 1}, "unknown_member"),
    ],
)
def test_measured_event_out_of_bounds_is_refused(change: dict[str, Any], code: str) -> None:
    assert refusal(parse_runtime_events, [measured(**change)]) == code


@pytest.mark.parametrize("name", ["event", "sha256"])
def test_measured_event_that_lacks_a_member_is_refused(name: str) -> None:
    item = measured()
    del item[name]
    assert refusal(parse_runtime_events, [item]) == "missing_member"


@pytest.mark.parametrize("item", [None, "model.lock", 1, [], {}])
def test_item_that_is_no_event_is_refused(item: Any) -> None:
    assert refusal(parse_runtime_events, [item]) in ("member_type", "missing_member")
    assert refusal(parse_runtime_events, [key(), item]) in ("member_type", "missing_member")


def test_longest_log_is_read_and_a_longer_one_is_not() -> None:
    longest = [measured(f"m{n}") for n in range(10_000)]
    assert len(parse_runtime_events(longest)) == 10_000
    assert refusal(parse_runtime_events, [*longest, key()]) == "event_log"


@given(json_values)
def test_arbitrary_json_is_a_runtime_log_or_refused(value: Any) -> None:
    outcome = bench.outcome(parse_runtime_events, value)
    assert outcome == ("accepted" if value == [] else outcome)
    assert value == [] or outcome in ("event_log", "member_type", "missing_member")


@given(
    st.lists(st.sampled_from(["a", "b", "model.lock"]), max_size=4),
    st.lists(st.integers(0, 5), max_size=4),
)
def test_log_of_any_events_in_order_is_read_back_or_refused(
    names: list[str], numbers: list[int]
) -> None:
    value = [*map(measured, names), *map(key, numbers)]
    gapless = all(n == numbers[0] + i for i, n in enumerate(numbers))
    if len(set(names)) == len(names) and gapless:
        assert [event.to_json() for event in parse_runtime_events(value)] == value
    else:
        assert refusal(parse_runtime_events, value) == "event_log"


@pytest.mark.parametrize("value", [measured(), key(7)])
def test_measured_content_is_read_back(value: dict[str, Any]) -> None:
    (event,) = parse_runtime_events([value])
    assert parse_runtime_content(event.content) == event
    assert refusal(parse_runtime_content, event.content + b" ") == "not_canonical"
    assert refusal(parse_runtime_content, event.content[:-1]) == "syntax"


@pytest.mark.parametrize("content", [b"[]", b"{}", b"1", b'{"event":"receipt.key"}'])
def test_measured_content_of_another_kind_is_refused(content: bytes) -> None:
    assert refusal(parse_runtime_content, content) in ("member_type", "missing_member")
