"""The double of the service, serving an honest set; and an empty store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.endorsements.fetching import GOOD
from tests.endorsements.pcs import PcsDouble, serving
from tests.endorsements.stage import Stage


@pytest.fixture
def double() -> Iterator[PcsDouble]:
    with serving(GOOD) as running:
        yield running


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)
