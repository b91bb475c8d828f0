"""Targets and seeds of what people write: policies, cases for them, lists of measurements."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import PurePosixPath

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attestation.merkle.note import Vkey, parse_vkey
from attestation.merkle.note_key import NoteKey, encode_note_key, parse_note_key
from attestation.policy import parse_policy, read_signed_policy
from attestation.policy.cases import parse_cases
from attestation.policy.lint import lint_policy
from attestation.policy.measurements_json import MAX_TUPLES, import_measurements
from attestation.policy.signature import (
    parse_policy_signature,
    sign_policy,
    signed_text,
    version_numbers,
)
from attestation.tdx.endorsed import Endorsed, SignedPart
from attestation.verifier import HighWater, parse_high_water
from tests.fuzz import seeds

_KEY, _OTHER = (
    NoteKey(name=name, private=Ed25519PrivateKey.from_private_bytes(name.encode() * 8))
    for name in ("ours", "them")
)
_MOST_NUMBERS = 8
_NOON = 1_790_000_000
_CASES = """schema = "policy-cases/1"
policy = "policy.toml"
[[cases]]
name = "one"
bundle = "a/bundle.json"
endorsements = ["c.json"]
high_water = "m.json"
roots = ["root.pem"]
at = 2026-09-30T12:00:00Z
verdict = "NOT-ACCEPTED"
receipt = "0123456789abcdef0123456789abcdef"
request = "r"
response = "s"
nonce = "n"
checks = { QUOTE-GENUINE = "pass" }
failing = ["TCB-STATUS"]
[[cases]]
name = "two"
quote = "q.bin"
collateral = "c.json"
at = 1
verdict = "ACCEPTED"
policy = "b/p.toml"
"""


def run_policy(data: bytes) -> None:
    policy = parse_policy(data)
    assert policy.reference_values
    assert policy.required
    assert all(found.meaning and found.path for found in lint_policy(policy, _NOON))


def run_cases(data: bytes) -> None:
    parsed = parse_cases(data)
    for case in parsed.cases:
        named = [case.bundle, case.quote, case.collateral, case.policy, case.request]
        named.append(case.high_water)
        for name in [*named, case.response, parsed.policy, *case.roots, *case.endorsements]:
            path = PurePosixPath(name or "a")
            assert not path.is_absolute()
            assert ".." not in path.parts
        assert (case.bundle is None) != (case.quote is None)


def run_measurements(data: bytes) -> None:
    values = parse_policy(import_measurements(data).encode()).reference_values
    assert 1 <= len(values) <= MAX_TUPLES
    shown = data.lower()
    for one in values:
        registers = (one.mrtd, one.rtmr0, one.rtmr1, one.rtmr2, one.rtmr3 or one.mrtd)
        # What is accepted stands in the source; an escaped digit hides from this search.
        assert b"\\u" in data or all(each.hex().encode() in shown for each in registers)


def run_high_water(data: bytes) -> None:
    known = parse_high_water(data)
    assert known.encode() == data
    assert known.raised(known.seen.values()) == known


def high_water() -> list[bytes]:
    part = SignedPart(number=20, issued=_NOON)
    one = Endorsed(root="intel", fmspc=bytes(6), tcb_info=part, qe_identity=part)
    other = replace(one, root="simulated:" + "ab" * 32)
    mark = HighWater().raised([one, other])
    return [mark.encode(), mark.after(read_signed_policy(*_signed())).encode()]


def cases() -> list[bytes]:
    return [_CASES.encode()]


def measurements() -> list[bytes]:
    registers = {
        "0": {"expected": "00" * 48},
        "rtmr0": {"expected_any": ["11" * 48, "12" * 48]},
        "RTMR1": {"expected": "22" * 48, "warnOnly": False},
        "3": {"expected_any": ["33" * 48]},
    }
    entry = {"measurement_id": "m", "attestation_type": "dcap-tdx", "measurements": registers}
    full = entry | {"measurement_id": "n"}
    full["measurements"] = registers | {"rtmr3": {"expected": "44" * 48}}
    return [json.dumps([entry, full]).encode()]


def run_signature(data: bytes) -> None:
    """Whatever a signature file becomes: only the text that was signed is authentic."""
    signature = parse_policy_signature(data)
    assert signature.note.encode().encode() == data
    assert len(version_numbers(signature.version)) <= _MOST_NUMBERS
    policy = read_signed_policy(_policy(), data, [parse_vkey(_KEY.vkey)])
    assert policy.signatures == read_signed_policy(*_signed()).signatures
    assert signature.note.text == signed_text(policy)


def _policy() -> bytes:
    return b'version = "1.4"\n' + seeds.policy()


def _signed() -> tuple[bytes, bytes, list[Vkey]]:
    data = _policy()
    return data, sign_policy(parse_policy(data), [_KEY]).encode(), [parse_vkey(_KEY.vkey)]


def signatures() -> list[bytes]:
    one = _signed()[1]
    return [one, sign_policy(parse_policy(_policy()), [_OTHER, _KEY]).encode()]


def run_note_key(data: bytes) -> None:
    assert encode_note_key(parse_note_key(data)) == data


def note_keys() -> list[bytes]:
    return [encode_note_key(_KEY)]
