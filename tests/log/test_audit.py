"""A log read from outside: what is refused, and what a damaged or dishonest log looks like."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.encoding.digest import Digest
from attestation.errors import AttestationError, EvidenceError, MalformedError
from attestation.log import (
    Held,
    Leaf,
    LogReport,
    Resources,
    SignedCheckpoint,
    audit_log,
    log_entry,
    read_checkpoint,
    require_extends,
    verify_tree,
)
from attestation.merkle.checkpoint import Checkpoint
from attestation.merkle.tiles import encode_entry_bundle
from attestation.merkle.tree import EMPTY_ROOT
from tests.refusals import refusal
from tests.support.tiled_logs import TiledLog, gateway_entries

ENTRIES = gateway_entries(70_000)
NOTHING_HELD = Held()


def audit(log: TiledLog, *, held: Held = NOTHING_HELD, since: int = 0) -> LogReport:
    resources = Resources(log)
    signed = read_checkpoint(resources.checkpoint(), log.vkey)
    return audit_log(resources, signed, held=held, since=since)


def signed(log: TiledLog, size: int) -> SignedCheckpoint:
    return read_checkpoint(log.note(size), log.vkey)


def refused(log: TiledLog, error: type[AttestationError] = EvidenceError, **how: object) -> str:
    return refusal(audit, log, error=error, **how)


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 511, 512, 1000, 65_535, 65_536, 65_537])
def test_log_of_any_size_is_read_whole(size: int) -> None:
    report = audit(TiledLog(entries=ENTRIES[:size]))
    assert report.signed.checkpoint.size == size
    assert report.read_from == 0
    assert sum(report.counts.values()) == size
    assert report.counts[Leaf.BOOT] == 1
    assert report.counts[Leaf.EPOCH] == (size - 1) // 50


def test_empty_log_is_read_whole() -> None:
    log = TiledLog(entries=[])
    assert audit(log).signed.checkpoint.root == EMPTY_ROOT
    assert log.asked == ["checkpoint"]


def test_every_file_of_the_log_is_read_once() -> None:
    log = TiledLog(entries=ENTRIES[:66_000])
    audit(log)
    assert sorted(log.asked) == sorted(log.files)


def test_tiles_that_many_proofs_need_are_read_once() -> None:
    log = TiledLog(entries=ENTRIES[:66_000])
    audit(log, held=Held(entries=tuple(enumerate(ENTRIES[:1000]))))
    # Of so many tiles the first ones are no longer kept when the proofs need them again.
    assert {log.asked.count(f"tile/0/00{number}") for number in range(3)} == {2}
    assert max(map(log.asked.count, log.asked)) == 2


def test_partial_tiles_that_are_gone_are_cut_out_of_the_full_ones() -> None:
    log = TiledLog(entries=ENTRIES[:300])
    log.publish(200)
    log.drop_partial()
    report = audit(log)
    assert (report.signed.checkpoint.size, report.counts[Leaf.RECEIPT]) == (200, 196)


def test_log_without_a_checkpoint_is_refused() -> None:
    log = TiledLog(entries=ENTRIES[:3])
    del log.files["checkpoint"]
    assert refused(log) == "log_incomplete"


@pytest.mark.parametrize("size", [3, 256, 300, 1000])
def test_log_that_lacks_any_file_is_refused(size: int) -> None:
    for path in TiledLog(entries=ENTRIES[:size]).files:
        log = TiledLog(entries=ENTRIES[:size])
        del log.files[path]
        assert refused(log) == "log_incomplete"


@given(st.integers(1, 700), st.data())
@settings(max_examples=60)
def test_log_with_any_byte_changed_is_refused(size: int, data: st.DataObject) -> None:
    log = TiledLog(entries=ENTRIES[:size])
    path = data.draw(st.sampled_from(sorted(log.files)))
    log.flip(path, data.draw(st.integers(0, len(log.files[path]) - 1)))
    with pytest.raises((EvidenceError, MalformedError)):
        audit(log)


@pytest.mark.parametrize("path", ["tile/0/255", "tile/1/000", "tile/1/001.p/17", "tile/2/000.p/1"])
def test_tile_of_any_level_is_compared_with_what_lies_below(path: str) -> None:
    log = TiledLog(entries=ENTRIES)
    log.flip(path, -1)
    assert refused(log) == "log_tile"


@pytest.mark.parametrize("path", ["tile/0/000", "tile/entries/000", "tile/entries/001.p/44"])
def test_file_of_another_length_is_refused_by_its_name(path: str) -> None:
    log = TiledLog(entries=ENTRIES[:300])
    log.files[path] = log.files[path][:-1]
    with pytest.raises(MalformedError, match=path):
        audit(log)


def test_entries_and_tiles_that_agree_but_were_never_signed_are_refused() -> None:
    log = TiledLog(entries=ENTRIES[:300])
    log.files |= {
        path: data
        for path, data in TiledLog(entries=gateway_entries(300, salt=b"other")).files.items()
        if path != "checkpoint"
    }
    assert refused(log) == "log_root"


def test_checkpoint_signed_by_another_key_is_refused() -> None:
    log = TiledLog(entries=ENTRIES[:3])
    log.files["checkpoint"] = log.note(3).replace("gateway.example", "another.example").encode()
    assert refused(log) == "note_signature"


def test_checkpoint_about_another_log_is_refused() -> None:
    log = TiledLog(entries=ENTRIES[:3])
    other = Checkpoint(origin="another.example/log", size=3, root=log.checkpoint(3).root)
    log.files["checkpoint"] = log.sign(other).encode()
    assert refused(log) == "origin"


def test_checkpoint_that_is_no_note_is_refused() -> None:
    log = TiledLog(entries=ENTRIES[:3])
    log.files["checkpoint"] = b"\xff"
    assert refused(log, MalformedError) == "note"


@pytest.mark.parametrize(
    "entry",
    [
        b"",
        b"\x01",
        b"\x01" + bytes(33),
        b"\x04" + bytes(32),
        b"\xff" + bytes(32),
        b"\x00" + bytes(32),
    ],
    ids=["empty", "no digest", "34 bytes", "type 4", "type 255", "a second boot"],
)
def test_signed_entry_that_no_gateway_writes_is_refused(entry: bytes) -> None:
    assert refused(TiledLog(entries=[*ENTRIES[:5], entry])) == "log_entry"


def test_log_that_does_not_begin_with_its_boot_is_refused() -> None:
    assert refused(TiledLog(entries=ENTRIES[1:5])) == "log_entry"


def test_log_continues_the_checkpoints_held() -> None:
    log = TiledLog(entries=ENTRIES[:1000])
    sizes = (1, 255, 256, 257, 999, 1000)
    held = Held(checkpoints=tuple(signed(log, size) for size in sizes))
    assert audit(log, held=held).consistent == sizes


@given(st.integers(1, 70_000), st.integers(1, 70_000))
@settings(max_examples=15)
def test_any_two_sizes_of_a_log_are_consistent(one: int, other: int) -> None:
    small, large = sorted((one, other))
    log = TWO_SIZES
    require_extends(Resources(log), log.checkpoint(small), log.checkpoint(70_000))
    require_extends(Resources(log), log.checkpoint(large), log.checkpoint(70_000))


TWO_SIZES = TiledLog(entries=ENTRIES)


def test_log_that_became_shorter_is_refused() -> None:
    log = TiledLog(entries=ENTRIES[:1000])
    held = Held(checkpoints=(signed(log, 1000),))
    log.publish(999)
    assert refused(log, held=held) == "log_shrunk"


def test_log_with_two_roots_for_one_size_is_refused() -> None:
    other = TiledLog(entries=gateway_entries(300, salt=b"other"))
    held = Held(checkpoints=(signed(other, 300),))
    assert refused(TiledLog(entries=ENTRIES[:300]), held=held) == "log_two_roots"


@pytest.mark.parametrize("seen", [1, 100, 256, 300])
def test_log_that_forked_below_what_was_seen_is_refused(seen: int) -> None:
    other = TiledLog(entries=gateway_entries(300, salt=b"other"))
    held = Held(checkpoints=(signed(other, seen),))
    assert refused(TiledLog(entries=ENTRIES[:600]), held=held) == "log_fork"


def test_log_forked_in_its_last_entry_is_refused() -> None:
    seen = TiledLog(entries=[*ENTRIES[:299], log_entry(Leaf.RECEIPT, Digest.of(b"removed later"))])
    held = Held(checkpoints=(signed(seen, 300),))
    assert refused(TiledLog(entries=ENTRIES[:600]), held=held) == "log_fork"


def test_damaged_tile_is_not_taken_for_a_fork() -> None:
    log = TiledLog(entries=ENTRIES[:600])
    held = Held(checkpoints=(signed(log, 300),))
    log.flip("tile/0/001")
    assert refused(log, held=held) == "consistency"


def test_empty_log_is_the_beginning_of_every_log() -> None:
    log = TiledLog(entries=ENTRIES[:600])
    assert audit(log, held=Held(checkpoints=(signed(log, 0),))).consistent == (0,)


def test_empty_log_with_a_root_was_another_history() -> None:
    log = TiledLog(entries=ENTRIES[:600])
    strange = Checkpoint(origin=log.origin, size=0, root=bytes(32))
    held = Held(checkpoints=(read_checkpoint(log.sign(strange), log.vkey),))
    assert refused(log, held=held) == "log_fork"


def test_checkpoints_of_two_logs_are_not_compared() -> None:
    log, other = TiledLog(entries=ENTRIES[:6]), TiledLog(entries=ENTRIES[:3], origin="other/log")
    held = Held(checkpoints=(signed(other, 3),))
    assert refused(log, held=held) == "origin"


def test_entries_held_are_in_the_log_or_beyond_it() -> None:
    log = TiledLog(entries=ENTRIES[:300])
    held = Held(entries=tuple((index, ENTRIES[index]) for index in (0, 7, 299, 300, 5000)))
    report = audit(log, held=held)
    assert (report.included, report.beyond) == (3, (300, 5000))


@pytest.mark.parametrize("index", [0, 7, 299])
def test_entry_held_that_the_log_has_not_at_its_place_is_refused(index: int) -> None:
    held = Held(entries=((index, ENTRIES[index + 1]),))
    assert refused(TiledLog(entries=ENTRIES[:300]), held=held) == "inclusion"


@pytest.mark.parametrize("since", [0, 1, 255, 256, 600, 65_535, 65_536, 66_000])
def test_log_is_read_on_from_where_it_was_left(since: int) -> None:
    log = TiledLog(entries=ENTRIES[:66_000])
    report = audit(log, since=since)
    start = since - since % 256
    assert report.read_from == start
    assert sum(report.counts.values()) == 66_000 - start
    assert log.asked.count("tile/entries/000") == (1 if start == 0 else 0)


@given(st.integers(1, 1500), st.integers(0, 2000), st.data())
@settings(max_examples=40)
def test_log_read_on_does_not_lead_to_its_root_if_a_byte_read_changed(
    size: int, since: int, data: st.DataObject
) -> None:
    log = TiledLog(entries=ENTRIES[:size])
    audit(log, since=since)
    path = data.draw(st.sampled_from(sorted(set(log.asked))))
    log.flip(path, data.draw(st.integers(0, len(log.files[path]) - 1)))
    with pytest.raises((EvidenceError, MalformedError)):
        audit(log, since=since)


def test_tree_is_verified_for_entries_of_any_form() -> None:
    log = TiledLog(entries=[b"", b"a", b"b" * 65_535])
    seen: list[tuple[int, bytes]] = []
    verify_tree(
        Resources(log),
        log.checkpoint(3),
        since=0,
        see=lambda index, entry: seen.append((index, entry)),
    )
    assert seen == list(enumerate(log.entries))


def test_log_that_claims_more_than_it_has_ends_at_the_first_missing_file() -> None:
    log = TiledLog(entries=ENTRIES[:300])
    huge = Checkpoint(origin=log.origin, size=(1 << 64) - 1, root=bytes(32))
    log.files["checkpoint"] = log.sign(huge).encode()
    assert refused(log) == "log_incomplete"
    assert len(log.asked) < 10


def test_bundle_with_an_entry_too_many_is_refused() -> None:
    log = TiledLog(entries=ENTRIES[:3])
    log.files["tile/entries/000.p/3"] = encode_entry_bundle(ENTRIES[:4])
    assert refused(log, MalformedError) == "bundle"


def test_report_tells_what_was_read() -> None:
    report = audit(TiledLog(entries=ENTRIES[:120]))
    assert dict(report.counts) == {Leaf.BOOT: 1, Leaf.RECEIPT: 117, Leaf.EPOCH: 2, Leaf.TASK: 0}
