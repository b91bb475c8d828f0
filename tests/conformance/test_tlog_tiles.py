"""Topic `tlog-tiles` over logs made on the spot: sizes, pairs, one byte changed in each file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from attestation.conformance import tlog_tiles
from attestation.conformance.case import Judgement
from tests.conformance.conftest import catalogue, item, judgements
from tests.refusals import refusal
from tests.support.tiled_logs import TiledLog, gateway_entries
from tests.vectors_path import need

ACCEPT, REJECT = Judgement(got="accept", ok=True), Judgement(got="reject", ok=True)
ENTRIES = [f"entry {number}".encode() * (number % 7) for number in range(600)]
LOG = TiledLog(entries=ENTRIES)


def files_of(*sizes: int, log: TiledLog = LOG) -> dict[str, bytes]:
    """The files of one log, a checkpoint for every size beside each other."""
    files: dict[str, bytes] = {}
    for size in sizes:
        log.files.clear()
        log.publish(size)
        files |= {path: data for path, data in log.files.items() if path != "checkpoint"}
        files[f"checkpoint.{size}"] = log.files["checkpoint"]
    return files


def build(
    root: Path, files: dict[str, bytes], meaning: str = f"the key is {LOG.vkey_text} ."
) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    listed = [item(name, data) for name, data in files.items()]
    (root / "manifest.json").write_text(json.dumps({"meaning": meaning, "files": listed}))
    return root


def test_every_size_pair_and_changed_file_is_a_case(tmp_path: Path) -> None:
    sizes = (0, 1, 2, 255, 256, 257, 600)
    files = files_of(*sizes)
    got = judgements("tlog-tiles", build(tmp_path, files))
    accepted = [f"size-{size}" for size in sizes]
    accepted += [f"pair-{a}-{b}" for a in sizes for b in sizes if a < b]
    accepted += [f"file-{file}" for file in files if file.startswith("tile/")]
    assert got == dict.fromkeys(accepted, ACCEPT) | {f"mutant-{f}": REJECT for f in files}


def test_files_of_a_log_from_elsewhere_are_all_ok() -> None:
    got = judgements("tlog-tiles", need("tlog-tiles"))
    assert len(got) > 50
    assert all(judgement.ok for judgement in got.values())


def test_full_tile_stands_for_a_partial_one_that_is_not_listed(tmp_path: Path) -> None:
    files = files_of(100, 600)
    del files["tile/0/000.p/100"], files["tile/entries/000.p/100"]
    got = judgements("tlog-tiles", build(tmp_path, files))
    assert all(judgement.ok for judgement in got.values())
    assert got["size-100"] == got["pair-100-600"] == ACCEPT


def test_tile_of_no_listed_checkpoint_is_compared_with_its_neighbours(tmp_path: Path) -> None:
    files = files_of(3, 5)
    del files["checkpoint.5"]
    got = judgements("tlog-tiles", build(tmp_path, files))
    assert got["mutant-tile/0/000.p/5"] == got["mutant-tile/entries/000.p/5"] == REJECT


def flipped(files: dict[str, bytes], path: str, position: int) -> dict[str, bytes]:
    data = bytearray(files[path])
    data[position % len(data)] ^= 1
    return files | {path: bytes(data)}


LONG = TiledLog(entries=[b"%d" % number for number in range(256 * 19 + 100)])


@pytest.fixture(scope="module")
def long() -> dict[str, bytes]:
    """Nineteen full tiles and the ends of several sizes, none of which the one checkpoint needs."""
    return {
        name: data
        for name, data in files_of(1, 800, 2000, 4300, 256 * 19 + 100, log=LONG).items()
        if not name.startswith("checkpoint.") or name == "checkpoint.1"
    }


def test_every_file_of_a_long_log_without_its_checkpoints_is_held_by_its_neighbours(
    tmp_path: Path, long: dict[str, bytes]
) -> None:
    got = judgements("tlog-tiles", build(tmp_path, long, meaning=LONG.vkey_text))
    assert {"mutant-tile/1/000.p/3", "mutant-tile/0/018", "mutant-tile/entries/007"} <= got.keys()
    assert all(judgement.ok for judgement in got.values())


@pytest.mark.parametrize(
    "path",
    ["tile/1/000.p/3", "tile/1/000.p/19", "tile/0/005", "tile/0/003.p/32", "tile/entries/018"],
)
@pytest.mark.parametrize("position", [0, 33, 64, -1])
def test_byte_that_is_wrong_in_a_file_no_checkpoint_needs_is_refused(
    tmp_path: Path, long: dict[str, bytes], path: str, position: int
) -> None:
    root = build(tmp_path, flipped(long, path, position), meaning=LONG.vkey_text)
    got = judgements("tlog-tiles", root)
    assert got[f"file-{path}"] == Judgement(got="reject", ok=False)


@pytest.mark.parametrize("gone", ["tile/0/", "tile/entries/"])
def test_tile_above_is_held_by_the_hashes_or_the_entries_alone(
    tmp_path: Path, long: dict[str, bytes], gone: str
) -> None:
    left = {name: data for name, data in long.items() if not name.startswith(gone)}
    for position in range(0, 19 * 32, 32):
        changed = flipped(left, "tile/1/000.p/19", position)
        root = build(tmp_path / f"{position}", changed, meaning=LONG.vkey_text)
        got = judgements("tlog-tiles", root)
        assert got["file-tile/1/000.p/19"] == Judgement(got="reject", ok=False)


def test_full_tile_alone_is_held_by_the_one_above(tmp_path: Path, long: dict[str, bytes]) -> None:
    names = ["checkpoint.1", "tile/0/000", "tile/0/007", "tile/1/000.p/19", "tile/1/000.p/3"]
    few = {name: long[name] for name in names}
    for position in range(0, 8192, 1000):
        changed = flipped(few, "tile/0/007", position)
        root = build(tmp_path / f"{position}", changed, meaning=LONG.vkey_text)
        got = judgements("tlog-tiles", root)
        assert got["file-tile/0/007"] == Judgement(got="reject", ok=False)
        assert got["file-tile/0/000"] == ACCEPT


def test_tile_above_every_tree_is_no_part_of_the_log_and_its_change_goes_unseen(
    tmp_path: Path,
) -> None:
    files = files_of(300) | {"tile/2/000.p/1": bytes(32)}
    got = judgements("tlog-tiles", build(tmp_path, files))
    assert got["mutant-tile/2/000.p/1"] == Judgement(got="accept", ok=False)


@pytest.mark.parametrize(
    "path", ["tile/0/000", "tile/0/002.p/88", "tile/1/000.p/2", "tile/entries/001"]
)
def test_file_that_is_wrong_from_the_start_fails_its_sizes(tmp_path: Path, path: str) -> None:
    files = files_of(1, 600)
    files[path] = bytes(len(files[path]))
    got = judgements("tlog-tiles", build(tmp_path, files))
    assert got["size-600"] == Judgement(got="reject", ok=False)
    assert got["size-1"] == ACCEPT


def test_sizes_of_two_histories_fail_their_pair(tmp_path: Path) -> None:
    other = files_of(7, log=TiledLog(entries=[b"x"] * 7))
    files = files_of(3) | {
        name: data for name, data in other.items() if ".p/" in name or "7" in name
    }
    got = judgements("tlog-tiles", build(tmp_path, files))
    assert got["pair-3-7"] == Judgement(got="reject", ok=False)
    assert got["size-3"] == got["size-7"] == ACCEPT


def test_checkpoint_under_the_name_of_another_size_fails(tmp_path: Path) -> None:
    files = files_of(3)
    files["checkpoint.2"] = files["checkpoint.3"]
    assert judgements("tlog-tiles", build(tmp_path, files))["size-2"].ok is False


def test_checkpoint_by_another_key_fails(tmp_path: Path) -> None:
    stranger = TiledLog(entries=ENTRIES, origin="another.example/log")
    root = build(tmp_path, files_of(3), meaning=stranger.vkey_text)
    assert judgements("tlog-tiles", root)["size-3"].ok is False


def test_empty_file_has_no_byte_to_change_and_is_refused_with_one_more(tmp_path: Path) -> None:
    files = files_of(3) | {"tile/0/000.p/9": b""}
    assert judgements("tlog-tiles", build(tmp_path, files))["mutant-tile/0/000.p/9"] == REJECT


@pytest.mark.parametrize("name", ["readme.txt", "checkpoint", "checkpoint.01", "tile/0/0"])
def test_listed_file_of_another_shape_is_rejected(tmp_path: Path, name: str) -> None:
    assert (
        refusal(catalogue, "tlog-tiles", build(tmp_path, files_of(1) | {name: b""})) == "manifest"
    )


@pytest.mark.parametrize(
    "meaning", ["", "no key", f"{LOG.vkey_text} {TiledLog(entries=[], origin='x').vkey_text}"]
)
def test_manifest_without_one_key_is_rejected(tmp_path: Path, meaning: str) -> None:
    assert refusal(catalogue, "tlog-tiles", build(tmp_path, files_of(1), meaning)) == "manifest"


def test_manifest_without_meaning_is_rejected(tmp_path: Path) -> None:
    root = build(tmp_path, files_of(1))
    manifest = json.loads((root / "manifest.json").read_text())
    del manifest["meaning"]
    (root / "manifest.json").write_text(json.dumps(manifest))
    assert refusal(catalogue, "tlog-tiles", root) == "manifest"


def test_log_of_a_gateway_is_read_by_the_same_topic(tmp_path: Path) -> None:
    log = TiledLog(entries=gateway_entries(300))
    root = build(tmp_path, files_of(299, 300, log=log), meaning=log.vkey_text)
    assert all(judgement.ok for judgement in judgements("tlog-tiles", root).values())


def test_files_are_of_the_shapes_that_are_known() -> None:
    assert tlog_tiles.parse_tile("tile/1/x001/000.p/3").index == 1000
