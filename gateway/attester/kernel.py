"""The few calls into the guest's kernel that quotes and registers take, each behind one seam."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from attestation.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_CHUNK = 64 * 1024
_INTERRUPTIONS = 100

T = TypeVar("T")


class Kernel:
    """The calls themselves.  Every method raises OSError as the system call does.

    A descriptor is an integer that `open` gave out; tests put a model of the kernel in its place.
    """

    def make_folder(self, path: Path) -> None:
        """Make a folder (in configfs: a new item, with its attributes)."""
        os.mkdir(path, 0o700)  # noqa: PTH102 - the system call, for the same errors as the rest

    def remove_folder(self, path: Path) -> None:
        """Remove a folder (in configfs: an item, attributes and all)."""
        os.rmdir(path)  # noqa: PTH106 - the system call

    def list_folder(self, path: Path) -> list[str]:
        """Return the names in a folder, in no order."""
        return os.listdir(path)  # noqa: PTH208 - names, not paths

    def exists(self, path: Path) -> bool:
        """Whether something has this name."""
        return path.exists()

    def is_mount(self, path: Path) -> bool:
        """Whether a file system is mounted at this folder."""
        return path.is_mount()

    def may_write(self, path: Path) -> bool:
        """Whether this process may open the file for writing.

        Opened and closed, which changes nothing: access(2) asks for the wrong user and forgets
        capabilities.
        """
        try:
            self.close(self.open(path, os.O_WRONLY))
        except OSError:
            return False
        return True

    def open(self, path: Path, flags: int) -> int:
        """Open an existing file; `flags` is O_RDONLY, O_WRONLY or O_RDWR."""
        return os.open(path, flags | os.O_CLOEXEC)

    def read(self, descriptor: int, length: int) -> bytes:
        """Read at most `length` bytes; none at the end."""
        return os.read(descriptor, length)

    def write(self, descriptor: int, data: bytes) -> int:
        """Write some of `data` and return how many bytes were taken."""
        return os.write(descriptor, data)

    def close(self, descriptor: int) -> None:
        """Close a file."""
        os.close(descriptor)

    def ioctl(self, descriptor: int, request: int, argument: bytearray) -> None:
        """Make a device request that reads and overwrites `argument`."""
        fcntl.ioctl(descriptor, request, argument, True)  # noqa: FBT003 - its own name is mutate_flag

    def is_process(self, pid: int) -> bool:
        """Whether a process of this number runs (here and now, as far as this one can see)."""
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True

    def release(self) -> str:
        """Return the kernel's version, as `uname -r` prints it."""
        return os.uname().release

    def monotonic(self) -> float:
        """Return seconds on a clock that never goes back."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Return after so many seconds."""
        time.sleep(seconds)


@contextmanager
def opened(kernel: Kernel, path: Path, flags: int) -> Iterator[int]:
    """Open a file for as long as the context lasts."""
    descriptor = kernel.open(path, flags)
    try:
        yield descriptor
    finally:
        kernel.close(descriptor)


def uninterrupted(call: Callable[[], T]) -> T:
    """Make a call again while signals interrupt it; a hundred times in a row is an error.

    Python does so inside most calls (PEP 475), but not inside ioctl(2).
    """
    for _ in range(_INTERRUPTIONS - 1):
        with suppress(InterruptedError):
            return call()
    return call()


def read_all(kernel: Kernel, path: Path, limit: int) -> bytes:
    """Read a file to its end; the size that the file system states is not believed.

    An interrupted call is made again, a short read is continued.  Raises OSError, and
    `UnavailableError` (code "overlong") for a file of more than `limit` bytes.
    """
    data = bytearray()
    with opened(kernel, path, os.O_RDONLY) as descriptor:
        while len(data) <= limit:
            room = min(_CHUNK, limit + 1 - len(data))
            part = uninterrupted(partial(kernel.read, descriptor, room))
            if not part:
                return bytes(data)
            data += part
    raise UnavailableError(
        f"{path.name} gives more than it may",
        code="overlong",
        expected=f"at most {limit} bytes",
        observed=f"more than {limit} bytes",
        hint="what this kernel or platform hands out is no quote or register this version takes",
    )


def write_all(kernel: Kernel, path: Path, data: bytes) -> None:
    """Write all of `data`; an interrupted or short write is continued.  Raises OSError."""
    with opened(kernel, path, os.O_WRONLY) as descriptor:
        rest = data
        while rest:
            rest = rest[uninterrupted(partial(kernel.write, descriptor, rest)) :]


def named(error: OSError) -> str:
    """Return an error as people look it up: EACCES (Permission denied)."""
    name = errno.errorcode.get(error.errno or 0, "an I/O error")
    return f"{name} ({error.strerror})" if error.strerror else name
