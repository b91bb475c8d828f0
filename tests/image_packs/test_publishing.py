"""SBOM, signing and the log as they are typed after a build."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from attestation.cli.main import main as attested
from attestation.errors import MalformedError
from attestation.measure.document import encode_measurements
from attestation.merkle.note_key import encode_note_key
from attestation.release.dsse import parse_envelope
from enclave_image.publish.__main__ import main
from enclave_image.publish.sbom import (
    components_of_manifest,
    components_of_pins,
    components_of_wheels,
    make_sbom,
)
from tests.release.builders import DISK, FIRMWARE, description, key, prediction, uki

REQUIREMENTS = Path(__file__).parents[2] / "requirements/runtime.txt"
MANIFEST = {
    "manifest_version": 1,
    "config": {"name": "attested-gateway", "distribution": "debian", "release": "trixie"},
    "packages": [
        {"type": "deb", "name": "systemd", "version": "257.13-1~deb13u1", "architecture": "amd64"},
        {"type": "deb", "name": "libstdc++6", "version": "14.2.0-19", "architecture": "amd64"},
    ],
}
PIN = "a-b==1.0 ; python_version < '4' \\\n    --hash=sha256:" + "0" * 64 + " \\\n"


def sbom(*requirements: str) -> dict[str, Any]:
    parts = components_of_manifest(json.dumps(MANIFEST).encode())
    for text in requirements:
        parts += components_of_pins(text)
    value: dict[str, Any] = json.loads(make_sbom("0.1.0", parts))
    return value


# SBOM


def test_packages_and_wheels_have_package_urls() -> None:
    value = sbom(PIN)
    assert [one["purl"] for one in value["components"]] == [
        "pkg:deb/debian/libstdc%2B%2B6@14.2.0-19?arch=amd64&distro=trixie",
        "pkg:deb/debian/systemd@257.13-1~deb13u1?arch=amd64&distro=trixie",
        "pkg:pypi/a-b@1.0",
    ]
    assert value["components"][2]["hashes"] == [{"alg": "SHA-256", "content": "0" * 64}]


def test_document_has_what_cyclonedx_demands() -> None:
    value = sbom(PIN)
    assert (value["bomFormat"], value["specVersion"], value["version"]) == ("CycloneDX", "1.6", 1)
    assert value["serialNumber"].startswith("urn:uuid:")
    references = [one["bom-ref"] for one in value["components"]]
    references.append(value["metadata"]["component"]["bom-ref"])
    assert len(set(references)) == len(references)
    assert {one["ref"] for one in value["dependencies"]} == set(references)
    for one in value["components"]:
        assert one["type"] == "library"
        assert one["name"]
        assert one["version"]


def test_every_pin_of_the_gateway_is_listed() -> None:
    text = REQUIREMENTS.read_text(encoding="utf-8")
    listed = {(one.name, one.version) for one in components_of_pins(text)}
    assert listed == set(re.findall(r"^([a-z0-9.-]+)==([^ ]+)", text, re.MULTILINE))
    assert len(listed) > 20
    assert {"cryptography", "uvicorn", "dcap-qvl"} <= {name for name, _version in listed}
    assert all(one.hashes for one in components_of_pins(text))


def test_same_parts_in_another_order_give_the_same_bytes() -> None:
    parts = components_of_manifest(json.dumps(MANIFEST).encode())
    assert make_sbom("0.1.0", parts) == make_sbom("0.1.0", parts[::-1])
    assert make_sbom("0.1.0", parts) != make_sbom("0.1.1", parts)


def test_part_that_is_in_initrd_and_root_is_listed_once() -> None:
    assert make_sbom("0.1.0", components_of_pins(PIN) * 2) == make_sbom(
        "0.1.0", components_of_pins(PIN)
    )


def test_package_url_that_stands_for_two_things_is_refused() -> None:
    other = components_of_pins(PIN.replace("0" * 64, "1" * 64))
    with pytest.raises(MalformedError):
        make_sbom("0.1.0", [*components_of_pins(PIN), *other])


WHEELS = {
    "attested_gateway-0.1.0-py3-none-any.whl": "1" * 64,
    "dcap_qvl-0.7.0-cp313-cp313-manylinux_2_17_x86_64.manylinux2014_x86_64.whl": "2" * 64,
}


def test_wheels_of_an_image_are_listed_with_their_own_hash() -> None:
    value = json.loads(make_sbom("0.1.0", components_of_wheels(json.dumps(WHEELS).encode())))
    (one,) = value["components"]
    assert (one["purl"], one["hashes"][0]["content"]) == ("pkg:pypi/dcap-qvl@0.7.0", "2" * 64)
    assert value["metadata"]["component"]["hashes"][0]["content"] == "1" * 64


def test_gateway_that_is_pinned_with_two_hashes_names_both() -> None:
    pin = "attested-gateway==0.1.0 \\\n --hash=sha256:%s \\\n --hash=sha256:%s\n"
    value = json.loads(make_sbom("0.1.0", components_of_pins(pin % ("1" * 64, "2" * 64))))
    named = value["metadata"]["component"]["properties"]
    assert [one["value"] for one in named] == ["1" * 64, "2" * 64]


def test_image_of_another_version_than_its_wheel_is_refused() -> None:
    with pytest.raises(MalformedError):
        make_sbom("0.2.0", components_of_wheels(json.dumps(WHEELS).encode()))


@pytest.mark.parametrize(
    "value", [{}, {"a.whl": "0" * 64}, {"a-1-py3-none-any.whl": "0"}, {"a-1.tar.gz": "0" * 64}]
)
def test_list_of_wheels_in_another_form_is_refused(value: dict[str, str]) -> None:
    with pytest.raises(MalformedError):
        components_of_wheels(json.dumps(value).encode())


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "a==1\n", "a>=1\n", PIN + "b==2\n", "-r base.in\n", "a @ file:b\n"]
)
def test_requirements_that_pin_nothing_are_refused(text: str) -> None:
    with pytest.raises(MalformedError):
        components_of_pins(text)


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v.update(packages=[]),
        lambda v: v.update(packages={}),
        lambda v: v.update(config=None),
        lambda v: v["packages"].append(1),
        lambda v: v["packages"][0].update(type="rpm"),
        lambda v: v["packages"][0].update(version=1),
        lambda v: v["packages"][0].update(name=""),
    ],
)
def test_manifest_in_another_form_is_refused(change: Callable[[dict[str, Any]], object]) -> None:
    value = json.loads(json.dumps(MANIFEST))
    change(value)
    with pytest.raises(MalformedError):
        components_of_manifest(json.dumps(value).encode())


# signing and the log


class Desk:
    """A folder with artefacts, a key, and what is made of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        image = uki(f"ro {description().argument}")
        self.write("OVMF.fd", FIRMWARE)
        self.write("gateway.efi", image)
        self.write("gateway.raw", DISK)
        self.write("model.raw", b"pack model")
        self.write("model.raw.json", description().canonical)
        self.write("measurements.json", encode_measurements(prediction(image)))
        self.write("release.key", encode_note_key(key(1)))

    def write(self, name: str, data: bytes) -> None:
        (self.folder / name).write_bytes(data)

    def __getitem__(self, name: str) -> str:
        return str(self.folder / name)

    def sign(
        self,
        output: str,
        *,
        version: str = "0.1.0",
        without: str = "",
        pack: str = "model.raw",
        profile: str = "cpu",
        more: tuple[str, ...] = (),
    ) -> int:
        names = ["OVMF.fd", "gateway.efi", "gateway.raw", "model.raw", *more]
        place = output if output == "-" else self[output]
        subjects = [flag for name in names if name != without for flag in ("--subject", self[name])]
        return main(
            [
                *("sign", "--version", version, "--profile", profile, *subjects),
                *("--pack", self[f"{pack}.json"], "--key", self["release.key"], "-o", place),
                *("--measurements", f"tdx-4G={self['measurements.json']}"),
            ]
        )

    def append(self, name: str, *more: str) -> int:
        log = ["--log", self["log"], "--key", self["release.key"]]
        return main(["append", self[name], *log, *more])

    def check(self, *more: str) -> int:
        return attested(["release", "log", self["log"], "--signer", key(1).vkey, *more])


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


BEGUN = ("--origin", "example.com/images")


def test_signed_release_verifies_with_its_artefacts(desk: Desk) -> None:
    assert desk.sign("r.dsse.json") == 0
    artefacts = [f"--artefact={desk[name]}" for name in ("OVMF.fd", "gateway.raw", "model.raw")]
    arguments = ["release", "verify", desk["r.dsse.json"], "--signer", key(1).vkey]
    assert attested([*arguments, *artefacts]) == 0
    desk.write("gateway.raw", b"another disk")
    assert attested([*arguments, *artefacts]) == 10


def test_prediction_in_a_release_can_be_pinned(desk: Desk) -> None:
    assert desk.sign("r.dsse.json") == 0
    out = desk["pinned.json"]
    arguments = ["release", "verify", desk["r.dsse.json"], "--signer", key(1).vkey, "-o", out]
    assert attested([*arguments, "--measurements", "tdx-4G"]) == 0
    assert Path(out).read_bytes() == Path(desk["measurements.json"]).read_bytes()


@pytest.mark.parametrize("without", ["OVMF.fd", "gateway.efi", "gateway.raw", "model.raw"])
def test_release_without_a_part_is_not_signed(desk: Desk, without: str) -> None:
    assert desk.sign("r.dsse.json", without=without) == 10
    assert not Path(desk["r.dsse.json"]).exists()


def test_machine_with_two_predictions_is_not_signed(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    told = desk["measurements.json"]
    subjects = [flag for name in ("OVMF.fd",) for flag in ("--subject", desk[name])]
    common = ["sign", "--version", "0.1.0", "--profile", "cpu", *subjects]
    common += ["--key", desk["release.key"], "-o", desk["r.dsse.json"]]
    twice = ["--measurements", f"tdx-4G={told}", "--measurements", f"tdx-4G={told}"]
    for wrong in (twice, ["--measurements", told]):
        assert main([*common, *wrong]) == 2
        assert "once for each machine" in capsys.readouterr().err
    assert not Path(desk["r.dsse.json"]).exists()


def test_log_in_a_folder_that_cannot_be_made_is_refused(desk: Desk) -> None:
    assert desk.sign("r.dsse.json") == 0
    log = ["--log", f"{desk['OVMF.fd']}/log", "--key", desk["release.key"], "--origin", "e.com/i"]
    assert main(["append", desk["r.dsse.json"], *log]) == 2


def test_release_with_a_pack_that_the_image_does_not_name_is_not_signed(desk: Desk) -> None:
    desk.write("other", b"pack other")
    other = description(root=description().lock)
    desk.write("other.json", other.canonical)
    assert desk.sign("r.dsse.json", pack="other") == 10


def test_log_grows_release_by_release(desk: Desk) -> None:
    for number in range(3):
        assert desk.sign(f"{number}.dsse.json", version=f"0.{number}.0") == 0
        before = () if number == 0 else ("--before", desk["kept"])
        assert desk.append(f"{number}.dsse.json", *(BEGUN if number == 0 else ())) == 0
        assert desk.check(*before) == 0
        desk.write("kept", Path(desk["log"], "checkpoint").read_bytes())


def test_log_is_begun_only_when_it_is_said(desk: Desk) -> None:
    assert desk.sign("r.dsse.json") == 0
    assert desk.append("r.dsse.json") == 2
    assert desk.append("r.dsse.json", *BEGUN) == 0


def test_release_that_is_appended_again_changes_nothing_and_accuses_nobody(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    assert desk.sign("r.dsse.json") == 0
    assert desk.append("r.dsse.json", *BEGUN) == 0
    before = {one.name: one.read_bytes() for one in Path(desk["log"]).iterdir()}
    capsys.readouterr()
    assert desk.append("r.dsse.json") == 2
    told = capsys.readouterr().err
    assert "stands in the log already" in told
    assert "the same file as 00000000.dsse.json" in told
    assert "keeper" not in told
    assert {one.name: one.read_bytes() for one in Path(desk["log"]).iterdir()} == before
    assert desk.check() == 0


def test_same_version_does_not_go_into_the_log_twice(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    assert desk.sign("r.dsse.json") == 0
    assert desk.append("r.dsse.json", *BEGUN) == 0
    desk.write("sbom.cdx.json", b"{}")
    assert desk.sign("again.dsse.json", more=("sbom.cdx.json",)) == 0
    capsys.readouterr()
    assert desk.append("again.dsse.json") == 10
    told = capsys.readouterr().err
    assert "another release 0.1.0 (cpu) stands in the log already" in told
    assert "new --version" in told
    assert desk.check() == 0


def test_log_is_not_renamed(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(2):
        assert desk.sign(f"{number}.dsse.json", version=f"0.{number}.0") == 0
    assert desk.append("0.dsse.json", *BEGUN) == 0
    assert desk.append("1.dsse.json", "--origin", "example.com/other") == 2
    told = capsys.readouterr().err
    assert "expected example.com/images" in told
    assert "example.com/other" in told
    assert not Path(desk["log"], "00000001.dsse.json").exists()
    assert desk.append("1.dsse.json", *BEGUN) == 0, "its own name is no other"


def test_publisher_is_told_what_was_signed_and_appended(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    assert desk.sign("r.dsse.json") == 0
    digest = hashlib.sha256(Path(desk["r.dsse.json"]).read_bytes()).hexdigest()
    text = capsys.readouterr().out
    assert digest in text
    assert f"signed by {key(1).vkey.rpartition('+')[0]}" in text
    assert desk.append("r.dsse.json", *BEGUN) == 0
    text = capsys.readouterr().out
    assert f"00000000.dsse.json: release 0.1.0 (cpu), SHA-256 {digest}" in text
    assert "keep this checkpoint" in text
    (root,) = re.findall(r"1 release, root ([0-9a-f]{64})", text)
    assert desk.check() == 0
    assert root in capsys.readouterr().out


def test_release_on_standard_output_is_nothing_but_the_release(
    desk: Desk, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert desk.sign("-") == 0
    told = capsysbinary.readouterr()
    assert parse_envelope(told.out).encode() == told.out
    assert b"signed by" in told.err


def test_release_that_was_signed_is_not_replaced(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    assert desk.sign("r.dsse.json") == 0
    before = Path(desk["r.dsse.json"]).read_bytes()
    assert desk.sign("r.dsse.json", version="0.2.0") == 2
    told = capsys.readouterr().err
    assert "--force" not in told
    assert "give -o another name" in told
    assert Path(desk["r.dsse.json"]).read_bytes() == before


def test_profile_that_no_image_has_is_refused(desk: Desk) -> None:
    with pytest.raises(SystemExit) as stop:
        desk.sign("r.dsse.json", profile="foo")
    assert stop.value.code == 2


def test_artefact_that_is_not_there_is_named(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(desk["OVMF.fd"]).unlink()
    assert desk.sign("r.dsse.json") == 2
    told = capsys.readouterr().err
    assert "OVMF.fd" in told
    assert "no such file" in told


def test_log_that_was_changed_is_not_appended_to(desk: Desk) -> None:
    assert desk.sign("0.dsse.json", version="0.0.0") == 0
    assert desk.sign("1.dsse.json", version="0.1.0") == 0
    assert desk.append("0.dsse.json", *BEGUN) == 0
    Path(desk["log"], "00000000.dsse.json").write_bytes(Path(desk["1.dsse.json"]).read_bytes())
    assert desk.append("1.dsse.json") == 10


def test_release_signed_by_another_key_does_not_go_into_the_log(desk: Desk) -> None:
    assert desk.sign("r.dsse.json") == 0
    desk.write("release.key", encode_note_key(key(2)))
    assert desk.append("r.dsse.json", *BEGUN) == 10
    assert not Path(desk["log"]).exists()
    # With the older key listed it does, and the new one signs the checkpoint.
    desk.write("older.vkey", f"{key(1).vkey}\n".encode())
    assert desk.append("r.dsse.json", *BEGUN, "--signer", desk["older.vkey"]) == 0


def test_sbom_is_written_from_files(
    desk: Desk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.write("manifest", json.dumps(MANIFEST).encode())
    arguments = ["sbom", "--version", "0.1.0", "-o", desk["sbom.cdx.json"]]
    assert main(arguments) == 2
    arguments += ["--manifest", desk["manifest"], "--requirements", str(REQUIREMENTS)]
    assert main(arguments) == 0
    digest = hashlib.sha256(Path(desk["sbom.cdx.json"]).read_bytes()).hexdigest()
    assert digest in capsys.readouterr().out
    names = {
        one["name"] for one in json.loads((tmp_path / "sbom.cdx.json").read_bytes())["components"]
    }
    assert {"systemd", "uvicorn"} <= names
    assert main(arguments) == 2, "it is not replaced"


def test_log_in_the_repository_is_whole() -> None:
    """Nothing was released yet; from the first release on its key stands beside the log."""
    folder = REQUIREMENTS.parents[1] / "enclave_image/measurements"
    keys = sorted(folder.glob("*.vkey"))
    entries = sorted(folder.glob("*.dsse.json"))
    if not entries:
        assert not (folder / "checkpoint").exists()
        pytest.skip("no release is in enclave_image/measurements/ yet: there is nothing to check")
    signers = [flag for one in keys for flag in ("--signer", one.read_text().strip())]
    assert attested(["release", "log", str(folder), *signers]) == 0
