"""Running a target over many inputs and counting what came of them."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, field
from random import Random
from typing import Any

from attestation.errors import AttestationError
from tests.fuzz.mutations import mutate
from tests.fuzz.targets import Target

KEPT_FINDINGS = 5


@dataclass(slots=True, kw_only=True)
class Tally:
    """Counts of one target; `findings` are the first inputs that it must not have answered so."""

    inputs: int = 0
    accepted: int = 0
    refused: int = 0
    foreign: int = 0
    findings: list[dict[str, str]] = field(default_factory=list)

    def feed(self, target: Target, data: bytes) -> None:
        """Run the target over one input."""
        self.inputs += 1
        try:
            target.run(data)
        except AttestationError:
            self.refused += 1
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a panic in compiled code is no Exception
            self.foreign += 1
            self._keep(data, error)
        else:
            self.accepted += 1

    def to_json(self) -> dict[str, Any]:
        """Return the counts and findings as a JSON value."""
        names = ("inputs", "accepted", "refused", "foreign", "findings")
        return {name: getattr(self, name) for name in names}

    def _keep(self, data: bytes, error: BaseException) -> None:
        if len(self.findings) < KEPT_FINDINGS:
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{last.filename.rpartition('/')[2]}:{last.lineno}"
            self.findings.append(
                {"error": f"{type(error).__name__} at {where}", "input": data.hex()}
            )


def run_random(target: Target, *, runs: int, seed: int) -> Tally:
    """Run the seeds themselves, then `runs` changed ones."""
    tally = Tally()
    rng = Random(seed)  # noqa: S311 - repeatable on purpose
    seeds = target.seeds()
    for data in seeds:
        tally.feed(target, data)
    for _ in range(runs):
        tally.feed(target, mutate(rng, rng.choice(seeds), target.shape, seeds))
    return tally
