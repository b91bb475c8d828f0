"""Metrics and events have no place where content could go."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.receipt.claims import End
from gateway.edge.routes import PATHS
from gateway.telemetry.events import EVENTS, Events
from gateway.telemetry.metrics import ENDS, ROUTES, Metrics

CANARY = "Canary prompt text"


def emitted(event: str, **fields: object) -> dict[str, object]:
    stream = io.StringIO()
    Events(stream, lambda: 1_800_000_000.9).emit(event, **fields)
    (line,) = stream.getvalue().splitlines()
    found: dict[str, object] = json.loads(line)
    return found


def test_event_has_exactly_its_fields_and_a_time() -> None:
    line = emitted("listening", address="https://127.0.0.1:8443")
    assert line == {
        "address": "https://127.0.0.1:8443",
        "event": "listening",
        "time": 1_800_000_000,
    }


@pytest.mark.parametrize("event", sorted(EVENTS))
@pytest.mark.parametrize(
    "value", [CANARY, CANARY.encode(), ValueError(CANARY), [CANARY], None, 1.5]
)
def test_value_of_another_shape_is_hidden_in_every_field(event: str, value: object) -> None:
    line = emitted(event, **dict.fromkeys(EVENTS[event], value))
    assert [line[name] for name in EVENTS[event]] == ["?"] * len(EVENTS[event])


@given(st.text())
def test_text_in_a_log_line_is_one_line_of_a_closed_alphabet(text: str) -> None:
    for event, shapes in EVENTS.items():
        line = emitted(event, **dict.fromkeys(shapes, text))
        assert all(str(line[name]).isascii() and " " not in str(line[name]) for name in shapes)


@pytest.mark.parametrize(
    ("event", "fields"),
    [
        ("unknown.event", {}),
        ("listening", {}),
        ("listening", {"address": "https://a:1", "message": CANARY}),
    ],
)
def test_undeclared_event_or_field_cannot_be_written(event: str, fields: dict[str, object]) -> None:
    with pytest.raises(KeyError):
        emitted(event, **fields)


@given(st.text(min_size=1), st.text(min_size=1))
def test_label_outside_the_closed_set_becomes_other(route: str, end: str) -> None:
    metrics = Metrics()
    metrics.admitted("not a route " + route)
    metrics.sealed("not a route " + route, "not an end " + end)
    metrics.challenged("not a result " + route)
    rendered = metrics.render().decode()
    assert 'attested_receipts_total{end="other",route="other"} 1.0' in rendered
    assert "not a" not in rendered


def test_labels_are_exactly_the_routes_and_ends_of_the_protocol() -> None:
    assert PATHS == ROUTES
    assert {str(end) for end in End} == ENDS


def test_registry_belongs_to_its_gateway() -> None:
    one, two = Metrics(), Metrics()
    one.unauthenticated()
    assert "attested_unauthenticated_total 1.0" in one.render().decode()
    assert "attested_unauthenticated_total 0.0" in two.render().decode()


class FullDisk(io.StringIO):
    def write(self, _text: str) -> int:
        raise OSError(28, "No space left on device")


def test_log_that_takes_nothing_does_not_stop_what_is_being_reported() -> None:
    Events(FullDisk(), lambda: 0.0).emit("boot.ended", reason="log_failed")
