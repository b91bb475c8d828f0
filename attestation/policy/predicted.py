"""From predicted measurements (docs/spec/measurements.md) to an appraisal policy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attestation.errors import MalformedError
from attestation.measure.document import parse_measurements
from attestation.measure.prediction import Derivation, Platform
from attestation.policy.measurements_json import strict_head
from attestation.policy.parse import parse_policy
from attestation.policy.toml import toml_comment, toml_pair

if TYPE_CHECKING:
    from collections.abc import Iterator

    from attestation.measure.prediction import PredictedRegister, Prediction

_HOST_WORDS = {
    Derivation.GIVEN: "from files that the host is said to present",
    Derivation.OBSERVED: "from the event log of an earlier boot: trust on first use",
}
_RUNTIME = "rtmr3"


def import_predicted(data: bytes) -> str:
    """Return the text of a policy (TOML) that accepts exactly what was predicted.

    There is a tuple for each value that MRTD can have; RTMR3 is by replay, with the predicted
    events before the keys.  What was given or observed instead of computed is said in a comment.
    The result has been read back.  Raises `MalformedError` for a document that does not parse, is
    of a TPM, or leaves RTMR0, 1 or 2 without a value.
    """
    prediction = parse_measurements(data)
    if prediction.platform is not Platform.TDX:
        raise _refused("measurements of a TDX guest", "those of a TPM", "`attested measure tdx`")
    lines = [strict_head("attested-gateway")]
    for order, mrtd in prediction.mrtd.items():
        lines.append("[[reference_values]]")
        lines.append(toml_pair("name", f"predicted, pages {order.value}"))
        lines.append(toml_pair("mrtd", mrtd.hex()))
        lines += _registers(prediction)
        lines.append("")
    text = "\n".join(lines)
    parse_policy(text.encode())
    return text


def _registers(prediction: Prediction) -> Iterator[str]:
    for register in prediction.registers:
        if register.name == _RUNTIME:
            yield toml_pair(_RUNTIME, "replay")
            if register.events:
                events = [{"name": one.name, "digest": one.digest.hex()} for one in register.events]
                yield toml_pair("events", events)
        else:
            yield from map(toml_comment, _provenance(register))
            yield toml_pair(register.name, _value(register).hex())


def _provenance(register: PredictedRegister) -> Iterator[str]:
    for derivation, words in _HOST_WORDS.items():
        named = [one.name for one in register.events if one.derivation is derivation]
        if named:
            yield f"{', '.join(named)}: {words}"


def _value(register: PredictedRegister) -> bytes:
    if register.value is None:
        unknown = [one.name for one in register.events if one.derivation is Derivation.UNKNOWN]
        raise _refused(
            f"a value for {register.name}",
            f"unknown: {', '.join(unknown)}",
            "give `attested measure tdx` what the host presents (--acpi, --boot-variable), or the "
            "log of an earlier boot (--observed)",
        )
    return register.value


def _refused(expected: str, observed: str, hint: str) -> MalformedError:
    return MalformedError(
        "these measurements cannot be pinned",
        code="measurements",
        expected=expected,
        observed=observed,
        hint=hint,
    )
