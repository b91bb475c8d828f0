"""What an auditor of the demo is given: the root its quotes hang under, and the verdict due."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import Encoding

from attestation.result import AttestationResult, Verdict
from attestation.tdx.anchor import INTEL_ANCHOR
from gateway.demo.folder import POLICY_NAME, ROOT_NAME

if TYPE_CHECKING:
    from collections.abc import Callable

    from attestation.tdx.anchor import Anchor
    from gateway.notary.interface import Boot


@dataclass(frozen=True, slots=True, kw_only=True)
class Grounds:
    """The trust anchor of a demo.  `root` is its certificate as PEM where the auditor needs it.

    `expected` is the verdict of an untouched bundle.
    """

    anchor: Anchor
    root: bytes | None
    expected: Verdict

    @classmethod
    def of(cls, boot: Boot) -> Grounds:
        """The platform's own root where it has one (then it is simulated), otherwise Intel's."""
        if boot.anchor is None:
            return cls(anchor=INTEL_ANCHOR, root=None, expected=Verdict.ACCEPTED)
        pem = boot.anchor.certificate.public_bytes(Encoding.PEM)
        return cls(anchor=boot.anchor, root=pem, expected=Verdict.SIMULATED)

    @property
    def simulated(self) -> bool:
        """Whether nothing here says anything about hardware."""
        return self.expected is Verdict.SIMULATED

    @property
    def gate(self) -> Callable[[AttestationResult], None]:
        """What a client of the demo demands of a result."""
        if self.simulated:
            return AttestationResult.require_accepted_or_unsafe_simulated
        return AttestationResult.require_accepted

    @property
    def roots(self) -> tuple[str, ...]:
        """The files with roots that an auditor has to name."""
        return () if self.root is None else (ROOT_NAME,)

    @property
    def arguments(self) -> tuple[str, ...]:
        """The arguments of `attested verify`, in the demo's folder."""
        named = [part for root in self.roots for part in ("--root", root)]
        return ("--policy", POLICY_NAME, *named)
