"""Look into the built image for what it must not hold: `make image-scan`.

The root file system is taken out of the disk, the initrd out of the UKI: what is looked at is what
boots, not what a build left behind.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from image_files import PROFILES, ImageError, artefact, cache, host, output, run, say

_SECTOR = 512
_ZSTD = b"\x28\xb5\x2f\xfd"
_NEWC = b"070701"
_SHELLS = "sh bash dash rbash ash ksh zsh fish tcsh csh busybox klibc toybox screen tmux script"
_LOGIN = "login su sudo doas sulogin agetty getty mingetty newgrp run0 pkexec machinectl nsenter"
_REMOTE = "sshd ssh dropbear telnetd in.telnetd rlogind socat nc ncat netcat ttyd gdbserver"
_AGENTS = "qemu-ga cloud-init cloud-id waagent google_guest_agent vmtoolsd xe-daemon snapd"
_COMPILERS = "cc gcc g++ c++ cpp c89 c99 clang clang++ tcc ld ld.bfd gold as rustc cargo go make"
_PACKAGES = "apt apt-get apt-cache dpkg dpkg-deb aptitude rpm dnf pip pip3 pip3.13 conda ensurepip"
_DEBUGGERS = "gdb strace ltrace perf bpftool bpftrace crash systemd-coredump kexec"
_INTERPRETERS = "perl awk mawk gawk ruby lua node php tclsh"
_FETCHERS = "curl wget ftp tftp scp sftp rsync"
FORBIDDEN = {
    "shell": _SHELLS,
    "login": _LOGIN,
    "remote access": _REMOTE,
    "guest agent": _AGENTS,
    "compiler": _COMPILERS,
    "package manager": _PACKAGES,
    "debugger": _DEBUGGERS,
    "interpreter": _INTERPRETERS,
    "download tool": _FETCHERS,
}
STATE = (
    "var/lib/dpkg",
    "var/lib/apt",
    "var/cache/apt",
    "etc/apt",
    "usr/lib/apt",
    "usr/lib/dpkg",
    "usr/lib/python3*/ensurepip",
    "usr/lib/attested/lib/*/site-packages/pip",
    "root/.ssh",
    "etc/ssh",
    "etc/sudoers*",
    "usr/lib/credstore",
    "etc/credstore",
)
UNITS = (
    "*getty*",
    "debug-shell.service",
    "sshd*",
    "ssh*.socket",
    "cloud-*",
    "qemu-guest-agent*",
    "systemd-ask-password-console*",
    "*.swap",
)
GENERATORS = frozenset({"systemd-fstab-generator", "systemd-veritysetup-generator"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that must not be in the image."""

    kind: str
    path: str


def walk(root: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Every entry below root, links not followed."""
    for directory, names, files in os.walk(root):
        for name in sorted((*names, *files)):
            path = Path(directory, name)
            yield path, path.lstat()


def _is_program(mode: int) -> bool:
    return stat.S_ISLNK(mode) or (stat.S_ISREG(mode) and bool(mode & 0o111))


def scan_programs(root: Path) -> Iterator[Finding]:
    """Programs by name wherever they lie, and what runs with other rights."""
    kinds = {name: kind for kind, names in FORBIDDEN.items() for name in names.split()}
    for path, status in walk(root):
        where = str(path.relative_to(root))
        if path.name in kinds and _is_program(status.st_mode):
            yield Finding(kind=kinds[path.name], path=where)
        if stat.S_ISREG(status.st_mode) and status.st_mode & (stat.S_ISUID | stat.S_ISGID):
            yield Finding(kind="set-id", path=where)
        if not stat.S_ISLNK(status.st_mode) and status.st_mode & 0o002:
            yield Finding(kind="world-writable", path=where)


def scan_scripts(root: Path) -> Iterator[Finding]:
    """Executable scripts whose interpreter is there and is not the image's Python."""
    for path, status in walk(root):
        if not stat.S_ISREG(status.st_mode) or not status.st_mode & 0o111:
            continue
        with path.open("rb") as file:
            first = file.readline(200)
        if not first.startswith(b"#!"):
            continue
        program = first[2:].split()[0].decode(errors="replace") if first[2:].split() else ""
        # One whose interpreter is missing cannot be started.
        if (root / program.lstrip("/")).exists() and "python" not in program:
            yield Finding(kind="script", path=f"{path.relative_to(root)} ({program})")


def scan_state(root: Path) -> Iterator[Finding]:
    """Package state, units and generators."""
    for pattern in STATE:
        for path in root.glob(pattern):
            yield Finding(kind="state", path=str(path.relative_to(root)))
    for directory in ("usr/lib/systemd/system", "etc/systemd/system"):
        for path in (root / directory).rglob("*"):
            if any(fnmatch.fnmatch(path.name, pattern) for pattern in UNITS):
                yield Finding(kind="unit", path=str(path.relative_to(root)))
    for path in (root / "usr/lib/systemd/system-generators").glob("*"):
        if path.name not in GENERATORS:
            yield Finding(kind="generator", path=str(path.relative_to(root)))


def scan_accounts(root: Path) -> Iterator[Finding]:
    """Passwords, shells, swap, and the machine's identity."""
    for line in (root / "etc/passwd").read_text().splitlines():
        name, password, *_, shell = line.split(":")
        if password not in {"x", "*", "!*"} or (root / shell.lstrip("/")).exists():
            yield Finding(kind="account", path=f"etc/passwd: {name}")
    shadow = root / "etc/shadow"
    for line in shadow.read_text().splitlines() if shadow.exists() else ():
        if line.split(":")[1][:1] not in {"!", "*"}:
            yield Finding(kind="password", path=f"etc/shadow: {line.split(':')[0]}")


def scan_root(root: Path) -> Iterator[Finding]:
    """What holds for the root file system alone."""
    identity = root / "etc/machine-id"
    if not identity.is_file() or identity.read_bytes():
        yield Finding(kind="machine-id", path="etc/machine-id: expected an empty file")
    fstab = (root / "etc/fstab").read_text()
    if any(line.split()[2:3] == ["swap"] for line in fstab.splitlines() if line.strip()):
        yield Finding(kind="swap", path="etc/fstab")
    for name in ("qemu_fw_cfg.ko", "dmi-sysfs.ko"):
        for path in (root / "usr/lib/modules").rglob(f"{name}*"):
            yield Finding(kind="host channel", path=str(path.relative_to(root)))


def extract_root(disk: Path, folder: Path) -> None:
    """The EROFS partition of the disk, as files."""
    done = subprocess.run(
        host("sfdisk", "--json", disk), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ImageError(f"{disk.name}: {done.stderr.strip()}")
    parts = json.loads(done.stdout)["partitiontable"]["partitions"]
    offsets = [part["start"] * _SECTOR for part in parts if part.get("name") == "root-x86-64"]
    if len(offsets) != 1:
        raise ImageError(f"{disk.name}: expected one root partition, seen {len(offsets)}")
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    extract = host("fsck.erofs", f"--offset={offsets[0]}", f"--extract={folder}", disk)
    run(extract, what="fsck.erofs")


def extract_initrd(initrd: Path, folder: Path) -> None:
    """The archives of the initrd, one after the other, as files."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    script = 'if [ "$3" = zst ]; then zstd -dcq "$1"; else cat "$1"; fi | (cd "$2"; cpio -idmu)'
    for at, (kind, data) in enumerate(archives(initrd.read_bytes())):
        part = folder.with_name(f"part{at}.{kind}")
        part.write_bytes(data)
        unpacked = host("sh", "-c", script, "sh", part, folder, kind)
        done = subprocess.run(unpacked, capture_output=True, check=False)
        part.unlink()
        if done.returncode:
            raise ImageError(f"{initrd.name}: archive {at}: {done.stderr.decode()[-500:]}")
    if not (folder / "usr/lib/systemd/systemd").exists():
        raise ImageError(f"{initrd.name}: expected a systemd in it, seen none")


def archives(data: bytes) -> Iterator[tuple[str, bytes]]:
    """The parts of an initrd: each a zstd frame ("zst") or a cpio archive as it is ("cpio")."""
    at = 0
    while at < len(data):
        if data[at] == 0:
            at += 1
        elif data[at : at + 4] == _ZSTD:
            end = _frame_end(data, at)
            yield "zst", data[at:end]
            at = end
        elif data[at : at + 6] == _NEWC:
            end = _archive_end(data, at)
            yield "cpio", data[at:end]
            at = end
        else:
            raise ImageError(
                f"initrd: expected zstd or cpio at byte {at}, seen {data[at : at + 6]!r}"
            )


def _frame_end(data: bytes, at: int) -> int:
    """Where a zstd frame ends (RFC 8878, 3.1.1)."""
    flags = data[at + 4]
    is_single = bool(flags & 0x20)
    content = {0: int(is_single), 1: 2, 2: 4, 3: 8}[flags >> 6]
    at += 5 + (not is_single) + (0, 1, 2, 4)[flags & 3] + content
    is_last = False
    while not is_last:
        header = int.from_bytes(data[at : at + 3], "little")
        is_last = bool(header & 1)
        at += 3 + (1 if header >> 1 & 3 == 1 else header >> 3)
        if at > len(data):
            raise ImageError("initrd: a zstd frame goes on after its end")
    return at + (4 if flags & 4 else 0)


def _archive_end(data: bytes, at: int) -> int:
    """Where a cpio archive (newc) ends: after its trailer."""
    while data[at : at + 6] == _NEWC:
        size, length = (int(data[at + k : at + k + 8], 16) for k in (54, 94))
        name = data[at + 110 : at + 110 + length - 1]
        at += (110 + length + 3) // 4 * 4 + (size + 3) // 4 * 4
        if name == b"TRAILER!!!":
            return at
    raise ImageError(f"initrd: expected a cpio entry at byte {at}, seen none")


def size(root: Path) -> int:
    """Bytes in regular files."""
    return sum(status.st_size for _, status in walk(root) if stat.S_ISREG(status.st_mode))


def report(name: str, root: Path, findings: list[Finding]) -> None:
    """One block on stdout."""
    modules = sorted(path.name for path in root.rglob("*.ko*"))
    programs = sorted(
        path.name for part in ("usr/bin", "usr/sbin") for path in (root / part).glob("*")
    )
    print(f"{name}: {size(root) / (1 << 20):.1f} MiB in files, {len(modules)} kernel modules")
    print(f"  programs: {' '.join(programs)}")
    for finding in findings:
        print(f"  FOUND {finding.kind}: {finding.path}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("profile", choices=PROFILES)
    args = parser.parse_args()
    folder = output(args.profile)
    base = cache() / "scan" / args.profile
    try:
        extract_root(artefact(folder, args.profile, "raw"), base / "root")
        extract_initrd(artefact(folder, args.profile, "initrd"), base / "initrd")
        found = 0
        for name in ("root", "initrd"):
            root = base / name
            scans = [scan_programs, scan_scripts, scan_state, scan_accounts]
            scans += [scan_root] if name == "root" else []
            findings = [finding for scan in scans for finding in scan(root)]
            report(name, root, findings)
            found += len(findings)
        for suffix in ("raw", "efi"):
            path = artefact(folder, args.profile, suffix)
            print(f"{path.name}: {path.stat().st_size / (1 << 20):.1f} MiB")
    except ImageError as error:
        say(str(error))
        return 1
    say(f"{found} findings" if found else "nothing found that must not be there")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
