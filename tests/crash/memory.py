"""A disk in memory behind the notary's file layer; it can write down what it was asked."""

from __future__ import annotations

import errno
import itertools
import os
import threading
import time
from pathlib import Path
from typing import Any

from gateway.notary.files import FileLayer, FileState
from tests.crash.states import Image
from tests.crash.trace import (
    ROOT,
    Link,
    Note,
    Op,
    Rename,
    SyncFile,
    SyncFolder,
    Unlink,
    Write,
    applied,
)

_FOLDER_MODE, _FILE_MODE = 0o700, 0o600


class MemoryLayer(FileLayer):
    """Every call on a disk of its own, whose root is `base`; real files are never touched.

    It may begin with an image, whose files were last changed at `changed` (unix s; default now).
    `trace` holds what happened so far; `promise` writes down what the program told the outside.
    """

    def __init__(
        self, base: Path, image: Image | None = None, *, changed: float | None = None
    ) -> None:
        self._base = base
        self._changed: dict[int, float] = {}
        self._lock = threading.RLock()
        self._numbers = itertools.count(ROOT + 1)
        self._descriptors = itertools.count(1000)
        self._folders: dict[int, dict[str, int]] = {ROOT: {}}
        self._files: dict[int, bytearray] = {}
        self._open: dict[int, int] = {}
        self._locked: dict[int, int] = {}
        self.trace: list[Op] = []
        if image is not None:
            self._fill(image)
            self._changed = {} if changed is None else dict.fromkeys(self._numbers_of(), changed)

    def promise(self, kind: str, value: Any) -> None:
        """Note that something was released, now."""
        with self._lock:
            self.trace.append(Note(kind=kind, value=value))

    def image(self) -> Image:
        """Return what the disk shows to a running program."""
        folders: set[str] = set()
        files: dict[str, bytes] = {}
        pending = [(ROOT, "")]
        with self._lock:
            while pending:
                number, prefix = pending.pop()
                for name, inode in self._folders[number].items():
                    if inode in self._folders:
                        folders.add(prefix + name)
                        pending.append((inode, f"{prefix}{name}/"))
                    else:
                        files[prefix + name] = bytes(self._files[inode])
        return Image(folders=frozenset(folders), files=files)

    # -- the calls --------------------------------------------------------------------------

    def make_folder(self, path: Path) -> None:
        with self._lock:
            self._link(path, is_folder=True)

    def create(self, path: Path) -> int:
        with self._lock:
            return self._descriptor(self._link(path, is_folder=False))

    def open(self, path: Path) -> int:
        with self._lock:
            return self._descriptor(self._file_at(path))

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        with self._lock:
            number = self._open[descriptor]
            content = self._files[number]
            self.trace.append(Write(file=number, offset=len(content), data=bytes(data)))
            content += data
            return len(data)

    def read_at(self, descriptor: int, length: int, offset: int) -> bytes:
        with self._lock:
            return bytes(self._files[self._open[descriptor]][offset : offset + length])

    def sync_data(self, descriptor: int) -> None:
        with self._lock:
            self.trace.append(SyncFile(file=self._open[descriptor]))

    def sync_folder(self, path: Path) -> None:
        with self._lock:
            self.trace.append(SyncFolder(folder=self._folder_at(path)))

    def close(self, descriptor: int) -> None:
        with self._lock:
            number = self._open.pop(descriptor)
            if self._locked.get(number) == descriptor:
                del self._locked[number]

    def rename(self, old: Path, new: Path) -> None:
        with self._lock:
            folder = self._folder_at(old.parent)
            if folder != self._folder_at(new.parent):
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
            inode = self._number(old)
            self._names(Rename(folder=folder, source=old.name, target=new.name, inode=inode))

    def remove(self, path: Path) -> None:
        with self._lock:
            self._file_at(path)
            self._names(Unlink(folder=self._folder_at(path.parent), name=path.name))

    def remove_folder(self, path: Path) -> None:
        with self._lock:
            if self._folders[self._folder_at(path)]:
                raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))
            self._names(Unlink(folder=self._folder_at(path.parent), name=path.name))

    def list_folder(self, path: Path) -> list[str]:
        with self._lock:
            return list(self._folders[self._folder_at(path)])

    def state(self, path: Path) -> FileState:
        with self._lock:
            number = self._number(path)
            folder = number in self._folders
            return FileState(
                is_folder=folder,
                is_file=not folder,
                mode=_FOLDER_MODE if folder else _FILE_MODE,
                size=0 if folder else len(self._files[number]),
                changed=self._changed.get(number, time.time()),
            )

    def lock_folder(self, path: Path) -> int:
        with self._lock:
            number = self._folder_at(path)
            if number in self._locked:
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            descriptor = self._locked[number] = self._descriptor(number)
            return descriptor

    # -- names ------------------------------------------------------------------------------

    def _fill(self, image: Image) -> None:
        """Begin with what is in an image, on the medium for long."""
        numbers = {"": ROOT}
        for name in sorted([*image.folders, *image.files]):
            parent, _, own = name.rpartition("/")
            is_folder = name in image.folders
            numbers[name] = self._new(numbers[parent], own, is_folder=is_folder)
            if not is_folder:
                number, data = numbers[name], image.files[name]
                self._files[number] = bytearray(data)
                self.trace += [Write(file=number, offset=0, data=data), SyncFile(file=number)]
        self.trace += [SyncFolder(folder=number) for number in self._folders]

    def _numbers_of(self) -> list[int]:
        return [*self._folders, *self._files]

    def _descriptor(self, number: int) -> int:
        descriptor = next(self._descriptors)
        self._open[descriptor] = number
        return descriptor

    def _link(self, path: Path, *, is_folder: bool) -> int:
        folder = self._folder_at(path.parent)
        if path.name in self._folders[folder]:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        return self._new(folder, path.name, is_folder=is_folder)

    def _new(self, folder: int, name: str, *, is_folder: bool) -> int:
        number = next(self._numbers)
        if is_folder:
            self._folders[number] = {}
        else:
            self._files[number] = bytearray()
        self._names(Link(folder=folder, name=name, inode=number, is_folder=is_folder))
        return number

    def _names(self, op: Link | Rename | Unlink) -> None:
        applied(self._folders[op.folder], op)
        self.trace.append(op)

    def _number(self, path: Path) -> int:
        number = ROOT
        for part in self._parts(path):
            entries = self._folders.get(number)
            if entries is None:
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
            if part not in entries:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
            number = entries[part]
        return number

    def _parts(self, path: Path) -> list[str]:
        name = str(path)
        if name == str(self._base):
            return []
        if not name.startswith(f"{self._base}/"):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        return name[len(str(self._base)) + 1 :].split("/")

    def _folder_at(self, path: Path) -> int:
        number = self._number(path)
        if number not in self._folders:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
        return number

    def _file_at(self, path: Path) -> int:
        number = self._number(path)
        if number in self._folders:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        return number
