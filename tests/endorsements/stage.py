"""A store of endorsements, a platform they are for, and what was said of them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from attestation.tdx.collateral import Collateral
from attestation.tdx.endorsements import parse_endorsements
from attestation.tdx.quote import canonical_quote, parse_quote
from gateway.attester.simulated.facts import Endorsements
from gateway.attester.simulated.platform import SimulatedPlatform
from gateway.attester.simulated.provider import SimulatedProvider
from gateway.endorsements.store import EndorsementStore
from gateway.notary.endorser import Endorser
from gateway.notary.parts import NotaryParts
from tests.support.clocks import FakeTime
from tests.support.notaries import notary_parts

NOW = int(time.time())
PLATFORM = SimulatedPlatform(now=NOW, seed=b"endorsed gateway")
QUOTE = parse_quote(canonical_quote(PLATFORM.quote(bytes(64))))


class Bare(SimulatedProvider):
    """A platform that hands out no endorsements of its own, as real ones do."""

    def collateral(self) -> None:  # type: ignore[override]
        return None


def issued(**changes: Any) -> Collateral:
    return PLATFORM.but(endorsements=Endorsements(**changes)).collateral()


N30: dict[str, Any] = {"evaluation_number": 30, "qe_evaluation_number": 30}
OLD = issued(evaluation_number=19)
NEW = issued(evaluation_number=20)


class Stage:
    """A store, the events that were logged, and time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = EndorsementStore(path / "store")
        self.store.folder.mkdir()
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.time = FakeTime(wall=float(NOW))

    def keep(self, *sets: Collateral) -> None:
        for one in sets:
            self.store.add(parse_endorsements(one))

    def emit(self, event: str, **fields: Any) -> None:
        self.events.append((event, fields))

    def parts(self, **changes: Any) -> NotaryParts:
        changes = {"endorsements": self.store, "emit": self.emit, **changes}
        return notary_parts(self.path, provider=Bare(PLATFORM), **changes)

    def endorser(self, **changes: Any) -> Endorser:
        return Endorser(self.parts(clock=self.time.clock, **changes), QUOTE)

    @property
    def told(self) -> list[str]:
        return [event.removeprefix("endorsements.") for event, _ in self.events]
