"""What one earlier boot left: whole, torn, damaged and shortened told apart."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from gateway.notary.files import FileLayer
from gateway.notary.log.segments import (
    MAGIC,
    Header,
    Kind,
    encode_record,
    parse_segment,
)
from gateway.notary.log.survey import examine, survey
from gateway.notary.log.walk import BootStatus
from tests.notary.log.surveys import (
    cut,
    edit,
    flip,
    looked_at,
    places,
    rewritten,
    state,
    status_of,
    whole_read,
)
from tests.support.stored_logs import SMALL, StoredLog

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


def test_small_segments_are_what_these_tests_need(stored: StoredLog) -> None:
    assert SMALL < 10_000
    assert len(stored.segments) > 3
