"""What the GPU image adds to units: read as text, for none of it has run on hardware."""

from __future__ import annotations

import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]
BASE = ROOT / "enclave_image/mkosi.extra/usr/lib/systemd/system"
PROFILE = ROOT / "enclave_image/mkosi.profiles/gpu"
EXTRA = PROFILE / "mkosi.extra"
UNITS = EXTRA / "usr/lib/systemd/system"


def values(path: Path, name: str) -> list[str]:
    lines = (line.partition("=") for line in path.read_text().splitlines())
    return [value for key, _, value in lines if key == name]


def test_policy_of_gpus_is_measured_with_what_every_image_measures() -> None:
    (base,) = values(BASE / "attested-measure.service", "ExecStart")
    drop_in = UNITS / "attested-measure.service.d/10-gpu-policy.conf"
    reset, command = values(drop_in, "ExecStart")
    assert reset == ""
    assert command.startswith(base + " --gpu-policy ")


def test_gpus_are_judged_by_the_policy_that_was_measured() -> None:
    drop_in = UNITS / "attested-measure.service.d/10-gpu-policy.conf"
    measured = values(drop_in, "ExecStart")[1].split()[-1]
    tool = runpy.run_path(str(EXTRA / "usr/lib/attested-tools/judge-gpus"))
    assert str(tool["POLICY"]) == measured
    assert (EXTRA / measured.lstrip("/")).is_file()


def test_evidence_that_is_measured_is_what_the_judge_leaves() -> None:
    (judged,) = values(UNITS / "attested-gpu-evidence.service", "ExecStart")
    program, out = judged.split()
    assert (EXTRA / program.lstrip("/")).is_file()
    assert f" --evidence {out}" in values(UNITS / "attested-gpu.service", "ExecStart")[0]


def test_port_waits_for_accepted_gpus_by_two_ways() -> None:
    for name in ("vllm.service.d/10-gpu.conf", "attested-gateway.service.d/10-gpu.conf"):
        assert values(UNITS / name, "Requires") == ["attested-gpu.service"]


def test_machine_ends_where_the_driver_finds_no_gpu() -> None:
    drop_in = UNITS / "nvidia-persistenced.service.d/10-attested.conf"
    assert values(drop_in, "FailureAction") == ["poweroff-force"]
    load, *_ = values(drop_in, "ExecStartPre")
    assert load == "/usr/sbin/modprobe nvidia"  # no "-" in front: its failure counts
    assert values(drop_in, "ExecStart")[0] == values(drop_in, "ExecStopPost")[0] == ""


def test_no_compiler_is_among_the_packages_that_stay() -> None:
    text = (PROFILE / "mkosi.conf").read_text()
    stays = text.split("\nPackages=", 1)[1].split("\nBuildPackages=", 1)[0].split()
    assert not {"gcc", "make", "binutils", "patch"} & {name.partition("/")[0] for name in stays}
    assert "BuildScripts=modules.chroot" in text


def test_modules_are_made_known_to_the_image_behind_their_build() -> None:
    lines = (PROFILE / "mkosi.conf").read_text().splitlines()
    assert "PostInstallationScripts=depmod.chroot" in lines
    script = (PROFILE / "depmod.chroot").read_text()
    built = (PROFILE / "modules.chroot").read_text()
    modules = "for module in nvidia nvidia-uvm nvidia-modeset; do"
    assert modules in script
    assert modules in built
