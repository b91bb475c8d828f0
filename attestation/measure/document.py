"""`measurements.json`: a prediction as a file that can be hashed, signed, pinned and compared.

Format: docs/spec/measurements.md.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from attestation.encoding.jcs import canonicalize, parse_canonical
from attestation.encoding.members import Members
from attestation.errors import MalformedError
from attestation.measure.mrtd import PageOrder
from attestation.measure.prediction import (
    Derivation,
    Input,
    Platform,
    PredictedEvent,
    PredictedRegister,
    Prediction,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from attestation.encoding.strict_json import JsonValue

SCHEMA = "attested-gateway/measurements/v1"
MAX_DOCUMENT_BYTES = 4 << 20
MAX_INPUTS = 256
MAX_REGISTER_EVENTS = 512

_TEXT = r"[\x20-\x7e]{1,200}"
_DIGEST = r"[0-9a-f]{96}"
_NAMES = {
    Platform.TDX: re.compile(r"rtmr[0-3]"),
    Platform.TPM: re.compile(r"pcr(?:[0-9]|1[0-9]|2[0-3])"),
}


def encode_measurements(prediction: Prediction) -> bytes:
    """Return the document: canonical JSON (JCS)."""
    value: JsonValue = {
        "inputs": [
            {"name": one.name, "sha256": one.sha256.hex, "size": one.size}
            for one in prediction.inputs
        ],
        "mrtd": {order.value: value.hex() for order, value in prediction.mrtd.items()},
        "platform": prediction.platform.value,
        "registers": [_register_json(one) for one in prediction.registers],
        "schema": SCHEMA,
        "settings": dict(prediction.settings),
    }
    return canonicalize(value)


def parse_measurements(data: bytes) -> Prediction:
    """Return the prediction in a document.

    1. canonical JSON of at most 4 MiB with the members of the format and no others
    2. a TDX document has both values of MRTD and RTMR0 to RTMR3 in order, of which the last is
       open; one for a TPM has no MRTD and at least one PCR, each once
    3. a digest is missing exactly where it is unknown
    4. the value of each register is that of its events

    Raises `MalformedError`.
    """
    if len(data) > MAX_DOCUMENT_BYTES:
        raise _refused(f"at most {MAX_DOCUMENT_BYTES} bytes", f"{len(data)} bytes")
    members = Members(parse_canonical(data, what="the measurements"), "measurements")
    members.text("schema", choices=(SCHEMA,))
    platform = Platform(members.text("platform", choices=[one.value for one in Platform]))
    prediction = Prediction(
        platform=platform,
        inputs=tuple(map(_input, members.array("inputs", max_items=MAX_INPUTS))),
        settings=_settings(members.mapping("settings")),
        mrtd=_mrtd(members.object("mrtd"), platform),
        registers=tuple(map(_register, members.array("registers", max_items=24))),
    )
    members.close()
    _require_registers(prediction)
    return prediction


def _register_json(register: PredictedRegister) -> JsonValue:
    value = register.value
    return {
        "events": [
            {
                "derivation": event.derivation.value,
                "digest": event.digest.hex() or None,
                "name": event.name,
                "source": event.source,
                "type": event.type,
            }
            for event in register.events
        ],
        "name": register.name,
        "open": register.open,
        "value": None if value is None else value.hex(),
    }


def _input(value: JsonValue) -> Input:
    members = Members(value, "input")
    one = Input(
        name=members.text("name", pattern=_TEXT),
        sha256=members.digest_hex("sha256"),
        size=members.integer("size"),
    )
    members.close()
    return one


def _settings(value: Mapping[str, JsonValue]) -> dict[str, str]:
    members = Members(dict(value), "settings")
    return {name: members.text(name, max_chars=1 << 16) for name in value}


def _mrtd(members: Members, platform: Platform) -> dict[PageOrder, bytes]:
    orders = PageOrder if platform is Platform.TDX else ()
    found = {order: _bytes(members, order.value) for order in orders}
    members.close()
    return found


def _register(value: JsonValue) -> PredictedRegister:
    members = Members(value, "register")
    register = PredictedRegister(
        name=members.text("name"),
        events=tuple(map(_event, members.array("events", max_items=MAX_REGISTER_EVENTS))),
        open=members.flag("open"),
    )
    told = None if members.is_null("value") else _bytes(members, "value")
    members.close()
    if told != register.value:
        raise _refused(f"the value of {register.name} that its events lead to", "another one")
    return register


def _event(value: JsonValue) -> PredictedEvent:
    members = Members(value, "event")
    event = PredictedEvent(
        type=members.integer("type", maximum=0xFFFFFFFF),
        name=members.text("name", pattern=_TEXT),
        digest=b"" if members.is_null("digest") else _bytes(members, "digest"),
        derivation=Derivation(
            members.text("derivation", choices=[one.value for one in Derivation])
        ),
        source=members.text("source", pattern=_TEXT),
    )
    members.close()
    if bool(event.digest) == (event.derivation is Derivation.UNKNOWN):
        raise _refused("a digest for every event but unknown ones", f"{event.name!a}")
    return event


def _require_registers(prediction: Prediction) -> None:
    names = [one.name for one in prediction.registers]
    fits = all(_NAMES[prediction.platform].fullmatch(name) for name in names)
    if prediction.platform is Platform.TDX:
        shapes = [(one.name, one.open) for one in prediction.registers]
        fits = shapes == [(f"rtmr{number}", number == 3) for number in range(4)]
    if not names or not fits or len(set(names)) != len(names):
        raise _refused(
            "rtmr0 to rtmr3, the last one open, or PCRs, each once", ascii(", ".join(names))[:80]
        )


def _bytes(members: Members, name: str) -> bytes:
    return bytes.fromhex(members.text(name, pattern=_DIGEST))


def _refused(expected: str, observed: str) -> MalformedError:
    return MalformedError(
        "the measurements are not usable",
        code="measurements",
        expected=expected,
        observed=observed,
        hint="`attested measure` writes them",
    )
