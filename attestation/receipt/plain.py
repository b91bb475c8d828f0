"""The facts of a buffered answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from attestation.receipt.engine_json import parse_engine_object
from attestation.receipt.facts import FactSheet

if TYPE_CHECKING:
    from attestation.receipt.dialect import Dialect

MAX_BYTES: Final = 1 << 20
"""Larger answers give no facts: reading them would hold up every other request."""


def facts_of_answer(dialect: Dialect, body: bytes) -> FactSheet:
    """Return what a whole JSON answer says about itself; nothing if it is no such thing."""
    facts = FactSheet()
    document = parse_engine_object(body) if 0 < len(body) <= MAX_BYTES else None
    if document is not None:
        facts.read_answer(dialect, document)
    return facts
