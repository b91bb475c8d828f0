"""What a monitor's state may hold: bounds by their own reason, and not tighter than they say."""

from __future__ import annotations

import json

import pytest

from attestation.encoding import jcs
from attestation.log import MonitorState, parse_state, read_checkpoint, state
from tests.refusals import refusal
from tests.support.tiled_logs import TiledLog, gateway_entries

LONG = TiledLog(entries=gateway_entries(3), origin="gateway." + "example." * 26 + "com/ffff")
KNOWN = MonitorState().remember(
    LONG.vkey, read_checkpoint(LONG.note(3), LONG.vkey), address="/data/" + "x" * 400, accepted=True
)


def test_long_names_and_addresses_survive() -> None:
    assert parse_state(KNOWN.encode()) == KNOWN


@pytest.mark.parametrize("name", ["logs", "addresses"])
def test_number_of_logs_and_addresses_is_bounded(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert parse_state(KNOWN.encode()) == KNOWN
    document = json.loads(KNOWN.encode())
    other = {"logs": "addresses", "addresses": "logs"}[name]
    document[other] = []
    monkeypatch.setattr(state, "_MAX_LOGS", 0)
    assert refusal(parse_state, jcs.canonicalize(document)) == "member_value"
