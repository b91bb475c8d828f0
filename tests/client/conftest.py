"""One running gateway for a module of tests: they only read from it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.gateways import Stack, standing


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """TLS ends in the gateway."""
    with standing() as running:
        yield running


@pytest.fixture(scope="module")
def plain_stack() -> Iterator[Stack]:
    """Plain HTTP on loopback, so that a relay can read and change what passes."""
    with standing(tls="off") as running:
        yield running
