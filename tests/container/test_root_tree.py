"""What the Dockerfile makes, made without it: stripping a base, and filling in the gateway."""

from __future__ import annotations

import hashlib
import os
import runpy
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "enclave_image/container"
TOOLS = ROOT / "enclave_image/tools"

KEPT = ["usr/bin/env", "usr/bin/ldd", "usr/local/bin/python3.13", "usr/local/lib/python3.13/os.py"]
TAKEN = [
    "usr/bin/bash", "usr/bin/dash", "usr/bin/apt-get", "usr/bin/dpkg", "usr/bin/perl5.40.1",
    "usr/bin/gcc-14", "usr/bin/x86_64-linux-gnu-ld", "usr/local/bin/pip3.13", "usr/bin/su",
    "usr/local/bin/python3.13-config", "var/lib/dpkg/status", "etc/apt/sources.list",
    "usr/local/lib/python3.13/ensurepip/__init__.py", "strip.py", "root/.bashrc",
    "usr/local/lib/python3.13/site-packages/pip/__init__.py", "usr/include/stdio.h",
]  # fmt: skip


def strip(root: Path) -> list[str]:
    function = cast("Callable[[Path], list[str]]", script("strip.py")["strip"])
    return function(root)


def script(name: str) -> dict[str, Any]:
    return runpy.run_path(str(SCRIPTS / name))


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """The shape of a Debian image with Python: merged /usr, and a shell by another name."""
    root = tmp_path / "base"
    for name in (*KEPT, *TAKEN):
        place = root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(name.encode())
        place.chmod(0o755)
    for name in ("bin", "sbin"):
        (root / "usr" / name).mkdir(exist_ok=True)
        (root / name).symlink_to(f"usr/{name}")
    (root / "usr/bin/sh").symlink_to("dash")
    (root / "usr/bin/python3").symlink_to("python3.13")
    (root / "usr/bin/ldd").chmod(0o4755)
    return root


def files_of(root: Path) -> list[str]:
    return sorted(
        place.relative_to(root).as_posix()
        for place in root.rglob("*")
        if place.is_symlink() or place.is_file()
    )


def test_stripped_base_has_no_shell_no_compiler_and_no_package_manager(base: Path) -> None:
    removed = strip(base)
    assert files_of(base) == sorted([*KEPT, "bin", "sbin", "usr/bin/python3"])
    assert "usr/bin/sh" in [name.replace("bin/sh", "usr/bin/sh") for name in removed]


def test_stripped_base_has_no_program_with_rights_of_its_own(base: Path) -> None:
    strip(base)
    for place in base.rglob("*"):
        assert not place.lstat().st_mode & (stat.S_ISUID | stat.S_ISGID), place


def test_stripping_touches_nothing_outside(base: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "keep").write_bytes(b"")
    (base / "var/cache").symlink_to(outside)
    strip(base)
    assert (outside / "keep").exists()


# Filling in needs the wheels that are pinned: from pip's cache, or from the index that it uses.


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("container") / "filled"
    chosen = {
        "PIP_PYTHON_VERSION": "3.13",
        "PIP_IMPLEMENTATION": "cp",
        "PIP_ABI": "cp313 abi3 none",
        "PIP_PLATFORM": "manylinux_2_28_x86_64 manylinux_2_17_x86_64 manylinux2014_x86_64",
        "PIP_TIMEOUT": "10",
        "PIP_RETRIES": "1",
        "SOURCE_DATE_EPOCH": "1793491200",
        "ATTESTED_PYTHON": "/usr/local/bin/python3.13",
    }
    done = subprocess.run(
        [sys.executable, SCRIPTS / "fill.py", target],
        env={**os.environ, **chosen},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode and "No matching distribution" in done.stderr + done.stdout:
        pytest.skip("the pinned wheels can be had neither from pip's cache nor from its index")
    assert done.returncode == 0, done.stderr[-2000:]
    return target


def contents(site: Path) -> dict[str, str]:
    return {
        place.relative_to(site).as_posix(): hashlib.sha256(place.read_bytes()).hexdigest()
        for place in site.rglob("*")
        if place.is_file()
    }


SITE = "usr/lib/attested/lib/python3.13/site-packages"


@pytest.mark.slow
def test_filled_tree_has_the_gateway_and_no_installer(filled: Path) -> None:
    names = {place.name for place in (filled / SITE).iterdir()}
    assert {"attestation", "gateway", "cryptography", "uvicorn"} <= names
    assert not names & {"pip", "setuptools", "hatchling", "pytest", "bin", "wheel"}
    assert not list((filled / SITE).rglob("*.pyc"))


@pytest.mark.slow
def test_filled_tree_is_nobodys_to_write_but_for_the_state(filled: Path) -> None:
    for place in filled.rglob("*"):
        mode = place.lstat().st_mode
        if not place.is_symlink():
            assert not mode & 0o022, place
            assert not mode & (stat.S_ISUID | stat.S_ISGID), place
        assert int(place.lstat().st_mtime) == 1793491200, place
    assert stat.S_IMODE((filled / "var/lib/attested").stat().st_mode) == 0o700


@pytest.mark.slow
def test_entry_point_starts_in_isolated_mode_and_by_its_own_python(filled: Path) -> None:
    entry = filled / "usr/lib/attested/bin/attested"
    assert entry.read_text().startswith("#!/usr/lib/attested/bin/python -I\n")
    python = filled / "usr/lib/attested/bin/python"
    assert os.readlink(python) == "/usr/local/bin/python3.13"  # noqa: PTH115
    assert stat.S_IMODE(entry.stat().st_mode) == 0o755


@pytest.mark.slow
def test_unpacking_the_same_wheels_gives_the_same_modules(filled: Path, tmp_path: Path) -> None:
    """The measured image gets its modules by unpacking archives, the container by pip."""
    sys.path.insert(0, str(TOOLS))
    try:
        wheels = pytest.importorskip("image_wheels", reason="enclave_image/tools is not there")
    finally:
        sys.path.remove(str(TOOLS))
    wheels.make_tree(tmp_path / "tree", "1793491200")
    unpacked, installed = contents(tmp_path / "tree" / SITE), contents(filled / SITE)
    assert sorted(unpacked) == sorted(installed)
    assert unpacked == installed
