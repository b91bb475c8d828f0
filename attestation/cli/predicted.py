"""How the registers of each boot compare with predicted ones, beside a result."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from attestation.errors import MalformedError
from attestation.measure.explain import explain_registers
from attestation.tdx.quote import parse_quote

if TYPE_CHECKING:
    from collections.abc import Iterable

    from attestation.bundle import BootEvidence, Bundle
    from attestation.measure.prediction import Prediction
    from attestation.result import AttestationResult

PREDICTED = "predicted"


def with_predicted(
    result: AttestationResult, item: Bundle | MalformedError, prediction: Prediction
) -> AttestationResult:
    """Return the same result, with the fact `predicted`: a row for each register of each boot.

    It explains and decides nothing: whether the quotes are genuine is for the checks to say.
    """
    if isinstance(item, MalformedError):
        return result
    rows = [row for boot in item.boots for row in _rows(boot, prediction)]
    return replace(result, facts={**result.facts, PREDICTED: rows})


def predicted_lines(result: AttestationResult) -> list[str]:
    """Return the rows of that fact as lines for a terminal; none without it."""
    rows = result.facts.get(PREDICTED)
    if not isinstance(rows, list) or not rows:
        return []
    marks = {True: "✓", False: "✗", None: "·"}
    lines = ["", "Against the predicted measurements (explains, decides nothing)"]
    return lines + [
        f"  {marks[row['agrees']]} boot {row['bootseed'][:16]}: {row['words']}" for row in rows
    ]


def _rows(boot: BootEvidence, prediction: Prediction) -> Iterable[dict[str, Any]]:
    try:
        body = parse_quote(boot.quote).body
    except MalformedError:
        # QUOTE-FORMAT says so; there are no registers to explain.
        return
    try:
        log = None if boot.event_log is None else boot.event_log.parse()
    except MalformedError:
        # EVENT-LOG says so; the values can still be compared.
        log = None
    for one in explain_registers(prediction, body.mrtd, body.rtmrs, log):
        yield {
            "bootseed": boot.statement.bootseed.hex(),
            "register": one.register,
            "agrees": one.agrees,
            "words": one.words,
        }
