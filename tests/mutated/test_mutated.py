"""Changed bytes anywhere in inference requests never make an error of the gateway's own."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tests.mutated.drive import drive
from tests.mutated.requests import mutate, right_requests

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_changed_requests_are_answered_or_refused_and_never_break_anything(tmp_path: Path) -> None:
    driven = drive(tmp_path, runs=2500, seed=1, keep=ROOT / "fuzz-out")
    assert driven.findings == []
    # Some get through, some break HTTP, some break JSON: it is not one wall that stops them all.
    assert driven.inputs > 2500
    assert driven.statuses[200] > 100
    assert driven.statuses[400] > 500
    assert driven.statuses[404] > 0


def test_equal_seeds_give_equal_inputs_and_every_seed_others() -> None:
    right = right_requests("ag-key", "m")
    made = [
        [mutate(rng, rng.choice(right), right) for _ in range(200)]
        for rng in (Random(1), Random(1), Random(2))  # noqa: S311
    ]
    assert made[0] == made[1] != made[2]
    assert len({*made[0]}) > 190


@pytest.mark.slow
def test_what_must_not_be_is_a_finding_with_its_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An input that hangs for longer than is allowed stands for whatever must not happen."""
    monkeypatch.setattr("tests.mutated.drive.HANG_SECONDS", 0.05)
    (tmp_path / "gateway").mkdir()
    half = b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\n"
    driven = drive(tmp_path / "gateway", runs=0, seed=1, keep=tmp_path / "kept", inputs=[half])
    (kept,) = (tmp_path / "kept").iterdir()
    assert driven.findings == [f"{kept.name}: hangs"]
    assert kept.read_bytes() == half
