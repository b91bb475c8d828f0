"""Long runs say on stderr how far they are, short ones nothing."""

from __future__ import annotations

import io
import sys

import pytest

from attestation.cli import progress


class Screen(io.StringIO):
    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


def shown(monkeypatch: pytest.MonkeyPatch, *, terminal: bool, moments: list[float]) -> str:
    screen = Screen(terminal=terminal)
    monkeypatch.setattr(sys, "stderr", screen)
    clock = iter([0.0, *moments])
    told = progress.Bytes("hashed", 4000, lambda: next(clock))
    for _ in moments:
        told.add(1000)
    told.close()
    return screen.getvalue()


def test_short_run_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for terminal in (True, False):
        assert shown(monkeypatch, terminal=terminal, moments=[0.5, 1.9]) == ""


def test_long_run_draws_one_line_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, terminal=True, moments=[1.0, 2.0, 2.1, 4.0])
    first, second, _ = (part.strip() for part in [*text.split("\r")[1:], "x"])
    assert first == "hashed 2.0 kB of 4.0 kB, 1.0 kB/s"
    assert second == "hashed 4.0 kB of 4.0 kB, 1.0 kB/s"
    assert text.endswith("\n")


def test_long_run_writes_few_lines_to_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, terminal=False, moments=[2.0, 10.0, 31.9, 40.0])
    assert [line.split(",")[0] for line in text.splitlines()] == [
        "hashed 1.0 kB of 4.0 kB",
        "hashed 4.0 kB of 4.0 kB",
    ]


def test_other_things_than_bytes_are_spelled_as_they_are_to_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    screen = Screen(terminal=False)
    monkeypatch.setattr(sys, "stderr", screen)
    clock = iter([0.0, 2.0])
    told = progress.Counted("receipts", 9000, lambda: next(clock), spell="{:,.0f}".format)
    told.add(4000)
    assert screen.getvalue() == "receipts 4,000 of 9,000, 2,000/s\n"


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1.5e9, "1.5 GB"), (2e15, "2000.0 TB")],
)
def test_sizes_are_readable(count: float, text: str) -> None:
    assert progress.readable(count) == text
