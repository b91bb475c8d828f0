"""A wall clock that is set, in both directions, while requests are answered."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from attestation.receipt.claims import End
from gateway.notary.clock import Clock
from tests.outcomes.bench import QUESTION, running


@dataclass
class Wall:
    """The machine's wall clock, and how far somebody has set it."""

    ahead: float = 0.0

    def now(self) -> float:
        return time.time() + self.ahead


@pytest.mark.parametrize("jump", [1800.0, -86_400.0 * 3650])
async def test_set_clock_changes_the_time_on_receipts_and_nothing_else(
    tmp_path: Path, jump: float
) -> None:
    wall = Wall()
    async with running(tmp_path, clock=Clock(wall=wall.now)) as bench:
        claims = []
        for ahead in (0.0, jump, 0.0):
            wall.ahead = ahead
            reply = await bench.ask()
            claims.append(await bench.checked(reply, QUESTION))
            assert reply.status == 200
        assert [one.response.end for one in claims] == [End.COMPLETE] * 3
        # Order is the log's, whatever the clock says.
        assert [one.log.index for one in claims] == [1, 2, 3]
        assert [one.log.admission for one in claims] == sorted(one.log.admission for one in claims)
        assert bench.receipts == len(bench.engine.requests) == 3
        assert bench.reported == []
        assert bench.notary.healthy
