"""One served gateway a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.bench import Bench, bench_of


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A gateway before one engine, with the time limits of its defaults."""
    with bench_of(tmp_path_factory.mktemp("faults")) as one:
        yield one
