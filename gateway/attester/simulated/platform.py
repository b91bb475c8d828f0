"""One simulated platform: a machine, the domain on it, its quotes and its endorsements."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from attestation.tdx.anchor import Anchor
from gateway.attester.base import require_report_data
from gateway.attester.simulated.documents import build_collateral
from gateway.attester.simulated.facts import Domain, Endorsements, Machine, Writing
from gateway.attester.simulated.keys import Derivation, public_xy
from gateway.attester.simulated.pki import Pki, der_bytes
from gateway.attester.simulated.quotes import assemble, qe_report, signed_region

if TYPE_CHECKING:
    from attestation.tdx.collateral import Collateral


class SimulatedPlatform:
    """A platform whose every fact can be chosen; see `facts` for what there is to choose.

    `now` (Unix seconds) is when its certificates and endorsements are made.  `seed` makes two
    platforms equal byte for byte and is for tests alone; without it keys are fresh.
    """

    def __init__(
        self,
        *,
        now: int,
        version: int | None = None,
        seed: bytes | None = None,
        machine: Machine | None = None,
        domain: Domain | None = None,
        writing: Writing | None = None,
        endorsements: Endorsements | None = None,
    ) -> None:
        self.now = now
        self.machine = machine or Machine()
        self.domain = domain or Domain()
        self.writing = writing or Writing()
        if version is not None:
            self.writing = replace(self.writing, version=version)
        self.endorsements = endorsements or Endorsements()
        self._seed = seed or os.urandom(32)
        derivation = Derivation(self._seed)
        self._attestation_key = derivation.key("attestation")
        self._pki = Pki(derivation, self.machine, now)
        self.anchor = Anchor(der_bytes(self._pki.root))

    def but(
        self,
        *,
        machine: Machine | None = None,
        domain: Domain | None = None,
        writing: Writing | None = None,
        endorsements: Endorsements | None = None,
    ) -> SimulatedPlatform:
        """Return this platform, same keys and same root, with some facts replaced."""
        return SimulatedPlatform(
            now=self.now,
            seed=self._seed,
            machine=machine or self.machine,
            domain=domain or self.domain,
            writing=writing or self.writing,
            endorsements=endorsements or self.endorsements,
        )

    def quote(self, report_data: bytes, *, domain: Domain | None = None) -> bytes:
        """Return a signed quote over 64 bytes, for `domain` if given."""
        require_report_data(report_data)
        region = signed_region(self.machine, domain or self.domain, self.writing, report_data)
        report = qe_report(self.machine, public_xy(self._attestation_key), self.writing.auth_data)
        return assemble(
            region,
            report,
            self.writing,
            attestation_key=self._attestation_key,
            pck_key=self._pki.pck_key,
            chain=self._pki.pck_chain(),
        )

    def collateral(self, *, at: int | None = None) -> Collateral:
        """Return endorsements issued at `at`, by default at the platform's `now`."""
        return build_collateral(self.endorsements, self._pki, self.now if at is None else at)
