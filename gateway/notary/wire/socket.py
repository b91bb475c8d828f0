"""The notary's Unix socket: where it may lie, how it is bound, and who is on its other end."""

from __future__ import annotations

import os
import socket
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from attestation.errors import UsageError

MAX_PATH_BYTES: Final = 107
"""What the kernel takes for the address of a Unix socket (sun_path, unix(7)), less its NUL."""
_FOLDER_MODE: Final = 0o700
_SOCKET_MODE: Final = 0o600
_SHARED_MODE: Final = 0o660
NOT_SHARED: Final = 0o027
"""What a folder may not have whose group is let in: writing by the group, anything by others."""
_BACKLOG: Final = 128
_UNREAD_BYTES: Final = 1 << 20
"""Read at most from a connection that is lost; a socket of the kernel's usual size holds less."""
_PIECE: Final = 1 << 16
_CREDENTIALS: Final = struct.Struct("iII")


def fits_address(path: Path) -> bool:
    """Whether the kernel takes this path as the address of a Unix socket."""
    return len(os.fsencode(path)) <= MAX_PATH_BYTES


def bind_notary_socket(path: Path) -> socket.socket:
    """Return a socket that listens at `path`, in a folder that only this user may enter.

    The folder is made if there is none; a socket that no process serves any more is replaced.
    Raises `UsageError`.
    """

    def prepare() -> None:
        path.parent.mkdir(mode=_FOLDER_MODE, exist_ok=True)
        _require_private(path.parent)

    return _bind(path, prepare, lambda: path.chmod(_SOCKET_MODE))


def bind_shared_socket(path: Path) -> socket.socket:
    """Return a socket that listens at `path` for this user and the group of its folder.

    The folder must be there, this user's own, and closed to all but its group, which may enter
    and not write.  A socket that no process serves any more is replaced.  Raises `UsageError`.
    """

    def share() -> None:
        group = path.parent.stat().st_gid
        if path.stat().st_gid != group:
            os.chown(path, -1, group)
        path.chmod(_SHARED_MODE)

    return _bind(path, lambda: _require_shared(path), share)


def _bind(path: Path, prepare: Callable[[], None], give_mode: Callable[[], None]) -> socket.socket:
    if not fits_address(path):
        raise _unusable(path, f"a path of at most {MAX_PATH_BYTES} bytes", "a longer one")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        prepare()
        _remove_stale(path)
        sock.bind(os.fspath(path))
        give_mode()
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise _unusable(path, "a place for a socket", error.strerror or "an I/O error") from None
    except UsageError:
        sock.close()
        raise
    return sock


@contextmanager
def listening(bind: Callable[[Path], socket.socket], path: Path) -> Iterator[socket.socket]:
    """Bind as one of the functions above does; at the end the socket is closed and taken away.

    Its own only: whoever came after it closed may have put another one there.
    """
    sock = bind(path)
    made = _identity(path)
    try:
        yield sock
    finally:
        if made is not None and _identity(path) == made:
            path.unlink(missing_ok=True)
        sock.close()


def peer_uid(sock: socket.socket) -> int:
    """Return the user id of the process that connected, as the kernel noted it (SO_PEERCRED)."""
    return peer_process(sock)[1]


def peer_process(sock: socket.socket) -> tuple[int, int]:
    """Return process id and user id of who connected, or of who listens where we connected."""
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(raw)
    return int(pid), int(uid)


def read_unread(descriptor: int) -> bytes:
    """Return what the kernel holds for a connection that is given up; its peer's sending ends.

    Nothing can arrive after what is returned.  The descriptor stays open.
    """
    data = bytearray()
    try:
        with socket.fromfd(descriptor, socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.shutdown(socket.SHUT_RD)  # what had arrived can still be read
            while len(data) < _UNREAD_BYTES and (piece := sock.recv(_PIECE)):
                data += piece
    except OSError:
        pass  # there is no more, or the kernel has dropped it
    return bytes(data)


def _require_private(folder: Path) -> None:
    state = folder.stat()
    if not stat.S_ISDIR(state.st_mode) or state.st_uid != os.geteuid():
        raise _unusable(folder, "a folder of the gateway's own user", "another owner")
    if stat.S_IMODE(state.st_mode) & 0o077:
        raise _unusable(folder, "a folder with mode 0700", f"{stat.S_IMODE(state.st_mode):04o}")


def _require_shared(path: Path) -> None:
    try:
        state = path.parent.stat()
    except FileNotFoundError:
        raise _not_shared(path, "no such folder") from None
    if not stat.S_ISDIR(state.st_mode):
        raise _not_shared(path, "no folder")
    if state.st_uid != os.geteuid():
        raise _not_shared(path, f"one of user {state.st_uid}")
    mode = stat.S_IMODE(state.st_mode)
    if mode & NOT_SHARED:
        raise _not_shared(path, f"mode {mode:04o}")


def _not_shared(path: Path, observed: str) -> UsageError:
    return UsageError(
        f"the notary's socket cannot be made at {path}",
        code="notary_socket",
        expected=(
            f"the folder {path.parent}, of the notary's own user, mode 0750, "
            "its group one that the gateway's user is in"
        ),
        observed=observed,
        hint=f"install -d -m 0750 -o {os.geteuid()} -g GROUP_OF_THE_GATEWAY {path.parent}",
    )


def _remove_stale(path: Path) -> None:
    if not path.exists() or not stat.S_ISSOCK(path.stat().st_mode):
        return  # bind itself refuses what else stands there
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        # A socket whose queue is full is served by somebody: that is not waited for.
        probe.setblocking(False)  # noqa: FBT003 - the standard library knows no other way
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink()
        except BlockingIOError:
            return


def _identity(path: Path) -> tuple[int, int, int] | None:
    # An inode's number may be given to the next file at once; its time tells them apart.
    try:
        state = path.stat(follow_symlinks=False)
    except OSError:
        return None
    return state.st_dev, state.st_ino, state.st_ctime_ns


def _unusable(path: Path, expected: str, observed: str) -> UsageError:
    return UsageError(
        f"the notary's socket cannot be made at {path}",
        code="notary_socket",
        expected=expected,
        observed=observed,
        hint="set notary.socket to a path in such a folder; see docs/operating.md, Processes",
    )
