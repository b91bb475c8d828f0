"""Boot the image with a model pack: `make image-packs`.

An intact pack is mounted. One whose first block was altered, or that is another pack under the same
partition names, ends the machine before the engine and the gateway start. The root hash is added to
the command line by SMBIOS, which systemd-stub takes (and measures) outside of TDX guests only: in
a release it stands in the UKI.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from image_files import HOST, PROFILES, REPOSITORY, ImageError, artefact, cache, output, say
from image_machine import Machine, Plan, free_port

_BOOT_SECONDS = 900.0
_MIB = 1 << 20
_SERVES = b"notary socket"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A pack to boot with: what is done to its bytes, and what the console has to say."""

    name: str
    change: Callable[[bytearray], None]
    told: bytes
    ends: bool


def _leave(_pack: bytearray) -> None:
    """The pack as it was built."""


def _spoil(pack: bytearray) -> None:
    """One bit of the file system's superblock, which every mount reads."""
    pack[_MIB + 1024 + 64] ^= 1


def _forge(pack: bytearray) -> None:
    """One bit of the hash tree's top, as if data and tree had been made anew without the root."""
    start = pack.index(b"verity\0\0", _MIB)
    pack[start + 4096] ^= 1


def build_model(out: Path) -> tuple[Path, str]:
    """A pack of a small made-up model, and its root hash."""
    folder, lock, pack, tool = out / "model", out / "model.lock", out / "model.raw", out / "mkfs"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}\n")
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * 4096)
    tool.write_text(f'#!/bin/sh\nexec "{HOST}" run mkfs.erofs "$@"\n')
    tool.chmod(0o755)
    for path in (pack, Path(f"{pack}.json")):
        path.unlink(missing_ok=True)
    named = ("--name", "demo/tiny", "-o", str(lock), "--force")
    _python("-m", "gateway.cli.main", "model", "lock", folder, *named)
    line = _python("-m", "enclave_image.packs", "model", folder, lock, "-o", pack, "--mkfs", tool)
    return pack, line.strip().rpartition("=")[2]


def _python(*arguments: str | Path) -> str:
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ImageError(f"{' '.join(command[1:5])}: {done.stderr.strip()[-1000:]}")
    return done.stdout


def cases(root: str) -> tuple[Case, ...]:
    """What is booted with, and how it has to end."""
    mounted = f"attach-pack: model pack {root} at /srv/model".encode()
    return (
        Case(name="a pack as it was built", change=_leave, told=mounted, ends=False),
        Case(name="an altered block of its data", change=_spoil, told=b"is corrupted", ends=True),
        Case(name="an altered hash tree", change=_forge, told=b"is corrupted", ends=True),
    )


def run_case(case: Case, disk: Path, pack: Path, root: str, out: Path) -> str:
    """Boot with it; how it ended. `ImageError` if it ended otherwise than it has to."""
    content = bytearray(pack.read_bytes())
    case.change(content)
    shown = out / "shown.raw"
    shown.write_bytes(bytes(content))
    words = f"type=11,value=io.systemd.stub.kernel-cmdline-extra=attested.model={root}"
    extra = (
        *("-drive", f"if=none,id=p,format=raw,readonly=on,file={shown}"),
        *("-device", "virtio-blk-pci,drive=p", "-smbios", words),
    )
    plan = Plan(disk=disk, folder=out / "run", port=free_port(), extra=extra)
    with Machine(plan) as vm:
        if not case.ends:
            vm.wait_console(case.told, seconds=_BOOT_SECONDS)
            return "mounted by its root hash"
        if not vm.wait_ended(_BOOT_SECONDS):
            raise ImageError("expected the machine to end, but it runs")
        console = vm.console()
    if case.told not in console or _SERVES in console or b"attach-pack: model pack" in console:
        tail = console[-2000:].decode(errors="replace")
        raise ImageError(f"expected {case.told!r} and no gateway; console:\n{tail}")
    return "the machine ended, and nothing of the pack was used"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("profile", choices=PROFILES)
    parser.add_argument("--disk", type=Path, help="another disk than that of make image")
    parser.add_argument("--only", default="", help="cases whose name has this in it")
    args = parser.parse_args()
    out = cache() / "packs-boot"
    out.mkdir(parents=True, exist_ok=True)
    failed = 0
    try:
        disk = args.disk or artefact(output(args.profile), args.profile, "raw")
        pack, root = build_model(out)
        chosen = [case for case in cases(root) if args.only in case.name]
    except ImageError as error:
        say(str(error))
        return 1
    for case in chosen:
        try:
            print(f"{case.name}: {run_case(case, disk, pack, root, out)}", flush=True)
        except ImageError as error:
            failed += 1
            print(f"FAILED {case.name}: {error}", flush=True)
    say(f"{len(chosen) - failed} of {len(chosen)} packs ended as they have to")
    return 1 if failed or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
