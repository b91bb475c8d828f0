"""`attested release pack|verify|log` as they are typed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from attestation.cli.main import main
from attestation.measure.document import encode_measurements
from attestation.release.gpt import HEAD_BYTES, PackLayout, parse_head
from attestation.release.history import checkpoint_over, entry_name, sign_checkpoint
from attestation.release.verity import BLOCK_BYTES
from tests.release.builders import DISK, FIRMWARE, blocks, key, pack_file, release, signed

SIGNER = ["--signer", key(1).vkey]
ENTRIES = [signed(release(version=f"0.{number}.0")) for number in range(2)]


@pytest.fixture
def published(tmp_path: Path) -> str:
    (tmp_path / "OVMF.fd").write_bytes(FIRMWARE)
    (tmp_path / "disk").write_bytes(DISK)
    file = tmp_path / "release.dsse.json"
    file.write_bytes(signed())
    return str(file)


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    file = tmp_path / "pack.raw"
    file.write_bytes(pack_file(blocks(300)))
    return file


def write_log(folder: Path, entries: list[bytes], *, covered: int | None = None) -> str:
    folder.mkdir(exist_ok=True)
    for index, entry in enumerate(entries):
        (folder / entry_name(index)).write_bytes(entry)
    checkpoint = checkpoint_over("example.com/images", entries[:covered])
    (folder / "checkpoint").write_bytes(sign_checkpoint(checkpoint, key(1)))
    return str(folder)


def write_checkpoint(folder: Path, entries: list[bytes]) -> str:
    file = folder / "kept"
    checkpoint = checkpoint_over("example.com/images", entries)
    file.write_bytes(sign_checkpoint(checkpoint, key(1)))
    return str(file)


# pack


def test_pack_is_checked_block_by_block(pack: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = layout_of(pack).root.hex()
    assert main(["release", "pack", str(pack), "--root", root]) == 0
    text = capsys.readouterr().out
    assert text == f"{root}: 300 blocks, each as this root hash of --root has it\n"
    assert main(["release", "pack", str(pack), "--root", root, "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert (value["data_blocks"], value["compared_with"], value["exit_code"]) == (300, root, 0)
    assert value["not_proved"] == []


def test_pack_that_was_compared_with_nothing_does_not_pass(
    pack: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever changes a pack gives it a root hash that fits: only --root tells it apart."""
    nothing = "compared with nothing: root hash taken from the pack itself; give --root"
    assert main(["release", "pack", str(pack)]) == 12
    text = capsys.readouterr().out
    assert nothing in text
    assert "as this root hash" not in text
    assert main(["release", "pack", str(pack), "--json"]) == 12
    value = json.loads(capsys.readouterr().out)
    assert value["root"] == layout_of(pack).root.hex()
    assert (value["compared_with"], value["exit_code"]) == (None, 12)
    assert value["not_proved"] == [nothing]


def test_pack_with_another_root_hash_is_rejected(pack: Path) -> None:
    assert main(["release", "pack", str(pack), "--root", "00" * 32]) == 10


@pytest.mark.parametrize("root", ["", "00", "3f8a...", "A" * 64])
def test_what_is_no_root_hash_is_a_wrong_use_and_no_bad_file(
    root: str, pack: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["release", "pack", str(pack), "--root", root]) == 2
    told = capsys.readouterr().err
    assert "64 hexadecimal digits" in told
    assert f"seen     {root!a}" in told


def layout_of(file: Path) -> PackLayout:
    return parse_head(file.read_bytes()[:HEAD_BYTES])


def test_every_part_of_a_pack_is_looked_at(pack: Path) -> None:
    layout = layout_of(pack)
    places = {
        "table": (600, 13),
        "head's end": (HEAD_BYTES - 1, 13),
        "first block": (layout.data_start, 10),
        "last block": (layout.data_start + layout.data_bytes - 1, 10),
        "behind the data": (layout.data_start + layout.data_bytes, 13),
        "superblock": (layout.verity_start + 9, 13),
        "top of the tree": (layout.verity_start + BLOCK_BYTES, 10),
        "end of the tree": (layout.verity_start + layout.verity_bytes - 1, 10),
        "behind the tree": (layout.verity_start + layout.verity_bytes, 13),
        "second table": (layout.size - 1, 13),
    }
    content = pack.read_bytes()
    for name, (place, code) in places.items():
        changed = bytearray(content)
        changed[place] ^= 1
        pack.write_bytes(bytes(changed))
        assert (name, main(["release", "pack", str(pack)])) == (name, code)


def test_pack_that_ends_early_is_refused(pack: Path) -> None:
    pack.write_bytes(pack.read_bytes()[:-512])
    assert main(["release", "pack", str(pack)]) == 13


def test_hash_tree_over_a_part_of_the_data_is_refused(pack: Path) -> None:
    whole = layout_of(pack)
    longer = PackLayout(
        root=whole.root, data_bytes=301 * BLOCK_BYTES, verity_bytes=whole.verity_bytes
    )
    assert longer.size == whole.size
    tail = longer.tail()
    content = longer.head() + pack.read_bytes()[HEAD_BYTES : -len(tail)] + tail
    pack.write_bytes(content)
    assert main(["release", "pack", str(pack)]) == 13


def test_what_is_no_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["release", "pack", str(tmp_path)]) == 2
    assert "is not a regular file" in capsys.readouterr().err
    assert main(["release", "pack", str(tmp_path / "absent")]) == 2
    told = capsys.readouterr().err
    assert "no such file" in told
    assert "take it out" not in told


# verify


def test_release_and_artefacts_are_verified(
    published: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(published).parent
    artefacts = [f"--artefact={folder}/OVMF.fd", f"--artefact=gateway.raw={folder}/disk"]
    assert main(["release", "verify", published, *SIGNER, *artefacts]) == 0
    text = capsys.readouterr().out
    assert f"signed by   {key(1).vkey.rpartition('+')[0]}" in text
    assert text.count("  compared  ") == 2
    assert text.count("  named  ") == 3
    assert main(["release", "verify", published, *SIGNER, "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["compared"] == []
    assert value["log"] is None
    assert any(
        one.startswith("that it stands in the log of releases") for one in value["not_proved"]
    )


def test_release_by_another_signer_is_rejected(published: str) -> None:
    assert main(["release", "verify", published, "--signer", key(2).vkey]) == 10


def test_another_artefact_is_rejected(published: str) -> None:
    disk = f"{Path(published).parent}/disk"
    for name in ("OVMF.fd", "absent"):
        assert main(["release", "verify", published, *SIGNER, "--artefact", f"{name}={disk}"]) == 10
    assert main(["release", "verify", published, *SIGNER, "--artefact", "absent"]) == 2


def test_prediction_is_written_as_it_was_signed(published: str, tmp_path: Path) -> None:
    output = tmp_path / "measurements.json"
    arguments = ["release", "verify", published, *SIGNER, "-o", str(output)]
    assert main([*arguments, "--measurements", "tdx-4G"]) == 0
    assert output.read_bytes() == encode_measurements(release().measurements["tdx-4G"])
    assert main([*arguments, "--measurements", "tdx-8G", "--force"]) == 2


def test_malformed_release_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_bytes(b"{}")
    assert main(["release", "verify", str(file), *SIGNER]) == 13


@pytest.mark.parametrize("command", [["pack"], ["verify", *SIGNER, "--artefact"]])
def test_file_that_cannot_be_read_is_told(
    command: list[str], published: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: object, **_kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    file = f"{Path(published).parent}/OVMF.fd"
    arguments = [*command, file] if command == ["pack"] else [command[0], published, *command[1:]]
    if command != ["pack"]:
        arguments.append(file)
        monkeypatch.setattr("attestation.cli.release_verify.hashlib.file_digest", refuse)
    else:
        monkeypatch.setattr(Path, "open", refuse)
    assert main(["release", *arguments]) == 2


# log


def test_log_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_log(tmp_path / "log", ENTRIES)
    kept = write_checkpoint(tmp_path, ENTRIES[:1])
    assert main(["release", "log", folder, *SIGNER, "--before", kept]) == 0
    text = capsys.readouterr().out
    assert f"2 releases, root {checkpoint_over('example.com/images', ENTRIES).root.hex()}" in text
    for number, entry in enumerate(ENTRIES):
        assert f"{hashlib.sha256(entry).hexdigest()}  0.{number}.0 (cpu)" in text
    assert "the first 1 as you knew them" in text
    assert main(["release", "log", folder, *SIGNER]) == 0
    text = capsys.readouterr().out
    assert "as you knew" not in text
    assert "with --before" in text
    assert main(["release", "log", folder, *SIGNER, "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert [one["version"] for one in value["releases"]] == ["0.0.0", "0.1.0"]
    assert value["releases"][1]["sha256"] == hashlib.sha256(ENTRIES[1]).hexdigest()


def test_log_that_was_rewritten_is_rejected(tmp_path: Path) -> None:
    kept = write_checkpoint(tmp_path, ENTRIES)
    folder = write_log(tmp_path / "log", ENTRIES[::-1])
    assert main(["release", "log", folder, *SIGNER]) == 0
    assert main(["release", "log", folder, *SIGNER, "--before", kept]) == 10


def test_entry_that_no_checkpoint_covers_is_rejected(tmp_path: Path) -> None:
    folder = write_log(tmp_path / "log", ENTRIES, covered=1)
    assert main(["release", "log", folder, *SIGNER]) == 10


def test_gap_in_the_log_is_rejected(tmp_path: Path) -> None:
    folder = write_log(tmp_path / "log", ENTRIES)
    (tmp_path / "log" / entry_name(0)).unlink()
    assert main(["release", "log", folder, *SIGNER]) == 10


def test_entry_that_is_no_file_is_refused(tmp_path: Path) -> None:
    folder = write_log(tmp_path / "log", ENTRIES)
    (tmp_path / "log" / entry_name(2)).mkdir()
    assert main(["release", "log", folder, *SIGNER]) == 2


def test_folder_without_a_checkpoint_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_log(tmp_path / "log", ENTRIES)
    (tmp_path / "log/checkpoint").unlink()
    assert main(["release", "log", folder, *SIGNER]) == 2
    assert "checkpoint" in capsys.readouterr().err


def test_log_in_which_nothing_stands_yet_is_said_to_be_empty(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["release", "log", str(tmp_path), *SIGNER]) == 2
    told = capsys.readouterr().err
    assert "no release stands in" in told
    assert "00000000.dsse.json" in told
    assert "hint" in told


def test_changed_entry_is_named_and_nobody_is_blamed_for_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_log(tmp_path / "log", ENTRIES)
    place = tmp_path / "log" / entry_name(1)
    content = bytearray(ENTRIES[1])
    content[len(content) // 2] ^= 1
    place.write_bytes(bytes(content))
    assert main(["release", "log", folder, *SIGNER]) == 10
    told = capsys.readouterr().err
    assert entry_name(1) in told
    assert entry_name(0) not in told
    assert "fetch the log again" in told
    assert "keeper" not in told


def test_entry_by_another_signer_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_log(tmp_path / "log", [ENTRIES[0], signed(release(version="0.9.0"), 2)])
    assert main(["release", "log", folder, *SIGNER]) == 10
    assert f"{entry_name(1)}: no listed key has signed" in capsys.readouterr().err


def test_signer_is_a_key_or_the_file_that_holds_it(tmp_path: Path) -> None:
    file = tmp_path / "release.vkey"
    file.write_text(f"{key(1).vkey}\n")
    folder = write_log(tmp_path / "log", ENTRIES)
    assert main(["release", "log", folder, "--signer", str(file)]) == 0
    entry = f"{folder}/{entry_name(0)}"
    assert main(["release", "verify", entry, "--signer", str(file)]) == 0
    file.write_text(f"{key(2).vkey}\n")
    assert main(["release", "verify", entry, "--signer", str(file)]) == 10
    file.write_text("no key")
    assert main(["release", "verify", entry, "--signer", str(file)]) == 13
    assert main(["release", "verify", entry, "--signer", str(tmp_path / "absent")]) == 2
