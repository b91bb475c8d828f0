"""`attested release pack|verify|log` as they are typed."""

from __future__ import annotations

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
    assert main(["release", "pack", str(pack)]) == 0
    root = capsys.readouterr().out.partition(":")[0]
    assert main(["release", "pack", str(pack), "--root", root, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["data_blocks"] == 300


def test_pack_with_another_root_hash_is_rejected(pack: Path) -> None:
    assert main(["release", "pack", str(pack), "--root", "00" * 32]) == 10
    assert main(["release", "pack", str(pack), "--root", "00"]) == 13


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


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    assert main(["release", "pack", str(tmp_path)]) == 2
    assert main(["release", "pack", str(tmp_path / "absent")]) == 2


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
    assert json.loads(capsys.readouterr().out)["compared"] == []


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
    assert "2 releases" in text
    assert "the first 1 as you knew them" in text
    assert main(["release", "log", folder, *SIGNER]) == 0
    text = capsys.readouterr().out
    assert "as you knew" not in text
    assert "with --before" in text
    assert main(["release", "log", folder, *SIGNER, "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert [one["version"] for one in value["releases"]] == ["0.0.0", "0.1.0"]


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


def test_folder_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    assert main(["release", "log", str(tmp_path), *SIGNER]) == 2
