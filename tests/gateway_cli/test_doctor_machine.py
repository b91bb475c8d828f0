"""`attested doctor` on machines that are folders: each thing there, missing, or in the way."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from gateway.cli.checkup.finding import Finding, Level
from gateway.cli.checkup.machine import Machine

REPORTS = "sys/kernel/config/tsm/report"
MEASUREMENTS = "sys/devices/virtual/misc/tdx_guest/measurements"
GUEST = {
    "proc/sys/kernel/osrelease": "6.16.3-guest\n",
    "proc/cpuinfo": "processor\t: 0\nflags\t\t: fpu tdx_guest rdtscp\n",
    "proc/mounts": "configfs /sys/kernel/config configfs rw 0 0\n",
    f"{REPORTS}/entry/provider": "tdx_guest\n",
    f"{MEASUREMENTS}/rtmr3:sha384": "",
    "dev/vsock": "",
}


def machine(root: Path, **changes: str | None) -> Path:
    """A TDX guest's files, less those that `changes` leaves out."""
    for name, text in (GUEST | {_path(key): value for key, value in changes.items()}).items():
        if text is not None:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return root


def _path(key: str) -> str:
    return {
        "release": "proc/sys/kernel/osrelease",
        "cpuinfo": "proc/cpuinfo",
        "mounts": "proc/mounts",
        "reports": f"{REPORTS}/entry/provider",
        "rtmr3": f"{MEASUREMENTS}/rtmr3:sha384",
        "vsock": "dev/vsock",
        "ccel": "sys/firmware/acpi/tables/data/CCEL",
    }[key]


def found(root: Path, name: str, scheme: str = "configfs-tsm", **more: str) -> Finding:
    findings = {each.id: each for each in Machine(root=root, scheme=scheme, **more).findings()}
    return findings[f"machine.{name}"]


def test_tdx_guest_has_all_that_quotes_from_its_kernel_need(tmp_path: Path) -> None:
    levels = {each.id: each.level for each in Machine(root=machine(tmp_path)).findings()}
    assert levels == {
        "machine.kernel": Level.OK,
        "machine.cpu": Level.OK,
        "machine.device": Level.ABSENT,
        "machine.configfs": Level.OK,
        "machine.reports": Level.OK,
        "machine.measurements": Level.OK,
        "machine.ccel": Level.ABSENT,
        "machine.vsock": Level.OK,
        "machine.dstack": Level.ABSENT,
    }


@pytest.mark.parametrize(
    ("name", "change", "scheme", "said"),
    [
        ("kernel", {"release": "6.6.1"}, "configfs-tsm", "older than 6.7"),
        ("kernel", {"release": None}, "configfs-tsm", "no Linux"),
        ("kernel", {"release": "strange"}, "configfs-tsm", "older than 6.7"),
        ("cpu", {"cpuinfo": "flags : fpu\n"}, "configfs-tsm", "not set"),
        ("cpu", {"cpuinfo": None}, "vsock-qgs", "shows no flags"),
        ("configfs", {"mounts": "proc /proc proc rw 0 0\n"}, "configfs-tsm", "not mounted"),
        ("configfs", {"mounts": "none /mnt configfs rw 0 0\n"}, "configfs-tsm", "at /mnt only"),
        ("reports", {"reports": None}, "configfs-tsm", "not there"),
        ("reports", {"reports": "sev_guest\n"}, "configfs-tsm", "for sev_guest"),
        ("vsock", {"vsock": None}, "vsock-qgs", "not there"),
        ("device", {}, "vsock-qgs", "not there"),
        ("dstack", {}, "dstack", "not there"),
    ],
)
def test_what_the_provider_needs_fails_where_it_lacks_and_is_only_absent_elsewhere(
    tmp_path: Path, name: str, change: dict[str, str | None], scheme: str, said: str
) -> None:
    root = machine(tmp_path, **change)
    needed = found(root, name, scheme)
    assert needed.level is Level.FAIL
    assert said in needed.seen
    assert needed.todo
    assert found(root, name, "simulated").level is Level.ABSENT


def test_flag_that_only_contains_the_name_is_not_the_flag(tmp_path: Path) -> None:
    root = machine(tmp_path, cpuinfo="flags : fpu no_tdx_guest tdx_guest_x\nbugs : tdx_guest\n")
    assert found(root, "cpu").level is Level.FAIL


def test_kernel_without_registers_is_a_warning_that_names_the_policy(tmp_path: Path) -> None:
    root = machine(tmp_path, release="6.12.0", rtmr3=None)
    assert found(root, "kernel").level is Level.WARN
    assert "unbound_keys" in found(root, "kernel").todo
    assert found(root, "measurements").level is Level.WARN
    assert found(root, "measurements", "dstack").level is Level.ABSENT


def test_register_that_cannot_be_written_is_a_warning(tmp_path: Path) -> None:
    root = machine(tmp_path)
    (root / MEASUREMENTS / "rtmr3:sha384").chmod(0o444)
    assert found(root, "measurements").level is Level.WARN
    assert "not extended" in found(root, "measurements").seen


def test_registers_are_found_under_their_other_name_too(tmp_path: Path) -> None:
    root = machine(tmp_path, rtmr3=None)
    path = root / "sys/class/misc/tdx_guest/measurements/rtmr3:sha384"
    path.parent.mkdir(parents=True)
    path.write_text("")
    assert found(root, "measurements").level is Level.OK


def test_boot_log_that_is_none_is_named(tmp_path: Path) -> None:
    assert found(machine(tmp_path, ccel="no such log"), "ccel").level is Level.WARN


def test_socket_of_the_agent_is_found_where_the_settings_say(tmp_path: Path) -> None:
    root = machine(tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "agent.sock"))
        seen = found(root, "dstack", "dstack", dstack_socket="/agent.sock")
    assert seen.level is Level.OK
    (root / "file.sock").write_text("")
    seen = found(root, "dstack", "dstack", dstack_socket="/file.sock")
    assert (seen.level, "no socket" in seen.seen) == (Level.FAIL, True)


def test_character_device_is_a_device_and_one_open_to_all_is_a_warning(tmp_path: Path) -> None:
    root = machine(tmp_path)
    device = root / "dev/tdx_guest"
    try:
        os.mknod(device, 0o20600, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("only root makes devices")
    device.chmod(0o600)
    assert found(root, "device").level is Level.OK
    device.chmod(0o666)
    assert found(root, "device").level is Level.WARN


def test_on_a_machine_that_is_no_guest_one_thing_is_to_be_done(tmp_path: Path) -> None:
    root = machine(tmp_path, cpuinfo="flags : fpu\n", mounts=None, reports=None, rtmr3=None)
    findings = {each.id: each for each in Machine(root=root).findings()}
    assert findings["machine.cpu"].todo
    for name in ("device", "configfs", "reports", "measurements"):
        assert findings[f"machine.{name}"].level is Level.ABSENT
        assert not findings[f"machine.{name}"].todo


def test_what_may_not_be_looked_at_is_not_called_missing(tmp_path: Path) -> None:
    root = machine(tmp_path, vsock=None, reports=None)
    for name in ("dev/vsock", "sys/kernel/config/tsm"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(path)
    assert "not to be looked at" in found(root, "vsock", "vsock-qgs").seen
    assert "not to be looked at" in found(root, "reports").seen


def test_empty_root_is_looked_at_without_a_failure_of_ours(tmp_path: Path) -> None:
    for scheme in ("", "simulated", "configfs-tsm", "vsock-qgs", "dstack"):
        assert all(each.seen for each in Machine(root=tmp_path, scheme=scheme).findings())
