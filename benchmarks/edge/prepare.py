"""The competitors' environment: made once, in a cache folder outside the checkout."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

_PINS: Final = Path(__file__).parents[2] / "requirements" / "bench.txt"
_STAMP: Final = "stamp"


def environment() -> Path:
    """Return the folder of the environment; whether it is there is another question."""
    named = os.environ.get("ATTESTED_CACHE")
    if named:
        return Path(named).resolve() / "bench"
    cache = os.environ.get("XDG_CACHE_HOME")
    base = Path(cache) if cache else Path.home() / ".cache"
    return base / "attested-gateway" / "bench"


def is_prepared() -> bool:
    """Whether the environment holds what is pinned now."""
    stamp = environment() / _STAMP
    return stamp.is_file() and stamp.read_text(encoding="ascii") == _expected()


def prepare() -> None:
    """Make the environment anew unless it holds what is pinned.

    The stamp is written last: a run that was cut short is seen as unprepared.
    """
    if is_prepared():
        return
    folder = environment()
    print(f"bench-edge: preparing the competitors in {folder} (once)", file=sys.stderr)
    folder.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "-qq"]
    subprocess.run(
        [*pip, "install", "--only-binary=:all:", "--require-hashes", "-r", str(_PINS)], check=True
    )
    (folder / _STAMP).write_text(_expected(), encoding="ascii")


def _expected() -> str:
    return hashlib.sha256(_PINS.read_bytes()).hexdigest()
