"""What a program asked of its disk, in order: the trace a power loss can cut anywhere.

Files and folders are known by number (an inode), names are entries of folders.  A trace is a
list of operations; `Note`s stand between them where the program promised something to the
outside, so that what must survive a cut is known for every cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

ROOT = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """`data` was written at `offset` of a file."""

    file: int
    offset: int
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resize:
    """A file was cut, or extended with zeroes, to `size`."""

    file: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncFile:
    """A file's bytes and its length are durable; its name may not be."""

    file: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A name appeared in a folder, for a new file or a new folder."""

    folder: int
    name: str
    inode: int
    is_folder: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Rename:
    """A file got another name in its folder, replacing what had it: all or nothing."""

    folder: int
    source: str
    target: str
    inode: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Unlink:
    """A name went away."""

    folder: int
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncFolder:
    """The names in a folder are durable; what they name may not be."""

    folder: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """The program promised `value` to the outside, after everything that stands before."""

    kind: str
    value: Any


NameOp = Link | Rename | Unlink
DataOp = Write | Resize
Op = DataOp | NameOp | SyncFile | SyncFolder | Note


def applied(entries: dict[str, int], op: NameOp) -> None:
    """Change the names of one folder as `op` did."""
    if isinstance(op, Link):
        entries[op.name] = op.inode
    elif isinstance(op, Rename):
        entries.pop(op.source, None)
        entries[op.target] = op.inode
    else:
        entries.pop(op.name, None)


def written(content: bytes, op: DataOp) -> bytes:
    """Return the bytes of a file after `op`; a gap reads as zeroes."""
    if isinstance(op, Resize):
        return content[: op.size].ljust(op.size, b"\0")
    return (
        content.ljust(op.offset, b"\0")[: op.offset] + op.data + content[op.offset + len(op.data) :]
    )


@dataclass(slots=True, kw_only=True)
class FileState:
    """One file: what is durable, and what was written since."""

    durable: bytes = b""
    pending: list[DataOp] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class FolderState:
    """One folder: which names are durable, and what happened to names since."""

    durable: dict[str, int] = field(default_factory=dict)
    pending: list[NameOp] = field(default_factory=list)


@dataclass(slots=True)
class Medium:
    """The disk after a prefix of a trace: what is certain, what is in flight, what was promised."""

    files: dict[int, FileState] = field(default_factory=dict)
    folders: dict[int, FolderState] = field(default_factory=lambda: {ROOT: FolderState()})
    notes: list[Note] = field(default_factory=list)

    def play(self, op: Op) -> None:
        """Move on by one operation."""
        match op:
            case Write() | Resize():
                self.files[op.file].pending.append(op)
            case SyncFile():
                self._settle_file(self.files[op.file])
            case SyncFolder():
                self._settle_folder(self.folders[op.folder])
            case Note():
                self.notes.append(op)
            case Link():
                self._born(op)
                self.folders[op.folder].pending.append(op)
            case Rename() | Unlink():
                self.folders[op.folder].pending.append(op)

    @property
    def in_flight(self) -> int:
        """How many operations a power loss could still undo."""
        data = sum(len(file.pending) for file in self.files.values())
        return data + sum(len(folder.pending) for folder in self.folders.values())

    def _born(self, op: Link) -> None:
        if op.is_folder:
            self.folders[op.inode] = FolderState()
        else:
            self.files[op.inode] = FileState()

    @staticmethod
    def _settle_file(state: FileState) -> None:
        for op in state.pending:
            state.durable = written(state.durable, op)
        state.pending.clear()

    @staticmethod
    def _settle_folder(state: FolderState) -> None:
        for op in state.pending:
            applied(state.durable, op)
        state.pending.clear()


def moments(trace: list[Op]) -> Iterator[Medium]:
    """Yield the medium after every prefix of the trace; it is one object that moves on."""
    medium = Medium()
    yield medium
    for op in trace:
        medium.play(op)
        yield medium
