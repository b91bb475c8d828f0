"""Earlier boots among each other: foreign, unborn, followed, forked, retired."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from attestation.bundle import make_bundle
from attestation.merkle.note import sign_note
from gateway.notary.log.segments import (
    MAGIC,
    Kind,
    encode_batch,
    encode_record,
    parse_segment,
)
from gateway.notary.log.survey import Fork
from gateway.notary.log.walk import BootStatus
from tests.notary.log.surveys import (
    edit,
    looked_at,
    places,
    rewritten,
    status_of,
    whole_read,
)
from tests.support.stored_logs import StoredLog, boot_json

# Foreign


def test_folder_under_another_name_is_foreign_and_followed_by_nobody(stored: StoredLog) -> None:
    stored.folder.rename(stored.data_dir / ("0" * 16))
    found = looked_at(stored.data_dir)
    assert found.boots["0" * 16].status is BootStatus.FOREIGN
    assert found.predecessor is None


def test_copy_under_another_name_does_not_make_a_fork(stored: StoredLog) -> None:
    shutil.copytree(stored.folder, stored.data_dir / ("0" * 16))
    found = looked_at(stored.data_dir)
    assert found.boots["0" * 16].status is BootStatus.FOREIGN
    assert found.predecessor is not None
    assert (found.predecessor.name, found.forks) == (stored.name, ())


@pytest.fixture
def other(stored: StoredLog) -> StoredLog:
    log = StoredLog(stored.data_dir, seed="other").begin()
    for _ in range(4):
        log.serve(3)
        log.checkpoint()
    log.close()
    return log


def test_segment_of_another_boot_is_foreign(stored: StoredLog, other: StoredLog) -> None:
    for number in (0, 1, len(stored.segments) - 1):
        whole = stored.segments[number].read_bytes()
        stored.segments[number].write_bytes(other.segments[1].read_bytes())
        assert whole_read(stored).status is BootStatus.FOREIGN
        stored.segments[number].write_bytes(whole)


def test_renamed_and_exchanged_segments_are_foreign(stored: StoredLog) -> None:
    one, two = stored.segments[0].read_bytes(), stored.segments[1].read_bytes()
    stored.segments[0].write_bytes(two)
    stored.segments[1].write_bytes(one)
    assert status_of(stored) is BootStatus.FOREIGN
    stored.segments[0].write_bytes(one)
    assert status_of(stored) is BootStatus.FOREIGN  # now segment 0 is there twice


def test_exchanged_evidence_is_foreign(stored: StoredLog, other: StoredLog) -> None:
    (stored.folder / "boot.json").write_bytes(boot_json(other.log.made))
    assert status_of(stored) is BootStatus.FOREIGN


def test_evidence_of_two_boots_or_none_is_damage(stored: StoredLog, other: StoredLog) -> None:
    both = make_bundle(boots=[stored.log.made.evidence, other.log.made.evidence])
    for bundle in (both, make_bundle()):
        (stored.folder / "boot.json").write_bytes(bundle.encode())
        assert status_of(stored) is BootStatus.DAMAGED


def test_checkpoint_of_another_key_is_foreign(single: StoredLog, tmp_path: Path) -> None:
    other = StoredLog(tmp_path / "elsewhere", seed="other")
    other.close()

    def change(records: list[tuple[int, bytes]]) -> None:
        place = places(records, Kind.CHECKPOINT)[-1]
        text = single.log.checkpoint().text
        forged = sign_note(text, single.log.made.origin, other.log.made.log_key)
        records[place] = (Kind.CHECKPOINT, forged.encode())

    rewritten(single, change)
    assert status_of(single) is BootStatus.FOREIGN


def test_receipts_without_any_signed_checkpoint_are_foreign(single: StoredLog) -> None:
    def change(records: list[tuple[int, bytes]]) -> None:
        for place in reversed(places(records, Kind.CHECKPOINT)):
            del records[place]

    rewritten(single, change)
    assert status_of(single) is BootStatus.FOREIGN
    assert looked_at(single.data_dir).predecessor is None


def test_quote_that_nobody_signed_makes_a_boot_foreign(stored: StoredLog) -> None:
    evidence = stored.log.made.evidence
    quote = bytearray(evidence.quote)
    quote[140] ^= 1  # a measurement: the report data still names the statement
    object.__setattr__(evidence, "quote", bytes(quote))
    (stored.folder / "boot.json").write_bytes(boot_json(stored.log.made))
    found = looked_at(stored.data_dir)
    assert found.boots[stored.name].status is BootStatus.FOREIGN
    assert found.predecessor is None


def test_unknown_names_in_a_boot_folder_are_told(stored: StoredLog) -> None:
    (stored.folder / "segments" / "notes.txt").write_bytes(b"")
    assert status_of(stored) is BootStatus.FOREIGN
    found = looked_at(stored.data_dir)
    assert "notes.txt" in found.boots[stored.name].reason
    # Whoever can drop a file there cannot break the chain with it.
    assert found.predecessor is not None


def test_other_names_in_the_data_folder_are_told_apart(stored: StoredLog) -> None:
    for name in ("index.sqlite", "index.sqlite-wal", "0123456789abcdef.journal", "notary.socket"):
        (stored.data_dir / name).write_bytes(b"")
    for name in ("0123456789abcdef.boot.json", "0123456789abcdef.root.pem", "mystery"):
        (stored.data_dir / name).write_bytes(b"")
    found = looked_at(stored.data_dir, known_names={"notary.socket"})
    assert found.strangers == ("mystery",)
    assert found.other_layout == (
        "0123456789abcdef.boot.json",
        "0123456789abcdef.journal",
        "0123456789abcdef.root.pem",
    )
    assert found.boots[stored.name].status is BootStatus.WHOLE


# Unborn


def test_boot_that_never_signed_a_checkpoint_is_unborn(stored: StoredLog) -> None:
    before = looked_at(stored.data_dir).prev
    log = stored.successor()  # evidence and an empty segment
    log.close()
    found = looked_at(stored.data_dir)
    assert found.boots[log.name].status is BootStatus.UNBORN
    assert found.prev == before
    assert found.forks == ()


def test_every_state_of_a_start_that_was_cut_off_is_unborn(stored: StoredLog) -> None:
    log = stored.successor().begin()
    log.close()
    content = log.segments[0].read_bytes()
    checkpoint = next(r for r in parse_segment(content) if r.kind is Kind.CHECKPOINT)
    for end in (*range(0, checkpoint.end, 13), checkpoint.end - 1):
        log.segments[0].write_bytes(content[:end])
        assert status_of(log) is BootStatus.UNBORN
    shutil.rmtree(log.folder / "segments")
    assert status_of(log) is BootStatus.UNBORN
    (log.folder / "boot.json").unlink()
    assert status_of(log) is BootStatus.UNBORN


# The chain


def test_chain_ends_in_the_boot_that_nobody_follows(tmp_path: Path) -> None:
    log = StoredLog(tmp_path / "data", seed="0").begin()
    for number in range(1, 4):
        log.serve(1)
        log.checkpoint()
        log.close()
        log = log.successor(seed=f"{number}").begin()
    log.close()
    found = looked_at(log.data_dir)
    assert found.predecessor is not None
    assert found.predecessor.name == log.name
    assert found.forks == ()
    assert len(found.boots) == 4


def test_two_boots_that_follow_one_are_a_fork(stored: StoredLog) -> None:
    one = stored.successor(seed="one").begin()
    two = stored.successor(seed="two").begin()
    found = looked_at(stored.data_dir)
    names = tuple(sorted((one.name, two.name)))
    assert found.forks == (Fork(after=stored.name, boots=names), Fork(after=None, boots=names))
    one.close()
    two.close()


def test_newest_of_several_heads_is_followed(tmp_path: Path) -> None:
    logs = [
        StoredLog(tmp_path / "data", seed=f"{n}", statement_changes={"time_claimed": time}).begin()
        for n, time in enumerate((50, 90, 70))
    ]
    found = looked_at(tmp_path / "data")
    assert found.predecessor is not None
    assert found.predecessor.name == logs[1].name
    assert found.forks == (Fork(after=None, boots=tuple(sorted(log.name for log in logs))),)
    for log in logs:
        log.close()


def test_head_without_a_genuine_checkpoint_is_passed_over(stored: StoredLog) -> None:
    log = stored.successor(
        seed="late", segment_bytes=1 << 20, statement_changes={"time_claimed": 1 << 40}
    ).begin()
    log.close()
    (path,) = log.segments
    records = parse_segment(path.read_bytes())
    forged = [
        encode_record(r.kind, r.payload.replace(b"\n1\n", b"\n2\n", 1))
        if r.kind is Kind.CHECKPOINT
        else encode_record(r.kind, r.payload)
        for r in records
    ]
    path.write_bytes(MAGIC + b"".join(forged))
    found = looked_at(stored.data_dir)
    assert found.predecessor is not None
    assert found.predecessor.name == stored.name


def test_boot_with_retired_segments_is_whole(stored: StoredLog) -> None:
    for path in stored.segments[:2]:
        path.unlink()
    found = whole_read(stored)
    assert (found.status, found.retired) == (BootStatus.WHOLE, 2)
    # Its tree goes on from the tiles: what is left is still checked against signed roots.
    tile = next((stored.folder / "log" / "tile" / "0").rglob("*"))
    assert tile.exists()


def test_batch_numbers_that_repeat_are_damage(single: StoredLog) -> None:
    edit(
        single.segments[0],
        lambda content: bytes(content) + encode_batch(0) + encode_record(Kind.RECEIPT, b"x" * 60),
    )
    assert status_of(single) is BootStatus.DAMAGED
