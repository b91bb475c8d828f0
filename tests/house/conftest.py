"""What the house rules are checked on: the files of this checkout, and their syntax trees."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def committed_files() -> list[Path]:
    """Tracked files, and new ones that nothing ignores: what the next commit may hold."""
    told = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if told.returncode != 0:
        pytest.skip(f"not a git checkout, so no list of committed files: {told.stderr.strip()}")
    paths = (ROOT / name for name in told.stdout.split("\0") if name)
    return [path for path in paths if path.is_file()]


def python_files(*packages: str) -> Iterator[tuple[str, str]]:
    """Relative path and text of every module below these folders."""
    for package in packages:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")


def module_trees(*packages: str) -> Iterator[tuple[str, ast.Module]]:
    """Relative path and syntax tree of every module below these folders."""
    for name, text in python_files(*packages):
        yield name, ast.parse(text)
