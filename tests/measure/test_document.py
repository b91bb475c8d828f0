"""`measurements.json`: what is written is read, and nothing else is."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from attestation.encoding.jcs import canonicalize
from attestation.errors import MalformedError
from attestation.measure.document import (
    MAX_DOCUMENT_BYTES,
    encode_measurements,
    parse_measurements,
)
from attestation.measure.prediction import Prediction, described
from attestation.policy.parse import parse_policy
from attestation.policy.predicted import import_predicted
from tests.measure import machines

GUEST = machines.tdx()


@pytest.mark.parametrize(
    "prediction",
    [
        GUEST,
        machines.tdx(host=machines.NOTHING),
        machines.tdx(machines.kernel_boot()),
        machines.tpm(),
        machines.tpm(host=machines.NOTHING),
    ],
)
def test_document_reads_back_as_it_was(prediction: Prediction) -> None:
    data = encode_measurements(prediction)
    assert parse_measurements(data) == prediction
    assert encode_measurements(parse_measurements(data)) == data


def test_inputs_are_recorded_by_digest_and_size() -> None:
    one = described("UKI", b"image")
    assert (one.name, one.size, one.sha256.hex[:8]) == ("UKI", 5, "6105d6cc")


def changed(change: Callable[[dict[str, Any]], object], prediction: Prediction = GUEST) -> bytes:
    value = json.loads(encode_measurements(prediction))
    change(value)
    return canonicalize(value)


def event(value: dict[str, Any], register: int = 0, at: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = value["registers"][register]["events"][at]
    return found


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v.update(schema="attested-gateway/measurements/v2"),
        lambda v: v.update(platform="sev"),
        lambda v: v.update(more=1),
        lambda v: v.pop("mrtd"),
        lambda v: v["mrtd"].pop("two-pass"),
        lambda v: v["mrtd"].update({"two-pass": "00"}),
        lambda v: v["mrtd"].update(third="00" * 48),
        lambda v: v["settings"].update(memory=4),
        lambda v: v["inputs"].append({"name": "x", "sha256": "00", "size": 1}),
        lambda v: v["inputs"].append({"name": "", "sha256": "00" * 32, "size": 1}),
        lambda v: v["inputs"].append({"name": "x", "sha256": "00" * 32, "size": 1, "more": 1}),
        lambda v: v["registers"].pop(),
        lambda v: v["registers"].clear(),
        lambda v: v["registers"].append(v["registers"][0]),
        lambda v: v["registers"].reverse(),
        lambda v: v["registers"][0].update(name="rtmr4"),
        lambda v: v["registers"][0].update(value="00" * 48),
        lambda v: v["registers"][0].update(value=None),
        lambda v: v["registers"][3].update(open=False),
        lambda v: v["registers"][0].update(open=True, value=None),
        lambda v: v["registers"][0].update(more=1),
        lambda v: event(v).update(digest="11" * 48),
        lambda v: event(v).update(digest=None),
        lambda v: event(v).update(derivation="unknown"),
        lambda v: event(v).update(derivation="guessed"),
        lambda v: event(v).update(name="caf\u00e9"),
        lambda v: event(v).update(source=""),
        lambda v: event(v).update(type=1 << 32),
        lambda v: event(v).update(more=1),
        lambda v: v["registers"][0]["events"].extend(v["registers"][0]["events"] * 64),
    ],
)
def test_changed_document_is_refused(change: Callable[[dict[str, Any]], object]) -> None:
    with pytest.raises(MalformedError):
        parse_measurements(changed(change))


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v["mrtd"].update({"two-pass": "00" * 48}),
        lambda v: v["registers"].append(v["registers"][0]),
        lambda v: v["registers"].clear(),
        lambda v: v["registers"][0].update(name="pcr24"),
        lambda v: v.update(platform="tdx"),
    ],
)
def test_changed_document_of_a_tpm_is_refused(change: Callable[[dict[str, Any]], object]) -> None:
    with pytest.raises(MalformedError):
        parse_measurements(changed(change, machines.tpm()))


def test_document_that_is_too_large_or_not_canonical_is_refused() -> None:
    with pytest.raises(MalformedError, match="at most"):
        parse_measurements(bytes(MAX_DOCUMENT_BYTES + 1))
    with pytest.raises(MalformedError, match="canonical"):
        parse_measurements(encode_measurements(GUEST) + b"\n")


def test_policy_pins_each_value_of_mrtd_with_all_registers() -> None:
    text = import_predicted(encode_measurements(GUEST))
    policy = parse_policy(text.encode())
    assert [one.mrtd for one in policy.reference_values] == list(GUEST.mrtd.values())
    for one in policy.reference_values:
        values = [register.value for register in GUEST.registers[:3]]
        assert [one.rtmr0, one.rtmr1, one.rtmr2] == values
        assert one.rtmr3 is None
        wanted = [(event.name, event.digest) for event in GUEST.registers[3].events]
        assert [(event.name, event.digest) for event in one.events] == wanted
    assert "ACPI loader, ACPI rsdp, ACPI tables, variable BootOrder" in text
    assert "from files that the host is said to present" in text


def test_policy_without_runtime_events_lists_none() -> None:
    data = changed(lambda v: v["registers"][3]["events"].clear())
    assert parse_policy(import_predicted(data).encode()).reference_values[0].events == ()


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        (machines.tdx(host=machines.NOTHING), "a value for rtmr0"),
        (machines.tpm(), "measurements of a TDX guest"),
    ],
)
def test_what_is_open_or_of_a_tpm_cannot_be_pinned(prediction: Prediction, expected: str) -> None:
    with pytest.raises(MalformedError, match="cannot be pinned") as caught:
        import_predicted(encode_measurements(prediction))
    assert expected in str(caught.value)
