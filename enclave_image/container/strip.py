"""Take out of a Debian image with Python what a running gateway does not need.

Shells, package managers, compilers, pip and everything that runs as another user than the one who
starts it. What is left is copied into an empty image, so that nothing of it stays in a lower layer.
"""

from __future__ import annotations

import fnmatch
import os
import shutil
import stat
import sys
from pathlib import Path

_BIN = ("bin", "sbin", "usr/bin", "usr/sbin", "usr/local/bin", "usr/local/sbin")
# By name, in every folder of programs.
PROGRAMS = (
    *("sh", "bash", "dash", "rbash", "zsh", "ksh", "busybox", "su", "sudo", "login", "script"),
    *("apt", "apt-*", "dpkg", "dpkg-*", "aptitude", "debconf*", "update-*", "deb-systemd-*"),
    *("perl*", "cpan*", "gcc*", "g++*", "cc", "c++", "cpp*", "ld", "ld.*", "as", "make", "gdb"),
    *("*-linux-gnu-*", "git*", "curl", "wget", "nc", "ssh*", "scp", "gpg*"),
    *("pip*", "idle*", "pydoc*", "2to3*", "python*-config", "wheel"),
    *("mount", "umount", "chsh", "chfn", "newgrp", "passwd", "gpasswd", "chage", "expiry"),
)
# Folders and files by path.
PATHS = (
    *("var/lib/dpkg", "var/lib/apt", "var/cache", "var/log", "etc/apt", "usr/lib/apt", "root"),
    *("usr/lib/dpkg", "usr/share/perl*", "usr/lib/*/perl*", "usr/lib/gcc", "usr/libexec/gcc"),
    *("usr/include", "usr/local/include", "usr/share/doc", "usr/share/man", "usr/share/info"),
    *("usr/local/lib/python3*/ensurepip", "usr/local/lib/python3*/site-packages/*"),
    *("usr/local/lib/python3*/idlelib", "usr/local/lib/python3*/test", "usr/src"),
    *("usr/lib/python3*/ensurepip", "usr/local/lib/python3*/config-3*", "strip.py"),
)


def strip(root: Path) -> list[str]:
    """Remove it all below `root`; return what was removed, relative to it."""
    removed: list[str] = []
    for folder in _BIN:
        found = [path for path in sorted((root / folder).glob("*")) if _is_listed(path.name)]
        removed += [_remove(path, root) for path in found]
    for pattern in PATHS:
        removed += [_remove(path, root) for path in sorted(root.glob(pattern))]
    for folder, _folders, files in os.walk(root):
        if Path(folder) in (root / "proc", root / "sys", root / "dev"):
            _folders.clear()
            continue
        for name in files:
            _take_rights(Path(folder) / name)
    return removed


def _is_listed(name: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in PROGRAMS)


def _remove(path: Path, root: Path) -> str:
    # A folder that is a link, as /bin on Debian, is met again under its own name.
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    return path.relative_to(root).as_posix()


def _take_rights(path: Path) -> None:
    mode = path.lstat().st_mode
    if stat.S_ISREG(mode) and mode & (stat.S_ISUID | stat.S_ISGID):
        path.chmod(stat.S_IMODE(mode) & ~(stat.S_ISUID | stat.S_ISGID))


if __name__ == "__main__":
    print(f"{len(strip(Path(sys.argv[1])))} files and folders taken out")
