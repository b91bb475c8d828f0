"""Faults of a simulated platform: quotes that fail, and quotes that hang, at given rates.

Which quotes are hit follows from a seed and a counter alone, so that a run can be repeated.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import Enum, auto

_LABEL = b"attested-gateway/simulated-faults/v1/"
_SCALE = 1 << 64


class Fault(Enum):
    """What happens to one quote."""

    NONE = auto()
    FAILURE = auto()
    HANG = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultPlan:
    """How often quotes fail and hang (0 to 1, together at most 1), and for how many seconds.

    `exempt` quotes from the start on are never hit: the first one is the boot's, without which
    there is no boot to try anything on.
    """

    failure_rate: float = 0.0
    hang_rate: float = 0.0
    hang: float = 60.0
    exempt: int = 1
    seed: bytes = b""

    def fault(self, number: int) -> Fault:
        """Return what happens to the quote of this number, counted from 0."""
        if number < self.exempt:
            return Fault.NONE
        drawn = hashlib.sha256(_LABEL + number.to_bytes(8, "big") + self.seed).digest()
        share = int.from_bytes(drawn[:8], "big") / _SCALE
        if share < self.failure_rate:
            return Fault.FAILURE
        return Fault.HANG if share < self.failure_rate + self.hang_rate else Fault.NONE
