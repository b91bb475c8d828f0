"""Why the registers of a quote are not those that were predicted: the first event that differs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from attestation.errors import UsageError
from attestation.measure.compare import compare_log, events_by_register
from attestation.measure.prediction import Derivation, Platform
from attestation.tdx.divergence import find_mismatch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attestation.measure.compare import ComparedRegister
    from attestation.measure.prediction import PredictedRegister, Prediction
    from attestation.tdx.events import EventLog


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """How one register of a quote stands: `agrees` None where that cannot be said."""

    register: str
    agrees: bool | None
    words: str


def require_tdx(prediction: Prediction) -> Prediction:
    """Return the prediction if it is of a TDX guest, or raise `UsageError`."""
    if prediction.platform is not Platform.TDX:
        raise UsageError(
            "these measurements are those of a TPM",
            code="measurements",
            expected="measurements of a TDX guest (attested measure tdx)",
            hint="`attested measure compare` holds the log of a TPM against them",
        )
    return prediction


def explain_registers(
    prediction: Prediction, mrtd: bytes, rtmrs: Sequence[bytes], log: EventLog | None
) -> tuple[Explained, ...]:
    """Return how MRTD and RTMR0 to RTMR3 of a quote, 48 bytes each, compare with a prediction.

    A log names the event that differs, and counts only for registers whose quoted value it
    replays to: another one says nothing about this quote.
    """
    found = [_explain_mrtd(prediction, mrtd)]
    compared = {} if log is None else dict(_compared(prediction, rtmrs, log))
    for register, value in zip(prediction.registers, rtmrs, strict=True):
        found.append(compared.get(register.name) or _explain_value(register, value))
    return tuple(found)


def _explain_mrtd(prediction: Prediction, mrtd: bytes) -> Explained:
    for order, value in prediction.mrtd.items():
        if value == mrtd:
            words = f"mrtd: as predicted for pages {order.value}"
            return Explained(register="mrtd", agrees=True, words=words)
    words = "mrtd is not that of the firmware: another file, or an order of pages nobody knows"
    return Explained(register="mrtd", agrees=False, words=words)


def _compared(
    prediction: Prediction, rtmrs: Sequence[bytes], log: EventLog
) -> list[tuple[str, Explained]]:
    replayed = {
        f"rtmr{at}" for at, value in enumerate(rtmrs) if find_mismatch(log.of(at), value) is None
    }
    return [
        (one.name, Explained(register=one.name, agrees=_agrees(one), words=one.explanation))
        for one in compare_log(prediction, events_by_register(log))
        if one.name in replayed
    ]


def _agrees(compared: ComparedRegister) -> bool | None:
    """Events whose digests nobody predicted may be any: then it cannot be said."""
    if compared.first_difference is not None:
        return False
    return True if compared.settled else None


def _explain_value(register: PredictedRegister, value: bytes) -> Explained:
    """Compare values alone: a hash chain does not say which event differs."""
    name = register.name
    if register.open:
        words = f"{name}: only a log that replays to it says what is in it"
        return Explained(register=name, agrees=None, words=words)
    if register.value is None:
        unknown = [one.name for one in register.events if one.derivation is Derivation.UNKNOWN]
        words = f"{name}: no value was predicted; unknown: {', '.join(unknown)}"
        return Explained(register=name, agrees=None, words=words)
    if register.value == value:
        return Explained(register=name, agrees=True, words=f"{name}: as predicted")
    words = f"{name} is not as predicted; no event log replays to it, which would name the event"
    return Explained(register=name, agrees=False, words=words)
