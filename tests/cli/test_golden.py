"""What `attested verify` says about broken bundles, word by word.

To write the texts anew after a message was changed on purpose, and then to read the difference:

    ATTESTED_GOLDEN=write .venv/bin/python -m pytest tests/cli/test_golden.py && git diff tests/cli

This is refused where CI is set: a text that nobody read is no golden one.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from attestation.cli.main import main
from tests.cli.broken import BROKEN, DAY, Case
from tests.support.bundles import NOW

GOLDEN = Path(__file__).with_name("golden")
WRITE = os.environ.get("ATTESTED_GOLDEN") == "write"


def said(name: str, capsys: pytest.CaptureFixture[str], folder: Path) -> str:
    """The command, everything it says, and its exit code."""
    case = Case(folder=folder)
    BROKEN[name](case)
    arguments = case.command()
    capsys.readouterr()
    code = main(arguments)
    shown = capsys.readouterr()
    told = f"$ attested {' '.join(arguments)}\n{shown.out}"
    if shown.err:
        told += f"--- stderr\n{shown.err}"
    return f"{told}--- exit code {code}\n"


@pytest.mark.parametrize("name", BROKEN)
def test_broken_bundle_is_explained_in_the_words_that_were_read(
    name: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    # The report also tells what the evidence is worth now; that is two months later here.
    monkeypatch.setattr("attestation.cli.files.time.time", lambda: float(NOW + 60 * DAY))
    text = said(name, capsys, tmp_path)
    golden = GOLDEN / f"{name}.txt"
    if WRITE:
        assert not os.environ.get("CI"), "golden texts are written by hand and read, never in CI"
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


def test_every_golden_text_is_of_a_broken_bundle_and_no_two_say_the_same() -> None:
    texts = {file.stem: file.read_text(encoding="utf-8") for file in GOLDEN.glob("*.txt")}
    assert set(texts) == set(BROKEN)
    assert len({text.split("\n", 1)[1] for text in texts.values()}) == len(texts)


@pytest.mark.parametrize("name", sorted(set(BROKEN) - {"nothing"}))
def test_broken_bundle_is_not_accepted_and_the_text_says_so(name: str) -> None:
    code = int((GOLDEN / f"{name}.txt").read_text(encoding="utf-8").rsplit(" ", 1)[1])
    assert code in (2, 10, 11, 12, 13)
