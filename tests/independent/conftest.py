"""The Go project's own packages for notes and tiled logs, built into one program where they are.

Debian has them: `apt install golang-go golang-golang-x-mod-dev`.  Without them the tests that need
them are skipped and say so.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).with_name("gocheck") / "main.go"
GOPATH = Path("/usr/share/gocode")
PACKAGE = GOPATH / "src/golang.org/x/mod/sumdb"
GoReader = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def gocheck(tmp_path_factory: pytest.TempPathFactory) -> GoReader:
    go = shutil.which("go")
    if go is None or not PACKAGE.is_dir():
        pytest.skip("Go's reader absent: apt install golang-go golang-golang-x-mod-dev")
    folder = tmp_path_factory.mktemp("gocheck")
    program = folder / "gocheck"
    settings = {
        "GO111MODULE": "off",
        "GOPATH": str(GOPATH),
        "GOCACHE": str(folder / "cache"),
        "GOFLAGS": "",
    }
    built = subprocess.run(
        [go, "build", "-o", str(program), str(SOURCE)],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr

    def read(vkey: str, *paths: Path) -> subprocess.CompletedProcess[str]:
        command = [str(program), vkey, *map(str, paths)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return read


def report_of(told: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert told.returncode == 0, told.stderr
    report: dict[str, Any] = json.loads(told.stdout)
    return report
