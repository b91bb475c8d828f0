"""How new the endorsements are that stand behind a quote, part by part."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedPart:
    """A signed part of the endorsements: its TCB evaluation number, and when it was issued.

    `issued` is in Unix seconds.  Intel raises the number with every evaluation of its platforms,
    so a lower one repeats an earlier judgement.
    """

    number: int
    issued: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Endorsed:
    """TCB info and QE identity that were used for one kind of platform under one root.

    `root` is the name of the trust anchor (`Anchor.name`), `fmspc` 6 bytes.
    """

    root: str
    fmspc: bytes
    tcb_info: SignedPart
    qe_identity: SignedPart

    @property
    def parts(self) -> tuple[tuple[str, SignedPart], ...]:
        """Both parts with what people call them."""
        return (("TCB info", self.tcb_info), ("QE identity", self.qe_identity))
