"""What a monitor remembers survives as it was, and is checked again when it is read."""

from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attestation.encoding import jcs
from attestation.errors import EvidenceError
from attestation.log import MonitorState, SignedCheckpoint, parse_state, read_checkpoint
from tests.refusals import refusal
from tests.support.tiled_logs import ORIGIN, TiledLog, gateway_entries

LOG = TiledLog(entries=gateway_entries(20))
OTHER = TiledLog(entries=gateway_entries(9), origin="gateway.example/ffff")


def signed(log: TiledLog, size: int) -> SignedCheckpoint:
    return read_checkpoint(log.note(size), log.vkey)


STATE = (
    MonitorState()
    .remember(OTHER.vkey, signed(OTHER, 9), address="/data", accepted=False)
    .remember(LOG.vkey, signed(LOG, 12), address="https://gateway/v1/log", accepted=True)
)


def test_state_is_written_and_read() -> None:
    again = parse_state(STATE.encode())
    assert again == STATE
    assert again.last(LOG.vkey) == signed(LOG, 12)
    assert again.last(OTHER.vkey) == signed(OTHER, 9)


def test_log_never_seen_has_no_last_checkpoint() -> None:
    assert MonitorState().last(LOG.vkey) is None
    assert parse_state(MonitorState().encode()) == MonitorState()


def test_later_checkpoint_takes_the_place_of_the_earlier_one() -> None:
    later = STATE.remember(LOG.vkey, signed(LOG, 20), address="/data", accepted=True)
    assert later.addresses == STATE.addresses
    assert later.last(LOG.vkey) == signed(LOG, 20)
    assert later.last(OTHER.vkey) == signed(OTHER, 9)


def test_state_tells_which_logs_are_accepted_and_where_logs_were_seen() -> None:
    again = parse_state(STATE.encode())
    assert again.addresses == {"/data", "https://gateway/v1/log"}
    assert again.accepts(LOG.vkey.name)
    assert not again.accepts(OTHER.vkey.name)
    assert not again.accepts("gateway.example/never")


def test_log_that_comes_back_with_another_key_is_refused() -> None:
    key = Ed25519PrivateKey.from_private_bytes(b"\x08" * 32)
    imposter = TiledLog(entries=gateway_entries(30), key=key)
    assert refusal(STATE.last, imposter.vkey, error=EvidenceError) == "log_key"


def test_checkpoint_a_successor_names_is_found_with_what_was_seen() -> None:
    assert STATE.predecessor(LOG.note(15)) == (signed(LOG, 12), signed(LOG, 15))
    assert STATE.predecessor(TiledLog(entries=[], origin="gateway.example/eeee").note(0)) is None


def test_checkpoint_a_successor_names_must_be_the_log_s_own() -> None:
    key = Ed25519PrivateKey.from_private_bytes(b"\x08" * 32)
    forged = TiledLog(entries=gateway_entries(30), key=key).note(30)
    assert refusal(STATE.predecessor, forged, error=EvidenceError) == "note_signature"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"schema": "attested-gateway/log-monitor/v1"}, "member_value"),
        ({"logs": {}}, "member_type"),
        ({"logs": [7]}, "member_type"),
        ({"logs": [{"note": "x", "vkey": LOG.vkey_text, "accepted": True}]}, "note"),
        ({"logs": [{"note": LOG.note(3), "vkey": LOG.vkey_text}]}, "missing_member"),
        ({"logs": [{"note": "", "vkey": LOG.vkey_text, "accepted": 1}]}, "member_type"),
        ({"addresses": [7]}, "member_type"),
        ({"addresses": ["b", "a"]}, "order"),
        ({"addresses": ["a", "a"]}, "order"),
        ({"logs": [{"note": LOG.note(3), "vkey": "x"}]}, "vkey"),
        (
            {"logs": [{"note": LOG.note(3), "vkey": LOG.vkey_text, "accepted": True, "x": 1}]},
            "unknown_member",
        ),
        ({"logs": [{"note": LOG.note(3)}]}, "missing_member"),
        ({"logs": json.loads(STATE.encode())["logs"][::-1]}, "order"),
        ({"logs": json.loads(STATE.encode())["logs"][:1] * 2}, "order"),
        ({"more": 1}, "unknown_member"),
    ],
)
def test_state_of_another_form_is_refused(change: dict[str, object], code: str) -> None:
    assert refusal(parse_state, jcs.canonicalize(json.loads(STATE.encode()) | change)) == code


def test_state_that_is_no_json_is_refused() -> None:
    refusal(parse_state, b"")
    refusal(parse_state, STATE.encode() + b"\n")


def test_state_whose_checkpoint_was_rewritten_is_refused() -> None:
    data = STATE.encode().replace(rb"\n12\n", rb"\n11\n")
    assert data != STATE.encode()
    assert refusal(parse_state, data, error=EvidenceError) == "note_signature"


def test_origins_that_begin_alike_are_two_logs() -> None:
    longer = TiledLog(entries=[], origin=ORIGIN + "0")
    assert STATE.predecessor(longer.note(0)) is None
