"""Fill a folder with what the container image has besides Python: the gateway and its wheels.

Run by a Python that has pip and the build backend. `tests/container` runs it without a container
and compares it with the tree that the measured image gets by unpacking the same wheels.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

PYTHON = "3.13"
_ROOT = Path(__file__).resolve().parents[2]
_SCRIPT = """#!/usr/lib/attested/bin/python -I
import sys

from gateway.cli.main import main

sys.exit(main())
"""
# Who installed a file and when is no part of it; pip would write them.
_RECORDS = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"}


def main() -> int:
    """Fill the folder named by the only argument; it must not exist."""
    target = Path(sys.argv[1])
    base = target / "usr/lib/attested"
    site = base / f"lib/python{PYTHON}/site-packages"
    site.mkdir(parents=True)
    _pip("--require-hashes", "-r", str(_ROOT / "requirements/runtime.txt"), site=site)
    _pip("--no-index", str(_own_wheel(target)), site=site)
    _tidy(site)
    _environment(base)
    for folder in ("var/lib/attested", "etc/attested"):
        (target / folder).mkdir(parents=True)
    # The only place that the user of the image may write to.
    _give(target / "var/lib/attested", 65532)
    _settle(target)
    return 0


def _pip(*arguments: str, site: Path) -> None:
    options = ["--no-deps", "--no-compile", "--only-binary=:all:", "--target", str(site)]
    command = [sys.executable, "-m", "pip", "-qq", "install", "--upgrade", *options, *arguments]
    subprocess.run(command, check=True)


def _own_wheel(target: Path) -> Path:
    folder = target.with_name(f"{target.name}-wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=_ROOT, check=True, stdout=subprocess.DEVNULL)
    (wheel,) = folder.glob("attested_gateway-*.whl")
    return wheel


def _tidy(site: Path) -> None:
    shutil.rmtree(site / "bin", ignore_errors=True)
    for folder in site.glob("*.dist-info"):
        for name in _RECORDS:
            (folder / name).unlink(missing_ok=True)


def _environment(base: Path) -> None:
    (base / "bin").mkdir()
    python = os.environ.get("ATTESTED_PYTHON") or str(Path(sys.executable).resolve())
    (base / "bin/python").symlink_to(python)
    (base / "bin/attested").write_text(_SCRIPT)
    (base / "pyvenv.cfg").write_text(
        f"home = {Path(python).parent}\ninclude-system-site-packages = false\nversion = {PYTHON}\n"
    )


def _give(folder: Path, owner: int) -> None:
    if os.geteuid() == 0:
        os.chown(folder, owner, owner)


def _settle(target: Path) -> None:
    """Fixed modes and times; nothing but the state folder is anybody's to write."""
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH", "1793491200"))
    for path in sorted(target.rglob("*"), reverse=True):
        if not path.is_symlink():
            executable = path.is_dir() or path == target / "usr/lib/attested/bin/attested"
            path.chmod(0o755 if executable else 0o644)
        os.utime(path, (epoch, epoch), follow_symlinks=False)
    (target / "var/lib/attested").chmod(0o700)
    os.utime(target / "var/lib/attested", (epoch, epoch))


if __name__ == "__main__":
    sys.exit(main())
