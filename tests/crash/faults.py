"""Every call of the file layer, counted; one of them fails, and the laws of failing are watched."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from gateway.notary.files import FileLayer, FileState
from tests.crash.outside import Violation

T = TypeVar("T")


class Fault(StrEnum):
    """What the one call does instead of its work; SHORT lets a write take a part of the bytes."""

    EIO = "EIO"
    ENOSPC = "ENOSPC"
    EINTR = "EINTR"
    SHORT = "SHORT"

    @property
    def error(self) -> OSError:
        number = getattr(errno, self.value)
        return OSError(number, os.strerror(number))


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call that was made: its name and the file or folder it was about."""

    name: str
    about: str


class FaultyLayer(FileLayer):
    """Passes calls on to `inner`; call number `at` (from 0, of those that can suffer `fault`:
    only reads and writes can be short) suffers it.

    After a failed sync nothing may be written to that file, nor the sync be tried again: the
    layer notes it as a violation, because the program may swallow what is raised here.
    """

    def __init__(self, inner: FileLayer, *, at: int = -1, fault: Fault = Fault.EIO) -> None:
        self._inner = inner
        self._at = at
        self._fault = fault
        self._lock = threading.RLock()
        self._names: dict[int, str] = {}
        self._lost: set[str] = set()
        self.calls: list[Call] = []
        self.candidates = 0
        self.violations: list[Violation] = []
        self.hit: Call | None = None
        self._wanted: tuple[str, Callable[[str], bool]] | None = None

    def fail_first(self, name: str, about: Callable[[str], bool]) -> None:
        """Let the first call of that name about such a file fail, instead of one by number."""
        self._wanted = (name, about)

    def make_folder(self, path: Path) -> None:
        self._pass("make_folder", str(path), lambda: self._inner.make_folder(path))

    def create(self, path: Path) -> int:
        return self._opened(path, self._pass("create", str(path), lambda: self._inner.create(path)))

    def open(self, path: Path) -> int:
        return self._opened(path, self._pass("open", str(path), lambda: self._inner.open(path)))

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        def short() -> int:
            return self._inner.write(descriptor, data[: max(1, len(data) // 2)])

        name = self._names[descriptor]
        self._forbid("write", name)
        return self._pass("write", name, lambda: self._inner.write(descriptor, data), short)

    def read_at(self, descriptor: int, length: int, offset: int) -> bytes:
        def short() -> bytes:
            return self._inner.read_at(descriptor, max(1, length // 2), offset)

        name = self._names[descriptor]
        read = self._inner.read_at
        return self._pass("read_at", name, lambda: read(descriptor, length, offset), short)

    def sync_data(self, descriptor: int) -> None:
        self._sync("sync_data", self._names[descriptor], lambda: self._inner.sync_data(descriptor))

    def sync_folder(self, path: Path) -> None:
        self._sync("sync_folder", str(path), lambda: self._inner.sync_folder(path))

    def close(self, descriptor: int) -> None:
        # A close that fails has closed: Linux gives the descriptor up first.
        name = self._names[descriptor]
        try:
            self._pass("close", name, lambda: None)
        finally:
            self._inner.close(descriptor)

    def rename(self, old: Path, new: Path) -> None:
        self._forbid("rename", str(old))
        self._pass("rename", str(new), lambda: self._inner.rename(old, new))

    def remove(self, path: Path) -> None:
        self._pass("remove", str(path), lambda: self._inner.remove(path))

    def remove_folder(self, path: Path) -> None:
        self._pass("remove_folder", str(path), lambda: self._inner.remove_folder(path))

    def list_folder(self, path: Path) -> list[str]:
        return self._pass("list_folder", str(path), lambda: self._inner.list_folder(path))

    def state(self, path: Path) -> FileState:
        return self._pass("state", str(path), lambda: self._inner.state(path))

    def lock_folder(self, path: Path) -> int:
        lock = self._inner.lock_folder
        return self._opened(path, self._pass("lock_folder", str(path), lambda: lock(path)))

    def _opened(self, path: Path, descriptor: int) -> int:
        self._names[descriptor] = str(path)
        return descriptor

    def _pass(
        self, name: str, about: str, call: Callable[[], T], short: Callable[[], T] | None = None
    ) -> T:
        with self._lock:
            self.calls.append(Call(name=name, about=about))
            if self._fault is Fault.SHORT and short is None:
                return call()
            number = self.candidates
            self.candidates += 1
            if number != self._at and not self._is_wanted(self.calls[-1]):
                return call()
            self.hit = self.calls[-1]
            if self._fault is Fault.SHORT and short is not None:
                return short()
            raise self._fault.error

    def _is_wanted(self, call: Call) -> bool:
        if self.hit is not None or self._wanted is None:
            return False
        name, about = self._wanted
        return call.name == name and about(call.about)

    def _sync(self, name: str, about: str, call: Callable[[], None]) -> None:
        self._forbid(name, about)
        try:
            self._pass(name, about, call)
        except OSError:
            self._lost.add(about)
            raise

    def _forbid(self, name: str, about: str) -> None:
        if about in self._lost:
            self.violations.append(Violation("a failed sync is final", f"{name} of {about}"))
