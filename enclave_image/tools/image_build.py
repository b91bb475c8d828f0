"""Build the image of a profile: `make image`."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path

from image_described import FIRMWARE, describe
from image_files import (
    ARTEFACTS,
    HOST,
    PROFILES,
    RECIPE,
    ImageError,
    artefact,
    cache,
    exclusive,
    host,
    output,
    run,
    say,
    sha256,
)
from image_packages import (
    UnpinnedError,
    all_cached,
    load_installed,
    load_lock,
    preferences,
    require_locked,
    save_lock,
)
from image_wheels import make_tree

UNPINNED = 3  # exit code
_HEX = frozenset("0123456789abcdef")


def epoch() -> str:
    """SourceDateEpoch of the recipe: seconds, as text."""
    for line in (RECIPE / "mkosi.conf").read_text().splitlines():
        name, _, value = line.partition("=")
        if name == "SourceDateEpoch":
            return value
    raise ImageError("mkosi.conf has no SourceDateEpoch")


def make_sandbox(tree: Path, profile: str, *, pinned: bool) -> None:
    """What apt reads while it builds: where packages come from, and which versions."""
    shutil.rmtree(tree, ignore_errors=True)
    apt = tree / "etc/apt"
    (apt / "sources.list.d").mkdir(parents=True)
    (apt / "preferences.d").mkdir()
    listed = subprocess.run([str(HOST), "sources"], capture_output=True, text=True, check=False)
    if listed.returncode:
        raise ImageError(listed.stderr.strip())
    (apt / "sources.list.d/mkosi.sources").write_text(listed.stdout)
    if pinned:
        (apt / "preferences.d/attested").write_text(preferences(load_lock(profile)))


def add_inputs(parser: argparse.ArgumentParser) -> None:
    """The options that change what the image measures; the rebuild takes the same ones."""
    parser.add_argument("--engine", default="", help="dm-verity root hash of the engine pack")
    parser.add_argument("--model", default="", help="dm-verity root hash of the model pack")
    parser.add_argument("--config", type=Path, help="settings instead of the demo's (TOML)")
    parser.add_argument("--keys", type=Path, help="file of hashed API keys instead of the demo's")


def input_words(args: argparse.Namespace) -> list[str]:
    """Arguments of mkosi: root hashes of packs for the command line, files for the image."""
    words = []
    for name, value in (("engine", args.engine), ("model", args.model)):
        if not value:
            continue
        if len(value) != 64 or not _HEX.issuperset(value):
            raise ImageError(f"expected 64 hexadecimal digits for {name}, seen {value!r}")
        words.append(f"--kernel-command-line=attested.{name}={value}")
    for path, name in ((args.config, "gateway.toml"), (args.keys, "keys.json")):
        if path is None:
            continue
        if not path.is_file():
            raise ImageError(f"expected a file at {path}, seen none")
        # In the cache, which the build environment sees wherever it is.
        staged = cache() / "inputs" / name
        staged.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, staged)
        words.append(f"--extra-tree={staged}:/usr/share/attested/{name}")
    return words


def build(profile: str, folder: Path, words: list[str], *, pinned: bool) -> None:
    """Run mkosi once, from nothing but the package cache, into `folder`."""
    run([HOST, "setup"], what="the build environment")
    work = cache() / "work"
    shutil.rmtree(work, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
    packages = cache() / "packages"
    for path in (work / "tmp", folder, packages):
        path.mkdir(parents=True, exist_ok=True)
    say("laying out the gateway")
    make_tree(work / "gateway", epoch())
    make_sandbox(work / "sandbox", profile, pinned=pinned)
    sources = (work / "sandbox/etc/apt/sources.list.d/mkosi.sources").read_text()
    offline = pinned and is_offline(profile, sources)
    say(f"mkosi builds profile {profile} into {folder}")
    run(
        host(
            "mkosi",
            f"--directory={RECIPE}",
            f"--profile={profile}",
            f"--output-directory={folder}",
            f"--workspace-directory={work / 'tmp'}",
            f"--package-cache-dir={packages}",
            f"--sandbox-tree={work / 'sandbox'}",
            f"--extra-tree={work / 'gateway'}",
            *words,
            *(["--cache-only=metadata"] if offline else []),
            "--force",
            "build",
        ),
        what="mkosi",
    )
    synced().write_text(sources)
    shutil.copy(work / "gateway/usr/share/attested/wheels.json", folder / "wheels.json")
    shutil.rmtree(work, ignore_errors=True)
    describe(profile, folder)


def synced() -> Path:
    """The package sources of the last build that ended, whose indices apt's cache holds."""
    return cache() / "packages/sources"


def is_offline(profile: str, sources: str) -> bool:
    """Whether what is pinned is in the cache, so that no mirror has to be asked."""
    known = synced().is_file() and synced().read_text() == sources
    if not known or not all_cached(profile, debs()):
        return False
    say("every pinned package is in the cache: no mirror is asked")
    return True


def summarise(profile: str, folder: Path) -> None:
    """SHA256SUMS, and sizes on stdout."""
    lines = []
    for path in (*(artefact(folder, profile, suffix) for suffix in ARTEFACTS), folder / FIRMWARE):
        lines.append(f"{sha256(path)}  {path.name}\n")
        print(f"{path.stat().st_size / (1 << 20):9.1f} MiB  {path.name}")
    (folder / "SHA256SUMS").write_text("".join(lines))
    sys.stdout.write("".join(lines))


def manifests(profile: str, folder: Path) -> list[Path]:
    """The manifests of image and initrd."""
    return [artefact(folder, profile, "manifest"), folder / "initrd.manifest"]


def debs() -> Path:
    """The package files that mkosi's apt fetched."""
    return cache() / "packages/cache/apt/archives"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("profile", choices=PROFILES)
    parser.add_argument("--lock", action="store_true", help="pin what this build installs")
    add_inputs(parser)
    args = parser.parse_args()
    begun = time.monotonic()
    folder = output(args.profile)
    try:
        with exclusive():
            words = input_words(args)
            build(args.profile, folder, words, pinned=not args.lock)
            installed = load_installed(manifests(args.profile, folder), debs())
            if args.lock:
                save_lock(args.profile, installed)
            summarise(args.profile, folder)
            require_locked(args.profile, installed)
    except UnpinnedError as error:
        say(str(error))
        return UNPINNED
    except ImageError as error:
        say(str(error))
        return 1
    say(f"built in {time.monotonic() - begun:.0f} s: {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
