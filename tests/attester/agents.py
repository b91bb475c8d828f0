"""The provider at the socket of an agent, and what the tests ask of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from attestation.errors import UnavailableError
from gateway.attester.base import open_provider
from gateway.attester.dstack import DstackProvider

REPORT_DATA = bytes(range(64))
CONTENT = b'{"event":"receipt.key"}'
DIGEST = hashlib.sha384(CONTENT).digest()


def opened(folder: Path, options: str = "") -> DstackProvider:
    provider = open_provider(f"dstack:{folder}/dstack.sock{options}")
    assert isinstance(provider, DstackProvider)
    return provider


def refusal(provider: DstackProvider) -> UnavailableError:
    with pytest.raises(UnavailableError) as caught:
        ask(provider)
    return caught.value


def ask(provider: DstackProvider) -> None:
    """Ask for a quote, and then for the log that came with it."""
    provider.quote(REPORT_DATA)
    provider.event_log()


def extend(provider: DstackProvider, content: bytes = CONTENT) -> None:
    provider.extend_rtmr3(hashlib.sha384(content).digest(), name="receipt.key", content=content)


def rewritten(member: str, value: Any) -> Callable[[str, Any], Any]:
    return lambda method, answer: answer | {member: value} if method == "GetQuote" else answer
