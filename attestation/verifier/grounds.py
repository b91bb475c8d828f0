"""What a verification rests on, all of it chosen by the one who verifies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from attestation.errors import UsageError

if TYPE_CHECKING:
    from attestation.policy import Policy
    from attestation.tdx.anchor import Anchor
    from attestation.verifier.high_water import HighWater
    from attestation.verifier.memory import QuoteMemory


@dataclass(frozen=True, slots=True, kw_only=True)
class Grounds:
    """Policy, instant (Unix seconds), trust anchors, and what was seen before.

    `high_water` None remembers nothing: endorsements are then compared with the policy alone.
    `quotes` remembers genuine quotes, None does not.
    """

    policy: Policy
    at: int
    anchors: tuple[Anchor, ...]
    high_water: HighWater | None = None
    quotes: QuoteMemory | None = None

    def __post_init__(self) -> None:
        if not self.anchors:
            raise UsageError("no trust anchor was given", code="anchor", expected="at least one")
