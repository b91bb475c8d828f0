"""A few kill cycles, as `make crash` runs by the thousand: nothing released is lost."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.crash.cycles import Campaign

SEED = 5


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("workers", [0, 2])
def test_killed_gateway_loses_and_alters_nothing(workers: int, tmp_path: Path) -> None:
    campaign = Campaign(tmp_path.resolve(), SEED, workers)

    async def run() -> None:
        try:
            await campaign.open()
            # A busy machine may answer nobody within the first few: then there are more.
            number = 0
            while number < 4 or not campaign.totals["receipts held"]:
                number += 1
                await campaign.cycle(number)
            await campaign.close()
        finally:
            campaign.abort()

    asyncio.run(run())
