"""`attested release verify --log`: is this very release one that stands in the log of all?"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from attestation.cli.main import main
from attestation.cli.measure_inputs import settings_of
from attestation.encoding.digest import Digest
from attestation.errors import EvidenceError
from attestation.measure.boot import UkiBoot
from attestation.measure.hostpart import host_part
from attestation.measure.prediction import described
from attestation.measure.tdvf import parse_tdvf
from attestation.measure.tdx import TdxMachine, predict_tdx
from attestation.measure.uki import parse_uki
from attestation.release.dsse import sign_envelope
from attestation.release.history import (
    checkpoint_over,
    entry_name,
    require_in_log,
    sign_checkpoint,
    verify_log,
)
from attestation.release.statement import PAYLOAD_TYPE
from tests.release.builders import DISK, FIRMWARE, key, release, signed, uki, vkeys

ORIGIN = "example.com/images"
SIGNER = ["--signer", key(1).vkey]
ENTRIES = [signed(release(version=f"0.{number}.0")) for number in range(2)]
HIDDEN = signed(release(packs=(), version="0.1.0"))
"""Another image under a version that was published, signed with the same key, never logged."""


class Reader:
    """A folder with the log as it was fetched, and files beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "log").mkdir()
        self.publish(ENTRIES)

    def publish(self, entries: list[bytes]) -> None:
        for index, entry in enumerate(entries):
            (self.folder / "log" / entry_name(index)).write_bytes(entry)
        self.write("log/checkpoint", self.checkpoint(entries))

    @staticmethod
    def checkpoint(entries: list[bytes]) -> bytes:
        return sign_checkpoint(checkpoint_over(ORIGIN, entries), key(1))

    def write(self, name: str, data: bytes) -> str:
        (self.folder / name).write_bytes(data)
        return str(self.folder / name)

    def verify(self, data: bytes, *more: str) -> int:
        file = self.write("release.dsse.json", data)
        return main(["release", "verify", file, *SIGNER, *more])

    def look(self, data: bytes, *more: str) -> int:
        return self.verify(data, "--log", str(self.folder / "log"), *more)


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    return Reader(tmp_path)


def test_release_of_the_log_is_found_at_its_place(
    reader: Reader, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reader.look(ENTRIES[1]) == 0
    text = capsys.readouterr().out
    assert f"logged      {entry_name(1)} of {ORIGIN}\n" in text
    assert f"2 releases, root {checkpoint_over(ORIGIN, ENTRIES).root.hex()}" in text
    assert "not shown: that it stands in the log of releases" not in text
    assert "not shown: that the log only grew: give --before" in text


def test_release_that_was_signed_and_never_logged_is_rejected(
    reader: Reader, capsys: pytest.CaptureFixture[str]
) -> None:
    """The publisher's key signs it as well as any other: only the log tells it apart."""
    assert reader.verify(HIDDEN) == 0
    assert "not shown: that it stands in the log of releases" in capsys.readouterr().out
    assert reader.look(HIDDEN) == 10
    told = capsys.readouterr()
    assert told.out == ""
    assert "does not stand in the log of releases" in told.err
    assert f"another release 0.1.0 (cpu) in {entry_name(1)}" in told.err
    assert "keep both" in told.err


def test_release_of_a_version_that_the_log_has_not_is_rejected(
    reader: Reader, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reader.look(signed(release(version="0.7.0"))) == 10
    assert "no 0.7.0 (cpu) among its 2 releases" in capsys.readouterr().err


def test_same_statement_with_other_signatures_is_another_file(
    reader: Reader, capsys: pytest.CaptureFixture[str]
) -> None:
    again = sign_envelope(PAYLOAD_TYPE, release(version="0.0.0").canonical, [key(2), key(1)])
    assert reader.look(again.encode()) == 10
    told = capsys.readouterr().err
    assert f"the same statement with other signatures in {entry_name(0)}" in told
    assert "take the file from the log" in told


def test_log_is_checked_as_by_its_own_command(reader: Reader) -> None:
    reader.publish([*ENTRIES, signed(release(version="0.0.0", packs=()))])
    assert reader.look(ENTRIES[1]) == 10, "a version stands there twice"
    reader.publish([*ENTRIES, signed(release(version="0.2.0"), 2)])
    assert reader.look(ENTRIES[1]) == 10, "an entry by somebody else"
    reader.publish(ENTRIES)
    reader.write("log/checkpoint", reader.checkpoint(ENTRIES[:1]))
    assert reader.look(ENTRIES[0]) == 10, "the checkpoint is over fewer"


def test_log_that_did_not_grow_from_the_checkpoint_that_was_kept_is_rejected(
    reader: Reader, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = reader.write("kept", reader.checkpoint(ENTRIES[:1]))
    assert reader.look(ENTRIES[1], "--before", kept) == 0
    text = capsys.readouterr().out
    assert "the first 1 as you knew them" in text
    assert "that the log only grew" not in text
    assert "not shown: that others are shown the same log" in text
    kept = reader.write("kept", reader.checkpoint([HIDDEN]))
    assert reader.look(ENTRIES[1], "--before", kept) == 10


def test_older_checkpoint_without_a_log_is_refused(
    reader: Reader, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = reader.write("kept", reader.checkpoint(ENTRIES))
    assert reader.verify(ENTRIES[0], "--before", kept) == 2
    assert "--log DIR" in capsys.readouterr().err


def test_folder_without_a_log_does_not_pass_as_one(reader: Reader, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder in ("empty", "absent"):
        assert reader.verify(ENTRIES[0], "--log", str(tmp_path / folder)) == 2


def test_what_was_not_looked_at_is_told_as_json_too(
    reader: Reader, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reader.look(ENTRIES[0], "--json") == 0
    value = json.loads(capsys.readouterr().out)
    checkpoint = checkpoint_over(ORIGIN, ENTRIES)
    assert value["log"] == {
        "entry": entry_name(0),
        "origin": ORIGIN,
        "size": 2,
        "root": checkpoint.root.hex(),
        "before": None,
    }
    notes = "\n".join(value["not_proved"])
    for part in ("that the log only grew", "the same log", "OVMF.fd", "build it again", "ACPI"):
        assert part in notes


def test_artefacts_that_were_compared_are_not_among_those_left_open(
    reader: Reader, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artefact = reader.write("OVMF.fd", FIRMWARE)
    assert reader.look(ENTRIES[0], "--artefact", artefact) == 0
    (line,) = [one for one in capsys.readouterr().out.splitlines() if "(--artefact)" in one]
    assert "OVMF.fd" not in line
    assert "gateway.efi" in line


def test_nothing_is_left_open_that_was_shown(
    reader: Reader, capsys: pytest.CaptureFixture[str]
) -> None:
    """All artefacts compared, and a prediction in which the host's part was given."""
    image = uki("ro")
    boot = UkiBoot(uki=parse_uki(image), disk=DISK)
    host = host_part(
        acpi={"loader": b"1", "rsdp": b"2", "tables": b"3"},
        variables=[("BootOrder", b"\0\0"), ("Boot0000", b"x")],
        observed=None,
    )
    machine = TdxMachine(
        sections=parse_tdvf(FIRMWARE), memory=4 << 30, boot=boot, host=host, runtime=()
    )
    files = {"OVMF.fd": FIRMWARE, "gateway.efi": image, "gateway.raw": DISK}
    inputs = [described(name, data) for name, data in files.items()]
    made = replace(
        release(packs=()),
        subjects={name: Digest.of(data) for name, data in files.items()},
        measurements={"tdx-4G": predict_tdx(machine, inputs, settings_of(boot, 4 << 30))},
    )
    more = [f"--artefact={reader.write(name, data)}" for name, data in files.items()]
    assert reader.verify(signed(made), *more, "--json") == 0
    notes = json.loads(capsys.readouterr().out)["not_proved"]
    assert not [one for one in notes if "--artefact" in one or "tdx-4G" in one]
    assert len(notes) == 3


def test_prediction_of_a_release_that_is_not_in_the_log_is_not_written(
    reader: Reader, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "m.json"
    asked = ["--measurements", "tdx-4G", "-o", str(output)]
    assert reader.look(HIDDEN, *asked) == 10
    assert not output.exists()
    capsys.readouterr()
    assert reader.verify(HIDDEN, *asked) == 0
    told = capsys.readouterr()
    assert "not shown: that it stands in the log of releases" in told.err
    assert "for tdx-4G nobody predicted rtmr0" in told.err
    assert told.out == ""


def test_output_without_a_prediction_to_write_is_refused(
    reader: Reader, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reader.verify(ENTRIES[0], "-o", str(tmp_path / "out.json")) == 2
    assert "--measurements MACHINE" in capsys.readouterr().err
    assert not (tmp_path / "out.json").exists()


def test_place_in_the_log_is_that_of_the_bytes() -> None:
    log = verify_log(ENTRIES, checkpoint_over(ORIGIN, ENTRIES), vkeys(1))
    assert [require_in_log(ENTRIES, log, entry) for entry in ENTRIES] == [0, 1]
    with pytest.raises(EvidenceError) as caught:
        require_in_log(ENTRIES, log, HIDDEN)
    assert caught.value.code == "release_log"
