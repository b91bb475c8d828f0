"""Where the test vectors are: ATTESTED_VECTORS, else ../shared/vectors beside the checkout.

Nothing of them is part of the project. A test that needs them calls `need(topic)` (or uses the
`vectors` fixture, which is the same function) and is skipped, visibly and counted, without them.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ABSENT = "vectors absent: set ATTESTED_VECTORS or put them at ../shared/vectors"


def find(topic: str = "") -> Path | None:
    """The folder of one topic (or of all of them), or None where it is absent."""
    named = os.environ.get("ATTESTED_VECTORS")
    root = Path(named) if named else Path(__file__).parents[2] / "shared" / "vectors"
    folder = root / topic
    return folder if folder.is_dir() else None


def need(topic: str = "") -> Path:
    """The folder of one topic; skips the calling test where it is absent."""
    folder = find(topic)
    if folder is None:
        pytest.skip(f"{ABSENT} (topic {topic or 'any'})")
    return folder
