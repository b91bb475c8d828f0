"""What the image's commands share: where things are, how the build environment is entered."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

TOOLS = Path(__file__).resolve().parent
RECIPE = TOOLS.parent
REPOSITORY = RECIPE.parent
HOST = TOOLS / "host.sh"
PROFILES = ("cpu", "gpu")
# Of one build; the manifests count, the log does not.
ARTEFACTS = (
    *("raw", "efi", "initrd", "vmlinuz", "manifest"),
    *("measurements.json", "sbom.cdx.json"),
)
_CHUNK = 1 << 20


class ImageError(Exception):
    """A build, a check or a boot that did not go as it has to: expected, seen, what to do."""


def cache() -> Path:
    """The folder of everything that can be made again; outside the checkout."""
    named = os.environ.get("ATTESTED_IMAGE_CACHE")
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "attested-gateway" / "image"


@contextmanager
def exclusive() -> Iterator[None]:
    """One command of the image at a time: they share the cache's folders."""
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / "command.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another command of the image to end")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def output(profile: str) -> Path:
    """The folder of a profile's artefacts, in the checkout and ignored by git."""
    return REPOSITORY / "build" / "image" / profile


def artefact(folder: Path, profile: str, suffix: str) -> Path:
    """One artefact of a build; `ImageError` if it is not there."""
    path = folder / f"attested-gateway-{profile}.{suffix}"
    if not path.is_file():
        raise ImageError(f"expected {path.name} in {folder}, seen none; run make image first")
    return path


def sha256(path: Path) -> str:
    """Hexadecimal digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def first_difference(left: Path, right: Path) -> int | None:
    """Offset of the first byte in which two files differ; None if they are equal."""
    at = 0
    with left.open("rb") as one, right.open("rb") as other:
        while True:
            a, b = one.read(_CHUNK), other.read(_CHUNK)
            if a != b:
                pairs = zip(a, b, strict=False)
                same = next((i for i, (x, y) in enumerate(pairs) if x != y), min(len(a), len(b)))
                return at + same
            if not a:
                return None
            at += len(a)


def host(*command: str | Path, env: Mapping[str, str] | None = None) -> list[str]:
    """`command` as it has to be started to run in the build environment."""
    settings = [f"{name}={value}" for name, value in (env or {}).items()]
    prefix = ["env", *settings] if settings else []
    return [str(HOST), "run", *prefix, *map(str, command)]


def run(command: Sequence[str | Path], *, what: str) -> None:
    """Run to the end; `ImageError` naming `what` if it fails."""
    done = subprocess.run([str(part) for part in command], check=False)
    if done.returncode:
        raise ImageError(f"{what} failed with exit code {done.returncode}; its output stands above")


def say(text: str) -> None:
    """Progress, to stderr."""
    print(f"image: {text}", file=sys.stderr, flush=True)
