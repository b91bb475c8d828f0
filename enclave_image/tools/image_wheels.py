"""The gateway as it lies in the image: hashed wheels unpacked into an environment without pip."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath

from image_files import REPOSITORY, ImageError, cache, run, sha256

PYTHON = "3.13"  # trixie's
_REQUIREMENTS = REPOSITORY / "requirements" / "runtime.txt"
_PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
# -I: neither PYTHON* variables nor the current folder decide what is imported.
_SCRIPT = """#!/usr/lib/attested/bin/python -I
import sys

from gateway.cli.main import main

sys.exit(main())
"""
_CONFIG = f"""home = /usr/bin
include-system-site-packages = false
version = {PYTHON}
executable = /usr/bin/python{PYTHON}
"""


def download() -> list[Path]:
    """The wheels that requirements/runtime.txt pins by hash, for the image's Python."""
    folder = cache() / "wheels" / sha256(_REQUIREMENTS)[:16]
    if not (folder / ".complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        platforms = [f"--platform={name}" for name in _PLATFORMS]
        abis = [f"--abi={name}" for name in (f"cp{PYTHON.replace('.', '')}", "abi3", "none")]
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-qq"]
        wanted = ["--no-deps", "--require-hashes", "--only-binary=:all:", "-r", str(_REQUIREMENTS)]
        python = ["--implementation=cp", f"--python-version={PYTHON}"]
        command = [*pip, "download", *wanted, *python, *abis, *platforms, "-d", str(folder)]
        run(command, what="pip")
        (folder / ".complete").touch()
    return sorted(folder.glob("*.whl"))


def build_own(folder: Path, epoch: str) -> Path:
    """The project's own wheel, of the checkout as it is."""
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=REPOSITORY,
        env={**os.environ, "SOURCE_DATE_EPOCH": epoch},
        capture_output=True,
        text=True,
        check=False,
    )
    built = sorted(folder.glob("attested_gateway-*.whl"))
    if done.returncode or len(built) != 1:
        raise ImageError(f"expected one wheel of the gateway, seen {built}: {done.stderr[-2000:]}")
    return built[0]


def _place(name: str) -> PurePosixPath | None:
    """Where a file of a wheel goes, relative to site-packages; None if it stays out."""
    path = PurePosixPath(name)
    if name.endswith("/") or ".." in path.parts or path.is_absolute():
        return None
    if path.name == "RECORD" and path.parent.suffix == ".dist-info":
        return None
    if path.parts[0].endswith(".data"):
        inner = path.parts[1]
        return PurePosixPath(*path.parts[2:]) if inner in {"purelib", "platlib"} else None
    return path


def unpack(wheel: Path, site: Path) -> None:
    """Lay a wheel's modules out; scripts, headers and records stay out."""
    with zipfile.ZipFile(wheel) as archive:
        for name in sorted(archive.namelist()):
            place = _place(name)
            if place is None:
                continue
            target = site / place
            if target.exists():
                raise ImageError(f"{wheel.name}: {place} is in another wheel too")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.read(name))
            target.chmod(0o644)


def make_tree(tree: Path, epoch: str) -> None:
    """Fill `tree` with /usr/lib/attested and /usr/share/attested/wheels.json."""
    shutil.rmtree(tree, ignore_errors=True)
    base = tree / "usr/lib/attested"
    site = base / f"lib/python{PYTHON}/site-packages"
    site.mkdir(parents=True)
    (base / "bin").mkdir()
    (base / "bin/python").symlink_to(f"/usr/bin/python{PYTHON}")
    (base / "bin/attested").write_text(_SCRIPT)
    (base / "bin/attested").chmod(0o755)
    (base / "pyvenv.cfg").write_text(_CONFIG)
    own = tree.with_name(f"{tree.name}-own")
    shutil.rmtree(own, ignore_errors=True)
    own.mkdir(parents=True)
    wheels = [*download(), build_own(own, epoch)]
    for wheel in wheels:
        unpack(wheel, site)
    share = tree / "usr/share/attested"
    share.mkdir(parents=True)
    listed = {wheel.name: sha256(wheel) for wheel in wheels}
    (share / "wheels.json").write_text(json.dumps(listed, indent=1, sort_keys=True) + "\n")
