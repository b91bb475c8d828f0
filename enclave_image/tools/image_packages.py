"""Pinned packages: the lock of a profile, apt's pins made from it, and its check after a build."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from image_files import RECIPE, ImageError, sha256

_HEADER = (
    "# Debian packages of the {profile} image and initrd: name, version, architecture, SHA-256\n"
)


class UnpinnedError(ImageError):
    """The mirror gave other packages than those pinned."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Package:
    """One package as the manifest names it, with the digest of its file."""

    name: str
    version: str
    architecture: str
    sha256: str


def lock_file(profile: str) -> Path:
    """Where a profile's lock is."""
    return RECIPE / f"packages.{profile}.lock"


def load_lock(profile: str) -> tuple[Package, ...]:
    """The lock; empty if the profile has none yet."""
    path = lock_file(profile)
    if not path.exists():
        return ()
    rows = [line.split() for line in path.read_text().splitlines() if not line.startswith("#")]
    if any(len(row) != 4 for row in rows):
        raise ImageError(f"{path.name}: expected four words a line; make it anew: make image-lock")
    return tuple(Package(name=a, version=b, architecture=c, sha256=d) for a, b, c, d in rows)


def save_lock(profile: str, packages: tuple[Package, ...]) -> None:
    """Write the lock."""
    rows = [f"{p.name} {p.version} {p.architecture} {p.sha256}\n" for p in packages]
    lock_file(profile).write_text(_HEADER.format(profile=profile) + "".join(rows))


def preferences(packages: tuple[Package, ...]) -> str:
    """Apt preferences that ask for exactly these versions, older or not."""
    return "".join(
        f"Package: {p.name}\nPin: version {p.version}\nPin-Priority: 1001\n\n" for p in packages
    )


def file_name(name: str, version: str, architecture: str) -> str:
    """What apt calls a package's file in its cache."""
    return f"{name}_{version.replace(':', '%3a')}_{architecture}.deb"


def load_installed(manifests: list[Path], debs: Path) -> tuple[Package, ...]:
    """What mkosi's manifests list, with the digests of the files in apt's cache.

    apt checked those files against the signed index when it fetched them.
    """
    found: set[Package] = set()
    for manifest in manifests:
        for entry in json.loads(manifest.read_text())["packages"]:
            name, version, arch = entry["name"], entry["version"], entry["architecture"]
            path = debs / file_name(name, version, arch)
            if not path.is_file():
                raise ImageError(f"expected {path.name} in apt's cache, seen none: {debs}")
            found.add(Package(name=name, version=version, architecture=arch, sha256=sha256(path)))
    return tuple(sorted(found))


def all_cached(profile: str, debs: Path) -> bool:
    """Whether every file that the lock names is in apt's cache, with the digest that it names."""
    locked = load_lock(profile)
    return bool(locked) and all(
        path.is_file() and sha256(path) == one.sha256
        for one in locked
        for path in (debs / file_name(one.name, one.version, one.architecture),)
    )


def require_locked(profile: str, installed: tuple[Package, ...]) -> None:
    """Installed is what the lock says, or `ImageError` with the differences."""
    locked = load_lock(profile)
    if not locked:
        raise ImageError(f"{lock_file(profile).name} is missing; make it with: make image-lock")
    if locked == installed:
        return
    before, now = set(locked), set(installed)
    lines = [f"  pinned {p.name} {p.version} {p.sha256[:12]}" for p in sorted(before - now)]
    lines += [f"  seen   {p.name} {p.version} {p.sha256[:12]}" for p in sorted(now - before)]
    raise UnpinnedError(
        "the packages are not those pinned:\n"
        + "\n".join(lines[:40])
        + "\nThe mirror has moved on. Name one of the pinned date in enclave_image/"
        "apt.local.sources, or pin anew: make image-lock"
    )
