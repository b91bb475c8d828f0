"""The units of the image: what runs after what, what each may do, and what happens when it dies."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXTRA = ROOT / "enclave_image" / "mkosi.extra"
GPU = ROOT / "enclave_image" / "mkosi.profiles" / "gpu" / "mkosi.extra"
CPU = ROOT / "enclave_image" / "mkosi.profiles" / "cpu" / "mkosi.extra"
SYSTEM = "usr/lib/systemd/system"

Unit = Mapping[str, list[str]]
CHAIN = (
    "attested-firewall",
    "attested-measure",
    "vllm",
    "attested-ready",
    "attested-notary",
    "attested-gateway",
)
SERVICES = sorted(
    path
    for place in (EXTRA, GPU)
    for path in (place / SYSTEM).glob("*.service")
    if path.stem in {*CHAIN, "attested-gpu", "attested-gpu-evidence"}
)
HARDENED = [path for path in SERVICES if path.stem != "attested-firewall"]
OUTSIDE = (
    "LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT", "PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy",
    "https_proxy", "all_proxy",
)  # fmt: skip


def read(path: Path) -> Unit:
    """A unit's settings: every value of `Section.Name`, in order; an empty one clears the list."""
    found: dict[str, list[str]] = defaultdict(list)
    section = ""
    for line in path.read_text().splitlines():
        if not line or line.startswith(("#", ";")):
            continue
        if line.startswith("["):
            section = line.strip("[]")
            continue
        name, equals, value = line.partition("=")
        assert equals, f"{path.name}: {line}"
        found[f"{section}.{name}"].append(value)
    return found


def unit(name: str) -> Unit:
    for place in (EXTRA, GPU):
        path = place / SYSTEM / f"{name}.service"
        if path.exists():
            return read(path)
    raise AssertionError(name)


def words(one: Unit, name: str) -> set[str]:
    return {word for value in one.get(name, []) for word in value.split()}


def last(one: Unit, name: str) -> str:
    assert one.get(name), f"no {name}"
    return one[name][-1]


# -- order ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("later", "sooner"),
    [
        ("attested-measure", "attested-firewall"),
        ("attested-measure", "attested-pack@engine"),
        ("attested-measure", "attested-pack@model"),
        ("vllm", "attested-measure"),
        ("vllm", "attested-pack@engine"),
        ("vllm", "attested-pack@model"),
        ("attested-gateway", "attested-measure"),
        ("attested-gateway", "vllm"),
        ("attested-ready", "attested-measure"),
        ("attested-ready", "vllm"),
        ("attested-notary", "attested-measure"),
        ("attested-notary", "attested-ready"),
        ("attested-gateway", "attested-notary"),
        ("attested-gpu-evidence", "attested-measure"),
        ("attested-gpu", "attested-measure"),
        ("attested-gpu", "attested-gpu-evidence"),
    ],
)
def test_nothing_starts_without_and_before_what_it_rests_on(later: str, sooner: str) -> None:
    one = unit(later)
    assert f"{sooner}.service" in words(one, "Unit.Requires")
    assert f"{sooner}.service" in words(one, "Unit.After")


def test_engine_of_the_gpu_image_waits_for_accepted_gpus() -> None:
    drop_in = read(GPU / SYSTEM / "vllm.service.d" / "10-gpu.conf")
    assert words(drop_in, "Unit.Requires") == {"attested-gpu.service"}
    assert "attested-gpu.service" in words(unit("vllm"), "Unit.After")
    for name in ("attested-ready", "attested-gateway"):
        assert "attested-gpu.service" in words(unit(name), "Unit.After")


def test_gateway_ends_with_its_engine_and_its_notary() -> None:
    bound = words(unit("attested-gateway"), "Unit.BindsTo")
    assert bound == {"attested-notary.service", "vllm.service"}


def test_workers_start_after_the_notary_says_that_it_can_be_connected_to() -> None:
    assert last(unit("attested-notary"), "Service.Type") == "notify"
    assert last(unit("attested-notary"), "Service.NotifyAccess") == "main"


def test_packet_filter_is_there_before_the_network() -> None:
    one = unit("attested-firewall")
    assert {"network-pre.target", "systemd-networkd.service"} <= words(one, "Unit.Before")
    assert last(one, "Unit.DefaultDependencies") == "no"


def test_engine_is_seen_to_be_closed_before_the_notary_binds_keys() -> None:
    (ready,) = unit("attested-ready")["Service.ExecStart"]
    (notary,) = unit("attested-notary")["Service.ExecStart"]
    (serve,) = unit("attested-gateway")["Service.ExecStart"]
    assert " measure-runtime ready " in ready
    assert " notary " in notary
    assert " serve " in serve
    assert last(unit("attested-ready"), "Service.Type") == "oneshot"


def test_gpus_are_ready_only_after_their_evidence_is_measured() -> None:
    measured, ready = unit("attested-gpu")["Service.ExecStart"]
    assert " measure-runtime gpu " in measured
    assert ready.endswith("nvidia-smi conf-compute -srs 1")


def test_every_command_of_the_gateway_reads_the_same_settings() -> None:
    commands = [
        command
        for path in SERVICES
        for name in ("ExecStart", "ExecStartPre")
        for command in read(path).get(f"Service.{name}", [])
        if "/usr/lib/attested/bin/attested " in command and " engine " not in command
    ]
    assert len(commands) == 5
    assert all(" --config /usr/share/attested/gateway.toml" in command for command in commands)


# -- death ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.stem)
def test_machine_ends_when_a_part_of_it_fails(path: Path) -> None:
    one = read(path)
    assert last(one, "Unit.FailureAction") == "poweroff-force"
    assert one.get("Service.Restart", ["no"]) == ["no"]


@pytest.mark.parametrize("name", ["vllm", "attested-notary", "attested-gateway"])
def test_machine_ends_when_what_serves_stops_by_itself(name: str) -> None:
    assert last(unit(name), "Unit.SuccessAction") == "poweroff"


# -- what each may do -------------------------------------------------------------------------

EVERYWHERE = {
    "LimitCORE": "0",
    "LockPersonality": "yes",
    "MemorySwapMax": "0",
    "NoNewPrivileges": "yes",
    "PrivateTmp": "yes",
    "ProtectClock": "yes",
    "ProtectControlGroups": "yes",
    "ProtectHome": "yes",
    "ProtectHostname": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectKernelModules": "yes",
    "ProtectSystem": "strict",
    "RestrictNamespaces": "yes",
    "RestrictRealtime": "yes",
    "RestrictSUIDSGID": "yes",
    "SystemCallArchitectures": "native",
}
ENGINE = {
    "AmbientCapabilities": "",
    "CapabilityBoundingSet": "",
    "CoredumpFilter": "0",
    "DevicePolicy": "closed",
    "IPAddressDeny": "any",
    "IPAddressAllow": "localhost",
    "KeyringMode": "private",
    "OOMPolicy": "stop",
    "PrivateDevices": "yes",
    "PrivateIPC": "yes",
    "PrivateNetwork": "yes",
    "ProtectKernelTunables": "yes",
    "ProtectProc": "invisible",
    "RemoveIPC": "yes",
    "StandardError": "null",
    "StandardInput": "null",
    "StandardOutput": "null",
    "UMask": "0007",
    "User": "vllm",
}


@pytest.mark.parametrize("name", EVERYWHERE)
@pytest.mark.parametrize("path", HARDENED, ids=lambda path: path.stem)
def test_hardening_line_stands_in_every_unit(path: Path, name: str) -> None:
    assert read(path)[f"Service.{name}"] == [EVERYWHERE[name]]


@pytest.mark.parametrize("path", HARDENED, ids=lambda path: path.stem)
def test_system_calls_are_a_closed_list(path: Path) -> None:
    assert read(path)["Service.SystemCallFilter"][0] == "@system-service"


@pytest.mark.parametrize("path", HARDENED, ids=lambda path: path.stem)
def test_variables_of_the_host_reach_no_unit(path: Path) -> None:
    assert set(OUTSIDE) <= words(read(path), "Service.UnsetEnvironment")
    assert "Service.EnvironmentFile" not in read(path)
    assert "Service.PassEnvironment" not in read(path)
    assert not any(name.startswith("Service.LoadCredential") for name in read(path))


@pytest.mark.parametrize("path", HARDENED, ids=lambda path: path.stem)
def test_no_unit_runs_as_root(path: Path) -> None:
    # None but the notary's steps runs as the notary's user.
    others = {"vllm": "vllm", "attested-gateway": "attested-gateway"}
    assert last(read(path), "Service.User") == others.get(path.stem, "attested-notary")
    assert last(read(path), "Service.Group") == last(read(path), "Service.User")


@pytest.mark.parametrize("name", ENGINE)
def test_hardening_line_stands_in_the_engines_unit(name: str) -> None:
    assert unit("vllm")[f"Service.{name}"] == [ENGINE[name]]


NOTARYS = {
    "-/sys/kernel/config",
    "-/dev/tdx_guest",
    "-/sys/devices/virtual/misc/tdx_guest",
    "-/var/lib/attested",
    "-/run/attested",
}


def test_engine_sees_neither_keys_nor_evidence_interfaces() -> None:
    hidden = words(unit("vllm"), "Service.InaccessiblePaths")
    assert hidden == NOTARYS | {"-/var/lib/attested-gateway", "-/run/attested-notary"}


# The verifier of the GPUs' vendor runs as the notary's user before there is a notary.
@pytest.mark.parametrize("name", ["attested-gateway", "attested-gpu-evidence"])
def test_interfaces_and_files_of_the_notary_are_hidden_from(name: str) -> None:
    assert words(unit(name), "Service.InaccessiblePaths") == NOTARYS


def test_workers_reach_the_port_and_two_sockets_and_nothing_of_the_notarys() -> None:
    one = unit("attested-gateway")
    assert one["Service.PrivateDevices"] == ["yes"]
    assert one["Service.DevicePolicy"] == ["closed"]
    assert "Service.DeviceAllow" not in one
    assert "Service.ReadWritePaths" not in one
    assert one["Service.StateDirectory"] == ["attested-gateway"]
    assert words(one, "Service.RestrictAddressFamilies") == {"AF_UNIX", "AF_INET"}


def test_notary_has_the_quotes_the_registers_the_log_and_no_network() -> None:
    one = unit("attested-notary")
    assert one["Service.DeviceAllow"] == ["/dev/tdx_guest rw"]
    assert one["Service.DevicePolicy"] == ["closed"]
    assert one["Service.StateDirectory"] == ["attested"]
    assert one["Service.StateDirectoryMode"] == ["0700"]
    assert one["Service.IPAddressDeny"] == ["any"]
    assert words(one, "Service.RestrictAddressFamilies") == {"AF_UNIX", "AF_VSOCK"}
    # Only the step that asks the engine whether it is closed may connect to it.
    assert "Service.SupplementaryGroups" not in one
    assert unit("attested-ready")["Service.SupplementaryGroups"] == ["vllm"]


def test_notarys_socket_is_its_groups_and_where_the_settings_say() -> None:
    one = unit("attested-notary")
    settings = tomllib.loads((EXTRA / "usr/share/attested/gateway.toml").read_text())
    place = Path(settings["notary"]["socket"])
    assert one["Service.RuntimeDirectory"] == [place.parent.name]
    assert place.parent.parent == Path("/run")
    assert one["Service.RuntimeDirectoryMode"] == ["0750"]
    assert one["Service.User"] == [settings["notary"]["user"]]
    assert unit("attested-gateway")["Service.User"] == [settings["notary"]["gateway_user"]]
    log = Path(settings["notary"]["data_dir"])
    assert log.parent == Path("/var/lib", *one["Service.StateDirectory"])
    budgets = Path(settings["access"]["budgets_file"])
    kept = unit("attested-gateway")["Service.StateDirectory"]
    assert budgets.parent == Path("/var/lib", *kept)


def test_engine_cannot_look_into_other_processes() -> None:
    (_, refused) = unit("vllm")["Service.SystemCallFilter"]
    assert refused.startswith("~")
    assert {"ptrace", "process_vm_readv", "process_vm_writev"} <= set(refused[1:].split())


@pytest.mark.parametrize("path", HARDENED, ids=lambda path: path.stem)
def test_no_unit_has_a_capability(path: Path) -> None:
    one = read(path)
    assert one["Service.CapabilityBoundingSet"] == [""]
    assert one.get("Service.AmbientCapabilities", [""]) == [""]


def test_quotes_through_configfs_take_one_capability_where_they_are_asked_for() -> None:
    drop_in = read(GPU / SYSTEM / "attested-notary.service.d" / "10-configfs.conf")
    assert drop_in == {
        "Service.AmbientCapabilities": ["CAP_DAC_OVERRIDE"],
        "Service.CapabilityBoundingSet": ["CAP_DAC_OVERRIDE"],
    }


def test_engine_starts_by_its_lock_alone() -> None:
    (command,) = unit("vllm")["Service.ExecStart"]
    assert command.split()[1:] == [
        "engine",
        "--lock",
        "/srv/model/.attested/model.lock",
        "--executable",
        "/opt/engine/bin/vllm",
    ]


def test_users_have_the_numbers_that_the_units_name() -> None:
    accounts = (EXTRA / "usr/lib/sysusers.d/attested.conf").read_text()
    numbers = dict(re.findall(r"^u ([\w-]+) (\d+) ", accounts, re.MULTILINE))
    assert set(numbers) == {"attested-gateway", "attested-notary", "vllm"}
    members = re.findall(r"^m ([\w-]+) ([\w-]+)$", accounts, re.MULTILINE)
    assert members == [("attested-gateway", "vllm"), ("attested-gateway", "attested-notary")]
    (cache,) = unit("vllm")["Service.TemporaryFileSystem"]
    assert f"uid={numbers['vllm']},gid={numbers['vllm']}," in cache


def test_only_the_notarys_user_gets_registers_and_reports() -> None:
    lines = [
        line.split()
        for line in (EXTRA / "usr/share/attested/registers.conf").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert [line[1].rsplit("/", 1)[1] for line in lines] == ["rtmr3:sha384", "tdx_guest"]
    assert {tuple(line[2:5]) for line in lines} == {("0600", "attested-notary", "attested-notary")}
    assert "PrivateDevices" in (EXTRA / SYSTEM / "vllm.service").read_text()


def test_stand_in_engine_changes_the_command_and_no_line_of_the_cage() -> None:
    drop_in = read(CPU / SYSTEM / "vllm.service.d" / "10-demo-engine.conf")
    assert set(drop_in) == {"Service.ExecStart"}
    assert drop_in["Service.ExecStart"][0] == ""


def test_gpu_image_opens_gpus_to_the_engine_and_nothing_else() -> None:
    drop_in = read(GPU / SYSTEM / "vllm.service.d" / "10-gpu.conf")
    assert set(drop_in) == {"Unit.Requires", "Service.PrivateDevices", "Service.DeviceAllow"}
    assert all(value.startswith("char-nvidia") for value in drop_in["Service.DeviceAllow"])


def test_what_needs_hardware_says_that_it_has_not_run_there() -> None:
    files = [path for path in GPU.rglob("*") if path.is_file() and "systemd" in path.parts]
    assert files
    assert all(path.read_text().startswith("# NOT RUN ON HARDWARE.") for path in files)


# -- packet filter ----------------------------------------------------------------------------


def chains() -> dict[str, list[str]]:
    text = (EXTRA / "etc/nftables/attested.nft").read_text()
    assert text.count("flush ruleset") == 1
    found = re.findall(r"chain (\w+) \{\n(.*?)\n    \}", text, re.DOTALL)
    return {name: [line.strip() for line in body.splitlines()] for name, body in found}


@pytest.mark.parametrize("chain", ["input", "forward", "output"])
def test_packets_are_dropped_unless_a_rule_takes_them(chain: str) -> None:
    head = chains()[chain][0]
    assert head == f"type filter hook {chain} priority filter; policy drop;"


def test_one_port_is_open_and_it_is_the_gateways() -> None:
    settings = (EXTRA / "usr/share/attested/gateway.toml").read_text()
    assert "\nport = 8443\n" in settings
    new = [rule for rule in chains()["input"] if "dport" in rule]
    assert [re.findall(r"dport (\d+)", rule) for rule in new] == [["8443"], ["68"]]


def test_nobody_inside_calls_out_but_for_an_address() -> None:
    assert chains()["output"][1:] == [
        'oifname "lo" accept',
        "ct state { established, related } accept",
        "udp sport 68 udp dport 67 accept",
    ]


# -- systemd's own look -----------------------------------------------------------------------


def test_units_are_as_systemd_reads_them(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed: nobody but these tests read the units")
    for path in (EXTRA / SYSTEM).iterdir():
        if path.is_file():
            target = tmp_path / SYSTEM / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    for name in ("lib/attested/bin/attested", "bin/systemd-tmpfiles", "sbin/nft", "sbin/modprobe"):
        program = tmp_path / "usr" / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    (tmp_path / "etc").mkdir()
    users = (("root", 0), ("attested-gateway", 981), ("attested-notary", 982), ("vllm", 983))
    (tmp_path / "etc/passwd").write_text(
        "".join(f"{name}:x:{number}:{number}::/:/usr/sbin/nologin\n" for name, number in users)
    )
    done = subprocess.run(
        [
            *("systemd-analyze", "verify", f"--root={tmp_path}", "--man=no"),
            "--recursive-errors=no",
            *(f"{name}.service" for name in CHAIN),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    ours = [line for line in done.stderr.splitlines() if any(f"{n}.service" in line for n in CHAIN)]
    assert (done.returncode, ours) == (0, [])
