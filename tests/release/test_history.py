"""The log of releases: it grows, and nothing else."""

from __future__ import annotations

import pytest

from attestation.errors import EvidenceError
from attestation.merkle.checkpoint import Checkpoint
from attestation.release.history import (
    checkpoint_over,
    entry_name,
    read_checkpoint,
    sign_checkpoint,
    verify_log,
)
from tests.refusals import refusal
from tests.release.builders import key, release, signed, vkeys

ORIGIN = "example.com/images"
ENTRIES = [signed(release(version=f"0.{number}.0")) for number in range(3)]
NOW = checkpoint_over(ORIGIN, ENTRIES)


def check(entries: list[bytes], now: Checkpoint, before: Checkpoint | None = None) -> str:
    code: str = refusal(verify_log, entries, now, vkeys(1), before=before, error=EvidenceError)
    return code


def test_log_lists_its_releases_in_order() -> None:
    log = verify_log(ENTRIES, NOW, vkeys(1))
    assert [one.version for one in log.releases] == ["0.0.0", "0.1.0", "0.2.0"]


@pytest.mark.parametrize("size", [0, 1, 2, 3])
def test_log_that_grew_from_an_older_state_is_accepted(size: int) -> None:
    before = checkpoint_over(ORIGIN, ENTRIES[:size])
    assert verify_log(ENTRIES, NOW, vkeys(1), before=before).checkpoint == NOW


def test_entry_that_was_replaced_is_refused() -> None:
    changed = [signed(release(version="0.0.9")), *ENTRIES[1:]]
    now = checkpoint_over(ORIGIN, changed)
    assert check(changed, now, checkpoint_over(ORIGIN, ENTRIES[:1])) == "release_log"
    assert check(changed, NOW) == "release_log"


def test_entries_in_another_order_are_refused() -> None:
    assert check(ENTRIES[::-1], NOW) == "release_log"


def test_entry_that_was_taken_away_is_refused() -> None:
    assert check(ENTRIES[:2], NOW) == "release_log"
    assert check(ENTRIES[:2], checkpoint_over(ORIGIN, ENTRIES[:2]), NOW) == "release_log"


def test_log_of_another_name_is_refused() -> None:
    assert check(ENTRIES, NOW, checkpoint_over("example.com/other", ENTRIES)) == "release_log"


def test_version_that_is_published_twice_is_refused() -> None:
    twice = [*ENTRIES, signed(release(version="0.2.0", packs=()))]
    assert check(twice, checkpoint_over(ORIGIN, twice)) == "release_log"


def test_entry_signed_by_somebody_else_is_refused() -> None:
    entries = [*ENTRIES, signed(release(version="0.3.0"), 2)]
    assert check(entries, checkpoint_over(ORIGIN, entries)) == "release_signature"


def test_checkpoint_is_a_signed_note() -> None:
    file = sign_checkpoint(NOW, key(1))
    assert read_checkpoint(file, vkeys(1)) == NOW
    assert refusal(read_checkpoint, file, vkeys(2), error=EvidenceError) == "note_signature"


def test_entries_are_named_so_that_they_sort() -> None:
    assert [entry_name(0), entry_name(12)] == ["00000000.dsse.json", "00000012.dsse.json"]
