#!/usr/bin/env python3
"""Finalize script of mkosi: take out of the image what it does not need to run.

Programs are kept by name and everything else in /usr/bin and /usr/sbin goes: no shell, no package
manager, no way to log in is left. Runs in the build environment with its Python, for the image
($BUILDROOT) and for its initrd.
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
from pathlib import Path

# What PID 1, udev and the units of this image execute.
_BOTH = frozenset(
    {
        "dmsetup",
        "journalctl",
        "kmod",
        "modinfo",
        "modprobe",
        "mount",
        "systemctl",
        "systemd-sysusers",
        "systemd-tmpfiles",
        "udevadm",
        "umount",
    }
)
_IMAGE = frozenset({"networkctl", "nft", "python3", "python3.13", "systemd-notify", "veritysetup"})
_GPU = frozenset({"nvidia-modprobe", "nvidia-persistenced", "nvidia-smi"})
# Each of the others opens a door for the host or the disk: shells, gettys, ssh over vsock, swap and
# other partitions found by type, units named on the command line.
_GENERATORS = frozenset({"systemd-fstab-generator", "systemd-veritysetup-generator"})
_UNITS = (
    "*getty*",
    "autovt@.service",
    "debug-shell.service",
    "proc-sys-fs-binfmt_misc.*",
    "systemd-ask-password-*",
    "systemd-binfmt.service",
    "systemd-bsod.service",
    "systemd-confext*",
    "systemd-creds*",
    "systemd-firstboot.service",
    "systemd-hibernate*",
    "systemd-homed*",
    "systemd-hybrid-sleep*",
    "systemd-pcr*",
    "systemd-repart*",
    "systemd-suspend*",
    "systemd-sysext*",
    "systemd-tpm2-setup*",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "tpm2.target",
    "quotaon*",
)
_TREES = (
    "boot",
    "efi/loader",
    "etc/apt",
    "etc/credstore*",
    "etc/cron.d",
    "etc/cron.daily",
    "etc/debconf.conf",
    "etc/default/useradd",
    "etc/dpkg",
    "etc/initramfs-tools",
    "etc/issue",
    "etc/issue.net",
    "etc/kernel",
    "etc/login.defs",
    "etc/motd",
    "etc/pam.conf",
    "etc/pam.d",
    "etc/profile",
    "etc/profile.d",
    "etc/resolv.conf",
    "etc/rc*.d",
    "etc/init.d",
    "etc/securetty",
    "etc/shells",
    "etc/skel",
    "etc/ssh",
    "etc/subgid*",
    "etc/subuid*",
    "etc/udev/hwdb.bin",
    "etc/update-motd.d",
    "etc/X11",
    "etc/.pwd.lock",
    "etc/*-",
    "root/.*",
    "usr/games",
    "usr/include",
    "usr/lib/apt",
    "usr/lib/credstore",
    "usr/lib/dpkg",
    "usr/lib/init",
    "usr/lib/initramfs-tools",
    "usr/lib/klibc*",
    "usr/lib/kernel",
    "usr/lib/lsb",
    "usr/lib/python3.13/ensurepip",
    "usr/lib/python3.13/idlelib",
    "usr/lib/python3.13/lib2to3",
    "usr/lib/python3.13/pydoc_data",
    "usr/lib/python3.13/tkinter",
    "usr/lib/python3.13/turtledemo",
    "usr/lib/python3.13/venv",
    "usr/lib/ssl/misc",
    "usr/lib/systemd/catalog",
    "usr/lib/systemd/ntp-units.d",
    "usr/lib/systemd/user",
    "usr/lib/systemd/user-*",
    "usr/lib/tiny_initramfs",
    "usr/lib/tmpfiles.d/20-systemd-shell-extra.conf",
    "usr/lib/tmpfiles.d/credstore.conf",
    "usr/lib/tmpfiles.d/debian.conf",
    "usr/lib/tmpfiles.d/home.conf",
    "usr/lib/tmpfiles.d/provision.conf",
    "usr/lib/tmpfiles.d/20-systemd-ssh-generator.conf",
    "usr/lib/udev/hwdb.d",
    "usr/lib/x86_64-linux-gnu/perl*",
    "usr/lib/x86_64-linux-gnu/security",
    "usr/local",
    "usr/share/apport",
    "usr/share/base-files",
    "usr/share/base-passwd",
    "usr/share/bash-completion",
    "usr/share/bug",
    "usr/share/common-licenses",
    "usr/share/debconf",
    "usr/share/debianutils",
    "usr/share/doc",
    "usr/share/dpkg",
    "usr/share/info",
    "usr/share/initramfs-tools",
    "usr/share/lintian",
    "usr/share/locale",
    "usr/share/man",
    "usr/share/menu",
    "usr/share/pam*",
    "usr/share/perl*",
    "usr/share/pixmaps",
    "usr/share/polkit-1",
    "usr/share/zsh",
    "usr/src",
    "var/backups",
    "var/cache",
    "var/lib",
    "var/log",
    "var/spool",
    "vmlinuz*",
    "initrd.img*",
)
_PRIVATE = (
    "efi",
    "etc/gshadow",
    "etc/security/opasswd",
    "etc/shadow",
    "etc/ssl/private",
    "root",
)
_UNIT_DIRECTORIES = ("usr/lib/systemd/system", "etc/systemd/system")


def _remove(path: Path) -> None:
    if path.is_symlink() or not path.is_dir():
        path.unlink()
    else:
        shutil.rmtree(path)


def prune_programs(root: Path, keep: frozenset[str]) -> None:
    """Leave in /usr/bin and /usr/sbin what `keep` names, and links whose target stays."""
    for directory in (root / "usr/bin", root / "usr/sbin"):
        if directory.is_symlink() or not directory.is_dir():
            continue
        for path in sorted(directory.iterdir()):
            if path.name not in keep:
                _remove(path)


def prune_units(root: Path) -> None:
    """Take out generators that act for the host, and units that no boot of this image starts."""
    generators = root / "usr/lib/systemd/system-generators"
    for path in sorted(generators.iterdir()):
        if path.name not in _GENERATORS:
            _remove(path)
    for directory in _UNIT_DIRECTORIES:
        for pattern in _UNITS:
            for path in sorted((root / directory).rglob(pattern)):
                if path.is_symlink() or path.exists():
                    _remove(path)


def prune_alternatives(root: Path) -> None:
    """Take out links of /etc/alternatives to what is not there any more."""
    for path in sorted((root / "etc/alternatives").glob("*")):
        if path.is_symlink() and not os.path.lexists(root / str(path.readlink()).lstrip("/")):
            path.unlink()


def lock_accounts(root: Path) -> None:
    """No account has a password or a shell."""
    passwd = root / "etc/passwd"
    lines = [line.split(":") for line in passwd.read_text().splitlines()]
    passwd.write_text("".join(":".join((*line[:6], "/nonexistent")) + "\n" for line in lines))
    shadow = root / "etc/shadow"
    if shadow.exists():
        rows = [line.split(":") for line in shadow.read_text().splitlines()]
        shadow.write_text("".join(":".join((row[0], "!*", *row[2:])) + "\n" for row in rows))


def normalise_modes(root: Path) -> None:
    """Nothing is set-id, nothing can be written by group or others, and all but `_PRIVATE` can be
    read by everybody: the umasks of a checkout and of a build are not part of the image.
    """
    private = tuple(root / name for name in _PRIVATE)
    for directory, names, files in os.walk(root):
        for name in (*names, *files):
            path = Path(directory, name)
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                continue
            if not any(path.is_relative_to(one) for one in private):
                mode |= 0o555 if stat.S_ISDIR(mode) or mode & stat.S_IXUSR else 0o444
            cut = stat.S_ISUID | stat.S_ISGID | 0o022
            # Settings are no programs, whatever a package thinks.
            cut |= 0o111 if stat.S_ISREG(mode) and path.is_relative_to(root / "etc") else 0
            path.chmod(stat.S_IMODE(mode) & ~cut)


def main() -> int:
    root = Path(os.environ["BUILDROOT"])
    is_initrd = (root / "etc/initrd-release").exists() or (root / "etc/initrd-release").is_symlink()
    # The image's own Python may be at work under another name: nothing here runs inside it.
    prune_programs(root, _BOTH if is_initrd else _BOTH | _IMAGE | _GPU)
    prune_units(root)
    for pattern in _TREES:
        for path in sorted(root.glob(pattern)):
            _remove(path)
    prune_alternatives(root)
    lock_accounts(root)
    normalise_modes(root)
    for name in (
        () if is_initrd else ("boot", "efi", "opt/engine", "srv/model", "var/lib", "var/log")
    ):
        (root / name).mkdir(parents=True, exist_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
