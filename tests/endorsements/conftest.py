"""The double of the service, serving an honest set."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.endorsements.fetching import GOOD
from tests.endorsements.pcs import PcsDouble, serving


@pytest.fixture
def double() -> Iterator[PcsDouble]:
    with serving(GOOD) as running:
        yield running
