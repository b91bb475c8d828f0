"""The competitors: made once, in a cache folder outside the checkout, and re-used from then on."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

_PINS: Final = Path(__file__).parents[2] / "requirements" / "bench.txt"
_PIN: Final = re.compile(r"^([a-z-]+)(?:\[\w+\])?==(\S+)$", re.MULTILINE)
_STAMP: Final = "stamp"
_APT: Final = ("apt-get", "install", "-y", "-qq", "--no-install-recommends", "nginx-light")


def environment() -> Path:
    """Return the folder of what is pinned now; whether it is there is another question."""
    named, cache = os.environ.get("ATTESTED_CACHE"), os.environ.get("XDG_CACHE_HOME")
    if named:
        base = Path(named).resolve()
    else:
        base = (Path(cache) if cache else Path.home() / ".cache") / "attested-gateway"
    return base / f"bench-{_digest()[:12]}"


def find_nginx() -> str | None:
    """Return where nginx is; Debian has it where ordinary users do not look."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")


def prepare() -> None:
    """Make what is missing.  What cannot be made is said, and shows as absent in the results."""
    _prepare_python()
    if find_nginx() is None and os.geteuid() == 0 and shutil.which("apt-get"):
        _say("installing nginx-light")
        variables = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        if subprocess.run(_APT, check=False, env=variables).returncode:
            _say("nginx could not be installed (apt-get update may be needed)")


def versions() -> dict[str, str]:
    """Return what is compared with, by name: as pinned, and nginx as found."""
    wanted = _PINS.with_suffix(".in").read_text(encoding="utf-8")
    found = dict(_PIN.findall(wanted))
    program = find_nginx()
    if program is not None:
        said = subprocess.run([program, "-v"], check=False, capture_output=True, text=True)
        found["nginx"] = said.stderr.strip().rpartition("/")[2]
    return found


def _prepare_python() -> None:
    folder = environment()
    # The stamp is written last: a run that was cut short is seen as unprepared.
    if (folder / _STAMP).is_file():
        return
    _say(f"preparing the competitors in {folder} (once; about 700 MB)")
    folder.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "-qq"]
    done = subprocess.run(
        [*pip, "install", "--only-binary=:all:", "--require-hashes", "-r", str(_PINS)], check=False
    )
    if done.returncode:
        _say("pip could not install the competitors (its own message stands above)")
        return
    (folder / _STAMP).write_text(_digest(), encoding="ascii")
    for other in folder.parent.glob("bench-*"):
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)


def _digest() -> str:
    return hashlib.sha256(_PINS.read_bytes()).hexdigest()


def _say(text: str) -> None:
    print(f"bench-edge: {text}", file=sys.stderr)
