"""What each check establishes, against what, and how to redo it without this program."""

from __future__ import annotations

from typing import Any

from attestation.checks import ANCHORING, CHECKS, FLOOR
from attestation.report.explanations import EXPLANATIONS


def explain(id_: str) -> dict[str, Any]:
    """Return what there is to know about the check `id_`, one of `CHECKS`.

    `by_hand` is a script for a shell, in a folder as `attested demo` leaves it.
    """
    check, told = CHECKS[id_], EXPLANATIONS[id_]
    if id_ in ANCHORING:
        needed = "always, unless the policy says [log] require_anchored = false"
    else:
        needed = "always" if id_ in FLOOR else "only if the policy asks for it"
    return {
        "id": id_,
        "title": check.title,
        "proves": told.proves,
        "stops": told.stops,
        "required": needed,
        "spec": f"docs/spec/{check.spec}",
        "by_hand": told.by_hand,
        "aside": told.aside,
    }
