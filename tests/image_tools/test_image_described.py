"""What stands beside the artefacts of a build."""

from __future__ import annotations

import tomllib
from pathlib import Path

import image_described
import pytest
from image_files import ARTEFACTS, REPOSITORY, ImageError


def test_prediction_and_sbom_are_artefacts_that_a_rebuild_has_to_repeat() -> None:
    assert {"measurements.json", "sbom.cdx.json"} <= set(ARTEFACTS)


def test_environment_without_the_firmware_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def host(*command: str | Path) -> list[str]:
        return [str(part).replace("/usr/share/ovmf", str(tmp_path / "none")) for part in command]

    monkeypatch.setattr(image_described, "host", host)
    with pytest.raises(ImageError, match=r"expected /usr/share/ovmf/OVMF\.fd in the build environ"):
        image_described.describe("cpu", tmp_path)


def test_firmware_is_copied_before_an_artefact_is_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "firmware").write_bytes(b"firmware")

    def host(*command: str | Path) -> list[str]:
        program, source, target = map(str, command)
        assert (program, source) == ("cp", "/usr/share/ovmf/OVMF.fd")
        return [program, str(tmp_path / "firmware"), target]

    monkeypatch.setattr(image_described, "host", host)
    with pytest.raises(ImageError, match=r"expected attested-gateway-cpu\.efi"):
        image_described.describe("cpu", tmp_path)
    assert (tmp_path / image_described.FIRMWARE).read_bytes() == b"firmware"


def test_command_that_fails_is_told_in_its_own_words(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"main measure tdx: exit code 2") as caught:
        image_described.attested("measure", "tdx", "--firmware", tmp_path / "none")
    assert "--memory" in str(caught.value)


def test_exit_code_that_is_accepted_is_no_failure() -> None:
    assert image_described.attested("measure", accept=(0, 2)) == ""


def test_version_is_that_of_the_checkout() -> None:
    text = (REPOSITORY / "pyproject.toml").read_text()
    assert image_described.version() == tomllib.loads(text)["project"]["version"]
