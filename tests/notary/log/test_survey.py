"""What earlier boots left: whole, torn, damaged, shortened, foreign and unborn told apart."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from attestation.bundle import make_bundle
from attestation.merkle.note import sign_note
from gateway.notary.files import FileLayer
from gateway.notary.log.examination import Depth, SurveyedBoot
from gateway.notary.log.segments import (
    MAGIC,
    Header,
    Kind,
    encode_batch,
    encode_record,
    parse_segment,
)
from gateway.notary.log.survey import Fork, Survey, examine, survey
from gateway.notary.log.walk import BootStatus
from tests.support.stored_logs import SMALL, StoredLog, boot_json

LAYER = FileLayer()


@pytest.fixture
def stored(tmp_path: Path) -> StoredLog:
    """A boot that ended in order: several segments, an epoch, static files, a last checkpoint."""
    log = StoredLog(tmp_path / "data").begin()
    for _ in range(4):
        log.serve(3)
        log.checkpoint()
    log.epoch()
    log.serve(1)
    log.checkpoint()
    log.export()
    log.close()
    return log


def looked_at(data_dir: Path, **changes: object) -> Survey:
    return survey(LAYER, data_dir, **changes)  # type: ignore[arg-type]


def whole_read(log: StoredLog, **changes: object) -> SurveyedBoot:
    return examine(LAYER, log.data_dir, log.name, looked_at(log.data_dir), **changes)  # type: ignore[arg-type]


def status_of(log: StoredLog) -> BootStatus:
    """The status after a full read, having seen that the quick look told of nothing else."""
    quick = looked_at(log.data_dir).boots[log.name]
    found = whole_read(log)
    assert found.depth in (Depth.WHOLE, Depth.EVIDENCE)
    if quick.status is not BootStatus.WHOLE:
        assert found.status is not BootStatus.WHOLE
    return found.status


def edit(path: Path, change: Callable[[bytearray], object]) -> None:
    content = bytearray(path.read_bytes())
    changed = change(content)
    path.write_bytes(changed if isinstance(changed, bytes) else content)


def cut(path: Path, size: int) -> None:
    edit(path, lambda content: bytes(content[:size]))


def flip(path: Path, place: int) -> None:
    def change(content: bytearray) -> None:
        content[place] ^= 1

    edit(path, change)


def state(data_dir: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in data_dir.rglob("*")
    }


# Nothing wrong


def test_orderly_end_is_whole_and_the_next_boot_follows_it(stored: StoredLog) -> None:
    found = looked_at(stored.data_dir)
    assert {name: boot.status for name, boot in found.boots.items()} == {
        stored.name: BootStatus.WHOLE
    }
    assert (found.other_layout, found.strangers, found.forks) == ((), (), ())
    assert found.prev is not None
    assert found.prev.quote_digest == stored.log.made.quote_digest
    assert found.prev.checkpoint == stored.log.note(stored.log.checkpoint())
    assert status_of(stored) is BootStatus.WHOLE
    assert whole_read(stored).leaves == len(stored.log.entries)


def test_empty_data_folder_has_no_predecessor(tmp_path: Path) -> None:
    found = looked_at(tmp_path)
    assert (dict(found.boots), found.predecessor, found.prev) == ({}, None, None)


def test_nothing_is_modified_by_looking(stored: StoredLog) -> None:
    before = state(stored.data_dir)
    looked_at(stored.data_dir)
    whole_read(stored)
    assert state(stored.data_dir) == before


def test_static_files_are_not_needed(stored: StoredLog) -> None:
    shutil.rmtree(stored.folder / "log")
    found = looked_at(stored.data_dir)
    assert found.boots[stored.name].status is BootStatus.WHOLE
    assert found.prev is not None
    assert found.prev.checkpoint == stored.log.note(stored.log.checkpoint())


# Torn: what a crash leaves


def test_last_batch_cut_at_any_byte_is_torn(stored: StoredLog) -> None:
    log = stored.successor(segment_bytes=1 << 20).begin()
    log.serve(2)
    log.checkpoint()
    size = log.segments[0].stat().st_size
    served = log.serve(1)
    assert served
    log.close()
    content = log.segments[0].read_bytes()
    for end in range(size + 1, len(content), 7):
        log.segments[0].write_bytes(content[:end])
        boot = looked_at(log.data_dir).boots[log.name]
        # Cut between the mark of a batch and its first record, it has simply nothing in it.
        assert boot.status in (BootStatus.TORN, BootStatus.WHOLE)
        assert boot.leaves == 3
        assert status_of(log) is boot.status


@pytest.mark.parametrize("kind", ["garbage", "zeroes", "reordered"])
def test_unsynced_tail_of_any_content_is_torn(stored: StoredLog, kind: str) -> None:
    tail = {
        "garbage": b"\xa5" * 900,
        "zeroes": bytes(4096),
        "reordered": bytes(512) + encode_record(Kind.RECEIPT, b"from the second page"),
    }[kind]
    edit(stored.segments[-1], lambda content: bytes(content) + tail)
    assert status_of(stored) is BootStatus.TORN
    found = looked_at(stored.data_dir)
    assert found.prev is not None
    assert found.prev.checkpoint == stored.log.note(stored.log.checkpoint())


@pytest.mark.parametrize("content", [b"", MAGIC[:9], MAGIC, MAGIC + b"\x00\x00"])
def test_segment_that_was_only_begun_is_torn(stored: StoredLog, content: bytes) -> None:
    (stored.folder / "segments" / f"{len(stored.segments):06}.seg").write_bytes(content)
    assert status_of(stored) is BootStatus.TORN


# Damaged


def test_changed_bit_anywhere_but_in_the_last_batch_is_damage(stored: StoredLog) -> None:
    for number, path in enumerate(stored.segments):
        whole = path.read_bytes()
        records = parse_segment(whole)
        last = max(r.offset for r in records if r.kind is Kind.BATCH)
        end = last if path == stored.segments[-1] else len(whole)
        for place in range(3, end, 211):
            flip(path, place)
            assert whole_read(stored).status is BootStatus.DAMAGED, f"{number}: {place}"
            path.write_bytes(whole)
    assert whole_read(stored).status is BootStatus.WHOLE


def test_damage_of_what_a_checkpoint_covers_is_no_tear(tmp_path: Path) -> None:
    log = StoredLog(tmp_path / "data", segment_bytes=1 << 20).begin()
    log.serve(3)
    log.export()  # the only checkpoint over these receipts is in the static files
    log.close()
    last = max(place.offset for place in log.receipts.values())
    flip(log.segments[0], last + 90)
    found = looked_at(log.data_dir).boots[log.name]
    assert found.status is BootStatus.DAMAGED
    assert "there were 4" in found.reason


def rewritten(log: StoredLog, change: Callable[[list[tuple[int, bytes]]], object]) -> None:
    """Write a boot's only segment anew with whole frames, `change` having changed the records."""
    (path,) = log.segments
    records = [(int(r.kind), r.payload) for r in parse_segment(path.read_bytes())]
    change(records)
    path.write_bytes(MAGIC + b"".join(encode_record(*record) for record in records))


@pytest.fixture
def single(tmp_path: Path) -> StoredLog:
    """A boot with everything in one segment."""
    log = StoredLog(tmp_path / "data", segment_bytes=1 << 20).begin()
    log.serve(3)
    log.checkpoint()
    log.serve(2)
    log.checkpoint()
    log.close()
    return log


def places(records: list[tuple[int, bytes]], kind: Kind) -> list[int]:
    return [place for place, record in enumerate(records) if record[0] == kind]


def test_exchanged_receipts_are_damage_although_every_record_is_whole(single: StoredLog) -> None:
    def change(records: list[tuple[int, bytes]]) -> None:
        one, other = places(records, Kind.RECEIPT)[:2]
        records[one], records[other] = records[other], records[one]

    rewritten(single, change)
    found = whole_read(single)
    assert found.status is BootStatus.DAMAGED
    assert "signed root" in found.reason


def test_removed_receipt_is_noticed(single: StoredLog) -> None:
    rewritten(single, lambda records: records.pop(places(records, Kind.RECEIPT)[1]))
    assert status_of(single) in (BootStatus.DAMAGED, BootStatus.SHORTENED)
    assert looked_at(single.data_dir).boots[single.name].status is not BootStatus.WHOLE


def test_removed_batch_is_noticed(single: StoredLog) -> None:
    def change(records: list[tuple[int, bytes]]) -> None:
        start, end = places(records, Kind.BATCH)[2:4]
        del records[start:end]

    rewritten(single, change)
    assert status_of(single) is BootStatus.DAMAGED


def test_second_boot_statement_and_second_header_are_damage(single: StoredLog) -> None:
    original = single.segments[0].read_bytes()
    for kind in (Kind.BOOT, Kind.HEADER):
        rewritten(single, lambda rs, k=kind: rs.append(next(r for r in rs if r[0] == k)))  # type: ignore[misc]
        assert status_of(single) is BootStatus.DAMAGED
        single.segments[0].write_bytes(original)


def test_missing_middle_segment_is_damage(stored: StoredLog) -> None:
    stored.segments[1].unlink()
    assert status_of(stored) is BootStatus.DAMAGED


def test_segment_of_another_history_is_damage(stored: StoredLog) -> None:
    path = stored.segments[2]

    def change(content: bytearray) -> bytes:
        first, *rest = parse_segment(bytes(content))
        header = Header(
            bootseed=stored.log.made.bootseed,
            number=2,
            first_leaf=int.from_bytes(first.payload[36:44], "big"),
            before=b"x" * 32,
        )
        return MAGIC + header.encode() + bytes(content[rest[0].offset :])

    edit(path, change)
    assert status_of(stored) is BootStatus.DAMAGED


def test_unreadable_evidence_is_damage(stored: StoredLog) -> None:
    edit(stored.folder / "boot.json", lambda content: bytes(content[:-5]))
    assert status_of(stored) is BootStatus.DAMAGED
    assert looked_at(stored.data_dir).predecessor is None
    (stored.folder / "boot.json").unlink()
    assert status_of(stored) is BootStatus.DAMAGED


def test_disk_error_under_the_last_boot_is_no_finding_but_an_error(stored: StoredLog) -> None:
    """A chain that went on without what cannot be read just now would have a gap for ever."""

    class Failing(FileLayer):
        def read_at(self, descriptor: int, length: int, offset: int) -> bytes:
            if length > 1 << 19:
                raise OSError(5, "an I/O error")
            return super().read_at(descriptor, length, offset)

    with pytest.raises(OSError, match="I/O"):
        survey(Failing(), stored.data_dir)
    known = survey(FileLayer(), stored.data_dir)
    whole = examine(Failing(), stored.data_dir, stored.name, known)
    assert whole.status is BootStatus.DAMAGED


# Shortened


def test_cut_below_a_checkpoint_of_the_static_files_is_shortened(single: StoredLog) -> None:
    single.export()
    first = min(place.offset for place in single.receipts.values())
    cut(single.segments[0], first)
    assert status_of(single) is BootStatus.SHORTENED
    # The next boot still names the last checkpoint that the old log signed.
    prev = looked_at(single.data_dir).prev
    assert prev is not None
    assert prev.checkpoint == single.log.note(single.log.checkpoint())


def test_missing_last_segments_are_shortened(stored: StoredLog) -> None:
    for path in stored.segments[2:]:
        path.unlink()
    assert status_of(stored) is BootStatus.SHORTENED


def test_rolled_back_copy_is_shortened_by_what_its_successor_names(tmp_path: Path) -> None:
    log = StoredLog(tmp_path / "data").begin()
    log.serve(2)
    log.checkpoint()
    shutil.copytree(log.folder, tmp_path / "backup")
    log.serve(5)
    log.checkpoint()
    log.close()
    following = log.successor().begin()
    following.close()
    assert status_of(log) is BootStatus.WHOLE
    shutil.rmtree(log.folder)
    shutil.copytree(tmp_path / "backup", log.folder)
    assert whole_read(log).status is BootStatus.SHORTENED
    assert looked_at(log.data_dir).predecessor is not None
    assert looked_at(log.data_dir).predecessor.name == following.name  # type: ignore[union-attr]


def test_rolled_back_copy_is_shortened_by_what_the_index_has_seen(tmp_path: Path) -> None:
    log = StoredLog(tmp_path / "data").begin()
    log.serve(2)
    log.checkpoint()
    log.close()
    assert looked_at(log.data_dir).boots[log.name].status is BootStatus.WHOLE
    found = looked_at(log.data_dir, leaves_seen={log.name: 9})
    assert found.boots[log.name].status is BootStatus.SHORTENED
    assert whole_read(log, leaves_seen={log.name: 9}).status is BootStatus.SHORTENED


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


def test_small_segments_are_what_these_tests_need(stored: StoredLog) -> None:
    assert SMALL < 10_000
    assert len(stored.segments) > 3
