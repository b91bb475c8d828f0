"""The options of `simulated:?NAME=VALUE&…`, each checked before anything is made."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from attestation.errors import UsageError
from gateway.attester.simulated.faults import FaultPlan

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAMES = (
    "failure_rate", "faults", "hang", "hang_rate", "latency", "rtmr3", "seed", "tcb_status",
    "version",
)  # fmt: skip
_CHOICES = {
    "version": ("4", "5"),
    "rtmr3": ("on", "off"),
    "faults": ("later", "all"),
    "tcb_status": (
        "UpToDate",
        "SWHardeningNeeded",
        "ConfigurationNeeded",
        "ConfigurationAndSWHardeningNeeded",
        "OutOfDate",
        "OutOfDateConfigurationNeeded",
    ),
}
_MAX_LATENCY = 60.0
_MAX_HANG = 3600.0
_DEFAULT_HANG = "60"
_DECIMAL = re.compile(r"\d{1,4}(\.\d{1,6})?", re.ASCII)
_SEED = re.compile(r"(?:[0-9a-f]{2}){16,64}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedOptions:
    """A simulated platform as asked for; without a `seed` nothing about it is predictable."""

    version: int
    tcb_status: str
    latency: float
    can_extend_rtmr3: bool
    faults: FaultPlan
    seed: bytes | None = field(repr=False)


def parse_options(address: str, options: Mapping[str, str]) -> SimulatedOptions:
    """Return the options, or raise `UsageError` for one that is unknown or out of bounds."""
    unknown = sorted(options.keys() - set(_NAMES))
    if address or unknown:
        raise _usage("simulated:?OPTION=VALUE with " + ", ".join(_NAMES), *unknown[:1], address)
    chosen = {name: _choice(options, name) for name in _CHOICES}
    seed = _seed(options)
    return SimulatedOptions(
        version=int(chosen["version"]),
        tcb_status=chosen["tcb_status"],
        latency=_decimal(options, "latency", "0", _MAX_LATENCY),
        can_extend_rtmr3=chosen["rtmr3"] == "on",
        faults=_faults(options, seed, exempt=0 if chosen["faults"] == "all" else 1),
        seed=seed,
    )


def _faults(options: Mapping[str, str], seed: bytes | None, *, exempt: int) -> FaultPlan:
    plan = FaultPlan(
        failure_rate=_decimal(options, "failure_rate", "0", 1.0),
        hang_rate=_decimal(options, "hang_rate", "0", 1.0),
        hang=_decimal(options, "hang", _DEFAULT_HANG, _MAX_HANG),
        exempt=exempt,
        seed=secrets.token_bytes(16) if seed is None else seed,
    )
    if plan.failure_rate + plan.hang_rate > 1.0:
        raise _usage("failure_rate and hang_rate of at most 1 together", "more")
    return plan


def _choice(options: Mapping[str, str], name: str) -> str:
    known = _CHOICES[name]
    value = options.get(name, known[0])
    if value not in known:
        raise _usage(f"{name}= one of " + ", ".join(known), value)
    return value


def _decimal(options: Mapping[str, str], name: str, default: str, highest: float) -> float:
    value = options.get(name, default)
    if not _DECIMAL.fullmatch(value) or float(value) > highest:
        raise _usage(f"{name}= a decimal number up to {highest:g}", value)
    return float(value)


def _seed(options: Mapping[str, str]) -> bytes | None:
    seed = options.get("seed")
    if seed is not None and not _SEED.fullmatch(seed):
        # The seed is what the keys are made of: it is not repeated in a message.
        raise _usage("seed= 32 to 128 lower-case hexadecimal digits")
    return None if seed is None else bytes.fromhex(seed)


def _usage(expected: str, *observed: str) -> UsageError:
    return UsageError(
        "the simulated: provider was given something it does not know",
        code="provider",
        expected=expected,
        observed=" ".join(text[:80] for text in observed if text),
    )
