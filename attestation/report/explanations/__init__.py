"""What each check proves, what it stops, and how to redo it by hand; one module for each group."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attestation.checks import CHECKS
from attestation.report.explanations.boots import BOOTS
from attestation.report.explanations.logs import LOGS
from attestation.report.explanations.model import Explanation
from attestation.report.explanations.quotes import QUOTES
from attestation.report.explanations.receipts import RECEIPTS

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["EXPLANATIONS", "Explanation"]

_ALL = QUOTES | BOOTS | RECEIPTS | LOGS

EXPLANATIONS: Mapping[str, Explanation] = {id_: _ALL[id_] for id_ in CHECKS}
"""An explanation of every check, in the order of `CHECKS`."""
