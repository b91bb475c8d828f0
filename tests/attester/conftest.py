"""A dstack agent at its socket, and the provider that asks it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.attester.dstack import DstackProvider
from tests.attester.agents import opened
from tests.support.dstack import DstackAgent, Guest, dstack_guest


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[DstackAgent]:
    with dstack_guest(tmp_path / "dstack.sock", DstackAgent(Guest())) as served:
        yield served


@pytest.fixture
def provider(agent: DstackAgent, tmp_path: Path) -> DstackProvider:
    return opened(tmp_path)
