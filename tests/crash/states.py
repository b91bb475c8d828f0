"""What a disk may hold after the power went: every choice the hardware is free to make.

Rules of this model (pessimistic where file systems differ):

1. what a completed sync covered is there, unchanged: data by the file's sync, names by the folder's
2. of the writes since then, any set of 512-byte sectors arrived; a sector arrives whole, and holds
   some version of the writes to it in their order
3. a file may have any length between the durable one and the longest it had (or, where it was cut,
   down to the cut); what did not arrive there reads as zeroes or as garbage
4. of the changes to the names of a folder since its sync, any subset arrived; one change is atomic
5. a folder whose own name did not arrive takes everything in it along
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum

from tests.crash.trace import ROOT, DataOp, FileState, FolderState, Medium, applied, written

SECTOR = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A disk at rest: folders, and the bytes of each file, by path from its root ("a/b")."""

    folders: frozenset[str]
    files: dict[str, bytes] = field(repr=False)

    @property
    def key(self) -> int:
        """Tells two images apart, within this process."""
        # Python keeps the hash of a bytes object: what did not change costs nothing.
        return hash((self.folders, frozenset(self.files.items())))


class Mood(IntEnum):
    """How a state treats what is in flight: the extremes are where mistakes live."""

    NOTHING = 0
    EVERYTHING = 1
    ANY = 2
    ONE_MISSING = 3
    ONE_ARRIVED = 4
    NAMES_ONLY = 5
    DATA_ONLY = 6


def states(medium: Medium, rng: random.Random, count: int) -> Iterator[Image]:
    """Yield `count` states of this moment: the extremes first, then chosen by `rng`."""
    moods = (Mood.NOTHING, Mood.EVERYTHING, Mood.NAMES_ONLY, Mood.DATA_ONLY)
    for number in range(count):
        mood = moods[number] if number < len(moods) else Mood(rng.choice(tuple(Mood)))
        yield state(medium, rng, mood)


def state(medium: Medium, rng: random.Random, mood: Mood) -> Image:
    """Return one state that this moment may leave."""
    special = rng.randrange(max(medium.in_flight, 1))
    chooser = _Chooser(rng=rng, mood=mood, special=special)
    names = {number: chooser.names(folder) for number, folder in medium.folders.items()}
    contents = {
        number: chooser.content(file) if file.pending else file.durable
        for number, file in medium.files.items()
    }
    folders: set[str] = set()
    files: dict[str, bytes] = {}
    pending = [(ROOT, "")]
    while pending:
        number, prefix = pending.pop()
        for name, inode in names[number].items():
            path = f"{prefix}{name}"
            if inode in names:
                folders.add(path)
                pending.append((inode, f"{path}/"))
            else:
                files[path] = contents[inode]
    return Image(folders=frozenset(folders), files=files)


@dataclass(slots=True, kw_only=True)
class _Chooser:
    """Decides for each operation in flight whether it arrived."""

    rng: random.Random
    mood: Mood
    special: int
    seen: int = 0

    def names(self, folder: FolderState) -> dict[str, int]:
        entries = dict(folder.durable)
        for op in folder.pending:
            if self._arrived(is_name=True):
                applied(entries, op)
        return entries

    def content(self, file: FileState) -> bytes:
        arrived = [op for op in file.pending if self._arrived(is_name=False)]
        if len(arrived) == len(file.pending) and self.mood is not Mood.ANY:
            return _all(file.durable, arrived)
        if not arrived and self.mood is not Mood.ANY:
            return self._hollow(file)
        return self._torn(file)

    def _arrived(self, *, is_name: bool) -> bool:
        number, self.seen = self.seen, self.seen + 1
        answers = {
            Mood.NOTHING: False,
            Mood.EVERYTHING: True,
            Mood.ONE_MISSING: number != self.special,
            Mood.ONE_ARRIVED: number == self.special,
            Mood.NAMES_ONLY: is_name,
            Mood.DATA_ONLY: not is_name,
        }
        return answers[self.mood] if self.mood in answers else self.rng.random() < 0.5

    def _hollow(self, file: FileState) -> bytes:
        """No write arrived; the length may have."""
        longest = max(len(_all(file.durable, file.pending[:n])) for n in _upto(file.pending))
        if longest == len(file.durable) or self.rng.random() < 0.5:
            return file.durable
        return file.durable + self._filler(longest - len(file.durable))

    def _torn(self, file: FileState) -> bytes:
        versions = [_all(file.durable, file.pending[:n]) for n in (0, *_upto(file.pending))]
        low, high = min(map(len, versions)), max(map(len, versions))
        length = self._length(versions, low, high)
        sectors = [
            self._sector(versions, len(file.durable), start) for start in range(0, length, SECTOR)
        ]
        return b"".join(sectors)[:length]

    def _length(self, versions: list[bytes], low: int, high: int) -> int:
        choice = self.rng.random()
        if choice < 0.4:
            return len(self.rng.choice(versions))
        if choice < 0.6:
            return min(high, max(low, self.rng.randint(low, high) // SECTOR * SECTOR))
        return high if choice < 0.8 else self.rng.randint(low, high)

    def _sector(self, versions: list[bytes], durable: int, start: int) -> bytes:
        end = start + SECTOR
        candidates = {version[start:end].ljust(SECTOR, b"\0") for version in versions}
        if durable <= start:  # nothing here was ever synced: the block may never have been filled
            candidates |= {bytes(SECTOR), self._filler(SECTOR)}
        elif durable < end:  # a synced part, then a part of which only the length is known
            kept = versions[0][start:durable]
            candidates.add(kept + self._filler(end - durable))
        return self.rng.choice(sorted(candidates))

    def _filler(self, length: int) -> bytes:
        return bytes(length) if self.rng.random() < 0.5 else self.rng.randbytes(length)


def _upto(pending: list[DataOp]) -> range:
    return range(1, len(pending) + 1)


def _all(content: bytes, ops: list[DataOp]) -> bytes:
    for op in ops:
        content = written(content, op)
    return content
