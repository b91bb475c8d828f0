"""What is taken out of the image, what the scan finds, how the event log is found in memory."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import image_scan
import prune
import pytest
from image_files import ImageError, first_difference
from image_machine import find_log
from image_scan import (
    scan_accounts,
    scan_programs,
    scan_root,
    scan_scripts,
    scan_state,
)
from image_wheels import _place


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root file system in which nothing is to be found."""
    for name in ("usr/bin", "usr/lib/systemd/system", "usr/lib/systemd/system-generators", "etc"):
        (tmp_path / name).mkdir(parents=True)
    program(tmp_path, "usr/bin/mount")
    (tmp_path / "usr/lib/systemd/system-generators/systemd-fstab-generator").touch()
    (tmp_path / "etc/machine-id").touch()
    (tmp_path / "etc/fstab").write_text("tmpfs /tmp tmpfs nosuid 0 0\n")
    (tmp_path / "etc/passwd").write_text("root:x:0:0:root:/root:/nonexistent\n")
    (tmp_path / "etc/shadow").write_text("root:!*:1::::::\n")
    return tmp_path


def program(root: Path, name: str, content: bytes = b"\x7fELF", mode: int = 0o755) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(mode)
    return path


def kinds(root: Path) -> set[str]:
    scans = (scan_programs, scan_scripts, scan_state, scan_accounts, scan_root)
    return {finding.kind for scan in scans for finding in scan(root)}


def test_nothing_is_found_where_nothing_is(root: Path) -> None:
    assert kinds(root) == set()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("usr/bin/bash", "shell"),
        ("opt/hidden/sh", "shell"),
        ("usr/sbin/agetty", "login"),
        ("usr/sbin/sshd", "remote access"),
        ("usr/sbin/qemu-ga", "guest agent"),
        ("usr/bin/gcc", "compiler"),
        ("usr/bin/dpkg", "package manager"),
        ("usr/bin/gdb", "debugger"),
        ("usr/bin/perl", "interpreter"),
        ("usr/bin/curl", "download tool"),
    ],
)
def test_a_program_that_opens_a_way_in_is_found(root: Path, name: str, kind: str) -> None:
    program(root, name)
    assert kinds(root) == {kind}


def test_a_link_named_as_a_shell_is_found(root: Path) -> None:
    (root / "usr/bin/sh").symlink_to("mount")
    assert kinds(root) == {"shell"}


def test_a_program_that_takes_other_rights_is_found(root: Path) -> None:
    program(root, "usr/bin/helper", mode=0o4755)
    assert kinds(root) == {"set-id"}


def test_a_file_that_everybody_may_write_is_found(root: Path) -> None:
    program(root, "etc/open", mode=0o666)
    assert kinds(root) == {"world-writable"}


def test_a_script_is_found_if_its_interpreter_is_there(root: Path) -> None:
    program(root, "usr/lib/hook", b"#!/usr/bin/interpreter -e\n")
    assert kinds(root) == set()
    program(root, "usr/bin/interpreter")
    assert kinds(root) == {"script"}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("var/lib/dpkg/status", "state"),
        ("root/.ssh/authorized_keys", "state"),
        ("usr/lib/systemd/system/getty@.service", "unit"),
        ("etc/systemd/system/debug-shell.service", "unit"),
        ("usr/lib/systemd/system/dev-sda2.swap", "unit"),
        ("usr/lib/systemd/system-generators/systemd-ssh-generator", "generator"),
        ("usr/lib/modules/6.12/kernel/qemu_fw_cfg.ko.xz", "host channel"),
    ],
)
def test_a_file_that_must_not_be_there_is_found(root: Path, name: str, kind: str) -> None:
    program(root, name, mode=0o644)
    assert kinds(root) == {kind}


def test_an_account_with_a_shell_that_is_there_is_found(root: Path) -> None:
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/usr/bin/mount\n")
    assert kinds(root) == {"account"}


def test_an_account_with_a_password_is_found(root: Path) -> None:
    (root / "etc/shadow").write_text("root:$y$j9T$abc:1::::::\n")
    assert kinds(root) == {"password"}


def test_a_machine_id_that_is_missing_or_filled_is_found(root: Path) -> None:
    (root / "etc/machine-id").write_text("uninitialized\n")
    assert kinds(root) == {"machine-id"}
    (root / "etc/machine-id").unlink()
    assert kinds(root) == {"machine-id"}


def test_swap_in_fstab_is_found(root: Path) -> None:
    (root / "etc/fstab").write_text("/dev/vdb none swap sw 0 0\n")
    assert kinds(root) == {"swap"}


def test_what_is_not_kept_by_name_goes(root: Path) -> None:
    program(root, "usr/bin/sh")
    program(root, "usr/lib/systemd/system-generators/systemd-ssh-generator")
    program(root, "usr/lib/systemd/system/getty@.service")
    prune.prune_programs(root, frozenset({"mount"}))
    prune.prune_units(root)
    assert os.listdir(root / "usr/bin") == ["mount"]  # noqa: PTH208
    assert kinds(root) == set()


def test_alternatives_of_what_is_gone_go_too(root: Path) -> None:
    (root / "etc/alternatives").mkdir()
    (root / "etc/alternatives/awk").symlink_to("/usr/bin/mawk")
    (root / "etc/alternatives/kept").symlink_to("/usr/bin/mount")
    prune.prune_alternatives(root)
    assert [path.name for path in (root / "etc/alternatives").iterdir()] == ["kept"]
    assert kinds(root) == set()


def test_locked_accounts_have_neither_password_nor_shell(root: Path) -> None:
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/usr/bin/mount\n")
    (root / "etc/shadow").write_text("root::1::::::\n")
    prune.lock_accounts(root)
    assert kinds(root) == set()


def test_modes_do_not_depend_on_the_umask_of_a_checkout(root: Path) -> None:
    path = program(root, "usr/bin/helper", mode=0o6775)
    read = program(root, "usr/lib/attested/module.py", mode=0o600)
    path.parent.chmod(0o700)
    prune.normalise_modes(root)
    assert path.stat().st_mode & 0o7777 == 0o755
    assert read.stat().st_mode & 0o7777 == 0o644
    assert path.parent.stat().st_mode & 0o7777 == 0o755


def test_what_is_private_stays_private(root: Path) -> None:
    (root / "etc/shadow").chmod(0o600)
    key = program(root, "root/key", mode=0o600)
    key.parent.chmod(0o700)
    prune.normalise_modes(root)
    modes = [one.stat().st_mode & 0o777 for one in (root / "etc/shadow", key, key.parent)]
    assert modes == [0o600, 0o600, 0o700]


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("pkg/module.py", "pkg/module.py"),
        ("pkg-1.data/purelib/pkg/a.py", "pkg/a.py"),
        ("pkg-1.dist-info/METADATA", "pkg-1.dist-info/METADATA"),
        ("pkg-1.data/scripts/tool", None),
        ("pkg-1.dist-info/RECORD", None),
        ("../outside.py", None),
        ("/etc/passwd", None),
        ("pkg/", None),
    ],
)
def test_files_of_a_wheel_go_where_python_imports_them_or_nowhere(
    name: str, place: str | None
) -> None:
    found = _place(name)
    assert (None if found is None else str(found)) == place


def test_the_first_byte_that_differs_is_named(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(bytes(3 << 20))
    other.write_bytes(bytes(2 << 20) + b"\1" + bytes((1 << 20) - 1))
    assert first_difference(one, other) == 2 << 20
    assert first_difference(one, one) is None


def test_a_file_that_goes_on_differs_where_the_other_ends(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(b"abc")
    other.write_bytes(b"abcd")
    assert first_difference(one, other) == 3


def log_with(events: int) -> bytes:
    spec = b"Spec ID Event03\0" + bytes(20)
    data = struct.pack("<II", 0, 3) + bytes(20) + struct.pack("<I", len(spec)) + spec
    event = struct.pack("<III", 4, 0x80000003, 1) + struct.pack("<H", 12) + bytes(48)
    return data + (event + struct.pack("<I", 2) + b"ab") * events


def test_the_longest_log_in_memory_is_found_and_ends_with_its_last_event(tmp_path: Path) -> None:
    dump = tmp_path / "memory.bin"
    dump.write_bytes(bytes(4096) + log_with(2) + bytes(4096) + log_with(5) + b"\xff" * 4096)
    assert find_log(dump) == log_with(5)


def test_memory_without_a_log_is_refused(tmp_path: Path) -> None:
    dump = tmp_path / "memory.bin"
    dump.write_bytes(b"Spec ID Event03\0" + bytes(4096))
    with pytest.raises(ImageError, match="seen none"):
        find_log(dump)


def newc(name: bytes, content: bytes) -> bytes:
    fields = [0] * 13
    fields[6], fields[11] = len(content), len(name) + 1
    head = b"070701" + b"".join(f"{field:08x}".encode() for field in fields) + name + b"\0"
    head += bytes(-len(head) % 4)
    return head + content + bytes(-len(content) % 4)


ARCHIVE = newc(b"etc", b"one") + newc(b"TRAILER!!!", b"")
# One raw block of three bytes, single segment; then the same with a checksum behind it.
FRAME = bytes.fromhex("28b52ffd2003190000616263")
SUMMED = bytes.fromhex("28b52ffd240319000061626300000000")


@pytest.mark.parametrize("frame", [FRAME, SUMMED])
def test_every_archive_of_an_initrd_is_found_behind_the_others(frame: bytes) -> None:
    parts = list(image_scan.archives(frame + bytes(8) + ARCHIVE + bytes(512) + frame))
    assert parts == [("zst", frame), ("cpio", ARCHIVE), ("zst", frame)]


@pytest.mark.parametrize("data", [b"\x1f\x8bgzip", FRAME[:-2], ARCHIVE[:120]])
def test_an_initrd_that_cannot_be_read_to_its_end_is_refused(data: bytes) -> None:
    with pytest.raises(ImageError, match="initrd"):
        list(image_scan.archives(data))
