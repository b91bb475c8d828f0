"""One call of a real notary process fails, or kills it: `strace` injects, then all is judged.

strace counts calls in each thread by itself, and only those on the given paths: run N of a call
hits the N-th such call of every thread that gets so far.
"""

from __future__ import annotations

import base64
import json
import pickle
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.crash.outside import Violation, require
from tests.crash.power import truth_of
from tests.crash.promises import Outsider, said_by
from tests.crash.restart import examine_disk, restart, survey_disk
from tests.crash.states import Image
from tests.crash.strace_child import ENDED, REFUSED
from tests.crash.trace import Note

ROOT = Path(__file__).resolve().parents[2]
# How often a thread makes each call in such a life, about: from there random shots are drawn.
CALLS = {
    "openat": 30,
    "write": 25,
    "fdatasync": 28,
    "fsync": 28,
    "rename": 18,
    "mkdir": 6,
    "unlink": 2,
    "rmdir": 1,
    "ftruncate": 2,
    "close": 30,
    "newfstatat": 25,
    "flock": 1,
    "getdents64": 4,
    "pread64": 25,
    "pwrite64": 25,
}
FAULTS = ("error=EIO", "error=ENOSPC", "error=EINTR", "signal=KILL")
_EARLIER, _SEED = "ab" * 32, "cd" * 32
_KILLED = (-9, 137)
_MOST_LEAVES = 64
_SECONDS = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """One run: which call, which fault, which occurrence."""

    call: str
    fault: str
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How a run ended: `hits` calls were really injected; `broken` names a broken promise."""

    shot: Shot
    hits: int
    end: str
    broken: str = ""


def available() -> str:
    """Return why strace cannot be used here, or nothing."""
    strace = shutil.which("strace")
    if strace is None:
        return "strace is not installed"
    probe = [strace, "-f", "-qq", "-o", "/dev/null", "-e", "inject=fsync:error=EIO", "true"]
    done = subprocess.run(probe, capture_output=True, check=False)
    return "" if done.returncode == 0 else "strace cannot trace here"


def prepare(folder: Path) -> list[Note]:
    """Let one boot live and end in `folder`; returns what it promised."""
    done = subprocess.run(
        _child(folder, _EARLIER), cwd=ROOT, capture_output=True, timeout=_SECONDS, check=True
    )
    return _promises(done.stdout)


def shoot(template: Path, notes: list[Note], shot: Shot) -> Result:
    """Run a boot over a copy of `template` with one fault; judge what is left and boot on."""
    with tempfile.TemporaryDirectory(prefix="attested-strace-") as name:
        folder = Path(name)
        shutil.copytree(template / "data", folder / "data")
        (folder / "data").chmod(0o700)
        told = folder / "strace"
        command = [
            *("strace", "-f", "-qq", "-o", str(told)),
            # Faster, but then strace counts only the first call where it is to send a signal.
            *([] if shot.fault.startswith("signal") else ["--seccomp-bpf"]),
            *(word for path in _paths(folder / "data") for word in ("-P", path)),
            *("-e", f"trace={shot.call}"),
            *("-e", f"inject={shot.call}:{shot.fault}:when={shot.at}"),
            *_child(folder, _SEED),
        ]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=_SECONDS, check=False)
        output = told.read_text(errors="replace")
        hits = output.count("(INJECTED)") or int(done.returncode in _KILLED)
        try:
            end = _end(done)
            _judge(folder, [*notes, *_promises(done.stdout)])
        except Violation as violation:
            return Result(shot=shot, hits=hits, end="", broken=str(violation))
        return Result(shot=shot, hits=hits, end=end)


def _judge(folder: Path, notes: list[Note]) -> None:
    image = _image(folder)
    said = said_by(notes)
    read = Outsider(truth=truth_of(image)).judge(image, said)
    survey_disk(folder, image, said, read)
    examine_disk(folder, image, said)
    restart(folder, image, said, read, index=folder / "data")


def _end(done: subprocess.CompletedProcess[bytes]) -> str:
    """A clear end: orderly, refused, ended with a reason, or killed."""
    if done.returncode in _KILLED:
        return "killed"
    known = done.returncode in (0, REFUSED, ENDED)
    require(known, "every end is clear", done.stderr.decode(errors="replace")[-800:])
    last = json.loads(done.stdout.splitlines()[-1])
    return str(last.get("reason") or f"refused: {last['code']}")


def _promises(output: bytes) -> list[Note]:
    found = []
    for line in output.splitlines():
        try:
            document = json.loads(line)
        except ValueError:  # the process was killed in the middle of it
            continue
        if document["kind"] == "promise":
            kind, value = pickle.loads(base64.b64decode(document["data"]))  # noqa: S301 - our child's
            found.append(Note(kind=kind, value=value))
    return found


def _child(folder: Path, seed: str) -> list[str]:
    return [sys.executable, "-m", "tests.crash.strace_child", str(folder), seed]


def _image(folder: Path) -> Image:
    inside = [path for path in (folder / "data").rglob("*") if not path.name.startswith("index.")]
    names = {path: path.relative_to(folder).as_posix() for path in inside}
    return Image(
        folders=frozenset(["data", *(names[path] for path in inside if path.is_dir())]),
        files={names[path]: path.read_bytes() for path in inside if path.is_file()},
    )


def _paths(data: Path) -> list[str]:
    """Every path in the data folder that the boot may touch: its seed is known."""
    paths = [data, *(data / f"index.sqlite{end}" for end in ("", "-wal", "-shm", "-journal"))]
    paths += data.glob("*/**/*")
    boot = data / _SEED[:16]
    paths += [boot, boot / "boot.json", boot / "root.pem", boot / "log", boot / "segments"]
    paths += [boot / "segments" / f"{number:06}.seg" for number in range(32)]
    paths += [boot / "log" / name for name in ("checkpoint", ".checkpoint.tmp", "tile")]
    for level in ("0", "entries"):
        tile = boot / "log" / "tile" / level
        paths += [tile, tile / "000.p"]
        for width in range(1, _MOST_LEAVES):
            paths += [tile / "000.p" / str(width), tile / "000.p" / f".{width}.tmp"]
    return [str(path) for path in paths]
