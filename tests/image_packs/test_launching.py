"""Command lines for TDX hosts: complete, and without anything that the host could slip in."""

from __future__ import annotations

import itertools
import json
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from attestation.cli.measure_inputs import parse_size
from attestation.errors import UsageError
from attestation.statement.model_lock import LockedEngine
from enclave_image.launch.__main__ import main
from enclave_image.launch.qemu import Guest, command_line
from gateway.upstream.engine_start import require_hardened
from gateway.upstream.surface import FORBIDDEN_VARIABLES
from tests.refusals import refusal

LAUNCH = Path(__file__).parents[2] / "enclave_image/launch"
GUEST = Guest(
    firmware=Path("OVMF.fd"),
    disk=Path("gateway.raw"),
    memory="64G",
    cpus=8,
    quotes="vsock:2:4050",
    published=8443,
    packs=(Path("engine.raw"), Path("a,b.raw")),
    cid=5,
)


def values(arguments: list[str], option: str) -> list[str]:
    return [after for before, after in itertools.pairwise(arguments) if before == option]


def test_guest_is_a_trust_domain_with_a_quoting_service() -> None:
    arguments = command_line(GUEST)
    (domain,) = values(arguments, "-object")
    assert json.loads(domain) == {
        "qom-type": "tdx-guest",
        "id": "tdx",
        "quote-generation-socket": {"type": "vsock", "cid": "2", "port": "4050"},
    }
    (machine,) = values(arguments, "-machine")
    assert {"kernel-irqchip=split", "confidential-guest-support=tdx"} <= set(machine.split(","))
    unix = command_line(replace(GUEST, quotes="unix:/run/qgs.socket"))
    assert '"type":"unix","path":"/run/qgs.socket"' in values(unix, "-object")[0]


def test_host_says_neither_kernel_nor_command_line_nor_credentials() -> None:
    arguments = command_line(GUEST)
    given = {word for word in arguments if word.startswith("-")}
    assert {"-nodefaults", "-no-user-config"} <= given
    assert not given & {"-kernel", "-initrd", "-append", "-fw_cfg", "-smbios", "-drive", "-pflash"}
    assert values(arguments, "-monitor") == ["none"]


def test_every_disk_is_read_only_whatever_its_name() -> None:
    disks = [json.loads(text) for text in values(command_line(GUEST), "-blockdev")]
    assert [disk["file"]["filename"] for disk in disks] == ["gateway.raw", "engine.raw", "a,b.raw"]
    assert all(disk["read-only"] for disk in disks)


def test_only_the_image_is_booted_from() -> None:
    devices = values(command_line(GUEST), "-device")
    assert [device for device in devices if "bootindex" in device] == [
        "virtio-blk-pci,drive=image,bootindex=0"
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"memory": "64"}, {"memory": "0G"}, {"memory": "64P"}, {"memory": "64G,maxmem=1T"},
        {"cpus": 0}, {"cpus": 2000}, {"cid": 2}, {"published": 0}, {"published": 65536},
        {"quotes": "tcp:1:2"}, {"quotes": "unix:/a b"}, {"quotes": "vsock:2"},
        {"packs": (Path("a"),) * 3},
    ],
)  # fmt: skip
def test_guest_that_cannot_be_started_is_refused(change: dict[str, Any]) -> None:
    assert refusal(command_line, replace(GUEST, **change), error=UsageError) == "launch"


def test_command_line_is_printed_for_a_shell(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--firmware", "OVMF.fd", "--disk", "gateway.raw", "--memory", "64G"]
    assert main([*arguments, "--pack", "engine.raw", "--pack", "a,b.raw", "--cid", "5"]) == 0
    assert shlex.split(capsys.readouterr().out) == command_line(GUEST)


OPTIONS = ("--firmware", "OVMF.fd", "--disk", "gateway.raw", "--memory", "64G")


def test_files_that_are_not_there_are_warned_about_and_not_run(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([*OPTIONS, "--pack", "engine.raw"]) == 0
    told = capsys.readouterr()
    for name in ("OVMF.fd", "gateway.raw", "engine.raw"):
        assert f"'{name}' is not a file on this machine" in told.err
    assert main([*OPTIONS, "--run"]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "seen     'OVMF.fd', which is none" in told.err


@pytest.mark.parametrize("qemu", ["/absent/qemu", "qemu-that-nobody-has", "a\0b", "."])
def test_qemu_that_cannot_be_started_is_one_message(
    tmp_path: Path, qemu: str, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [tmp_path / "OVMF.fd", tmp_path / "gateway.raw"]
    for path in files:
        path.touch()
    arguments = ["--firmware", str(files[0]), "--disk", str(files[1]), "--memory", "64G"]
    assert main([*arguments, "--run", "--qemu", qemu]) == 14
    told = capsys.readouterr()
    assert told.out == ""
    assert "QEMU cannot be started as " in told.err
    assert "--qemu" in told.err


@pytest.mark.parametrize("memory", ["4194304K", "512M", "64G", "1T"])
def test_sizes_are_those_of_the_prediction(memory: str) -> None:
    assert values(command_line(replace(GUEST, memory=memory)), "-m") == [memory]
    assert parse_size(memory) > 0


def test_refusal_names_the_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*OPTIONS, "--cpus", "0"]) == 2
    told = capsys.readouterr().err
    assert "with this --cpus" in told
    assert "expected 1 to 1024" in told


def test_compose_file_names_images_by_digest_only_and_gives_no_service_more_than_it_needs() -> None:
    text = (LAUNCH / "compose.yaml").read_text(encoding="utf-8")
    images = re.findall(r"^\s+image: (.+)$", text, re.MULTILINE)
    assert len(images) == 2
    assert all(re.fullmatch(r"\$\{[A-Z_]+:\?name it by digest\}", image) for image in images)
    assert text.count("cap_drop: [ALL]") == text.count("read_only: true") == 2
    assert "network_mode: none" in text
    assert "privileged" not in text.replace("no-new-privileges", "")


def test_engine_of_the_compose_file_is_as_closed_as_the_image_demands() -> None:
    text = (LAUNCH / "compose.yaml").read_text(encoding="utf-8")
    words = tuple(re.findall(r"^      - (--\S+)$", text, re.MULTILINE))
    require_hardened(LockedEngine(name="vllm", version="0.32.0", arguments=words))
    assert not {name for name in FORBIDDEN_VARIABLES if name in text}
