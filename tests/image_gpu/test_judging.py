"""The guest's judge of GPUs: whatever is not every GPU's fresh, accepted evidence ends the machine.

NVIDIA's verifier is a stand-in here: these tests show what the judge makes of its answers.
"""

from __future__ import annotations

import json
import os
import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

ROOT = Path(__file__).parents[2]
EXTRA = ROOT / "enclave_image/mkosi.profiles/gpu/mkosi.extra"
TOOL = EXTRA / "usr/lib/attested-tools/judge-gpus"
POLICY = EXTRA / "usr/share/attested/gpu-policy.rego"
GUEST: dict[str, Any] = runpy.run_path(str(TOOL))
judge = cast("Callable[[Path, Path, Path, Path, Path], int]", GUEST["judge"])
Refused = cast("type[Exception]", GUEST["RefusedError"])

VERIFIER = """#!{python} -I
import json, os, pathlib, sys
here = pathlib.Path(__file__).parent
words = sys.argv[1:]
with (here / "calls").open("a") as calls:
    calls.write(json.dumps([words, sorted(os.environ)]) + "\\n")
if words[0] == "collect-evidence":
    nonce = words[words.index("--nonce") + 1]
    print((here / "evidence").read_text().replace("NONCE", nonce))
    sys.exit(int((here / "collects").read_text()))
sys.exit(int((here / "accepts").read_text()))
"""


class Machine:
    """A PCI bus, and a verifier that answers as it is told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bus = folder / "bus"
        self.bus.mkdir()
        self.out = folder / "evidence.json"
        self.verifier = folder / "nvattest"
        self.verifier.write_text(VERIFIER.format(python=sys.executable))
        self.verifier.chmod(0o755)
        self.add_device("0x8086", "0x020000")
        self.answers(1)

    def add_device(self, vendor: str, kind: str) -> None:
        device = self.bus / f"0000:00:{len(list(self.bus.iterdir())):02x}.0"
        device.mkdir()
        (device / "vendor").write_text(vendor + "\n")
        (device / "class").write_text(kind + "\n")

    def answers(
        self, pieces: int, *, nonce: str = "NONCE", collects: int = 0, accepts: int = 0
    ) -> None:
        listed = [{"arch": "HOPPER", "nonce": nonce, "evidence": "AA=="}] * pieces
        (self.folder / "evidence").write_text(json.dumps({"evidences": listed, "result_code": 0}))
        (self.folder / "collects").write_text(str(collects))
        (self.folder / "accepts").write_text(str(accepts))

    def calls(self) -> list[list[list[str]]]:
        path = self.folder / "calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def judge(self) -> int:
        return judge(self.out, self.verifier, self.folder, POLICY, self.bus)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_evidence_of_every_gpu_is_kept_as_it_was_judged(machine: Machine) -> None:
    machine.add_device("0x10de", "0x030200")
    machine.add_device("0x10de", "0x030000")
    machine.answers(2)
    assert machine.judge() == 2
    collected, judged = (words for words, _ in machine.calls())
    nonce = collected[collected.index("--nonce") + 1]
    assert re.fullmatch(r"[0-9a-f]{64}", nonce)
    assert judged[judged.index("--nonce") + 1] == nonce
    assert judged[judged.index("--relying-party-policy") + 1] == str(POLICY)
    assert [p["nonce"] for p in json.loads(machine.out.read_bytes())["evidences"]] == [nonce] * 2


def test_no_two_boots_ask_with_the_same_nonce(machine: Machine) -> None:
    machine.add_device("0x10de", "0x030200")
    machine.judge()
    machine.judge()
    nonces = {words[words.index("--nonce") + 1] for words, _ in machine.calls()}
    assert len(nonces) == 2


def test_machine_without_a_gpu_is_refused_before_the_verifier_is_asked(machine: Machine) -> None:
    machine.add_device("0x10de", "0x020000")
    machine.answers(0)
    with pytest.raises(Refused, match="seen none"):
        machine.judge()
    assert not machine.calls()


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({"pieces": 0}, "evidence of 1 GPUs, seen 0"),
        ({"pieces": 2}, "evidence of 1 GPUs, seen 2"),
        ({"pieces": 1, "nonce": "00" * 32}, "another nonce"),
        ({"pieces": 1, "collects": 15}, "collect-evidence ended with 15"),
        ({"pieces": 1, "accepts": 1}, "attest ended with 1"),
    ],
)
def test_evidence_that_is_not_accepted_is_not_kept(
    machine: Machine, answers: dict[str, Any], said: str
) -> None:
    machine.add_device("0x10de", "0x030200")
    machine.answers(**answers)
    with pytest.raises(Refused, match=said):
        machine.judge()
    assert not machine.out.exists()


@pytest.mark.parametrize("text", ["", "[]", '{"evidences": null}', '{"evidences": ["x"]}'])
def test_answer_of_another_shape_is_refused(machine: Machine, text: str) -> None:
    machine.add_device("0x10de", "0x030200")
    (machine.folder / "evidence").write_text(text)
    with pytest.raises(Refused, match="something else"):
        machine.judge()


def test_missing_verifier_is_refused(machine: Machine) -> None:
    machine.add_device("0x10de", "0x030200")
    machine.verifier.unlink()
    with pytest.raises(Refused, match="expected NVIDIA's verifier"):
        machine.judge()


def test_variables_of_the_unit_do_not_reach_the_verifier(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NVAT_RIM_SERVICE_BASE_URL", "http://127.0.0.1/")
    monkeypatch.setenv("LD_PRELOAD_OF_A_TEST", "x")
    machine.add_device("0x10de", "0x030200")
    machine.judge()
    allowed = {"PATH", "LC_ALL", "LC_CTYPE", "__CF_USER_TEXT_ENCODING"}
    assert all(set(names) <= allowed for _, names in machine.calls())


def test_judge_is_a_program_that_takes_no_modules_from_outside() -> None:
    assert os.access(TOOL, os.X_OK)
    assert TOOL.read_text().splitlines()[0] == "#!/usr/bin/python3 -I"


def test_policy_asks_for_the_driver_that_the_image_builds() -> None:
    script = (ROOT / "enclave_image/mkosi.profiles/gpu/modules.chroot").read_text()
    built = re.findall(r'"\$version" = ([0-9.]+) \]', script)
    asked = re.findall(r'"x-nvidia-gpu-driver-version"\] == "([0-9.]+)"', POLICY.read_text())
    assert len(asked) == 1
    assert asked == built
