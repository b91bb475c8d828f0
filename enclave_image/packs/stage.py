"""Copy what goes into a pack to a folder in which nothing is left to chance.

Files get mode 0444 or 0555, folders 0555, everything the same time; what is copied is hashed on
the way, so that the pack holds the very bytes that were compared with the lock.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from attestation.encoding.digest import Digest
from attestation.errors import EvidenceError, UnavailableError, UsageError
from attestation.release.packs import LOCK_FOLDER, EngineEntry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from attestation.statement.model_lock import ModelLock

_COPY_BYTES = 4 << 20


def stage_model(source: Path, lock: ModelLock, target: Path) -> None:
    """Copy the files of a lock from `source` to the empty folder `target`, and the lock itself.

    Links to files are followed: the lock says which bytes they lead to.  Raises `EvidenceError`
    (code "model_file") for a file of another size or digest, `UnavailableError` for a missing one,
    for what is no file, and for a name that the pack needs itself.
    """
    for file in lock.files:
        _require_name(file.path)
        digest, size = _copied(source / file.path, target / file.path, mode=0o444)
        if (digest, size) != (file.sha256, file.size):
            raise EvidenceError(
                f"{file.path!a} is not the file of the lock",
                code="model_file",
                expected=f"{file.size} bytes, {file.sha256.hex}",
                observed=f"{size} bytes, {digest.hex}",
                hint="`attested model verify` names every file that differs",
            )


def stage_engine(source: Path, target: Path) -> list[EngineEntry]:
    """Copy a folder to the empty folder `target` and return the listing of what was copied.

    Executable files stay so, links stay links; empty folders, owners, times, extended attributes
    and the other bits of modes are dropped.  Raises `UnavailableError` for anything else than
    files, folders and links, and for a folder that holds a name that the pack needs itself;
    `UsageError` for a folder without files.
    """
    entries: list[EngineEntry] = []
    for path in _walked(source):
        name = path.relative_to(source).as_posix()
        _require_name(name)
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            # As it is written: a path would lose what it holds redundant.
            where = os.readlink(path)  # noqa: PTH115
            _made_folder(target / name)
            (target / name).symlink_to(where)
            entries.append(EngineEntry(path=name, content=where))
            continue
        if not stat.S_ISREG(mode):
            raise _refused(f"{name!a} is neither a file nor a folder nor a link")
        executable = bool(mode & stat.S_IXUSR)
        digest, _size = _copied(path, target / name, mode=0o555 if executable else 0o444)
        entries.append(EngineEntry(path=name, content=digest, executable=executable))
    if not entries:
        raise UsageError(
            f"{str(source)!a} holds no file: there is no engine in it",
            code="file",
            expected="the folder that an engine is installed in, such as a venv",
            observed="no files and no links",
        )
    return entries


def place_lock(target: Path, path: str, content: bytes) -> None:
    """Write the lock to its place in the staged folder."""
    place = target / path
    _made_folder(place)
    with place.open("xb") as file:
        file.write(content)
    place.chmod(0o444)


def settle(target: Path, *, time: int) -> None:
    """Give every folder mode 0555, and everything `time` (Unix seconds): the last step."""
    for folder, folders, files in os.walk(target, topdown=False):
        # Links to folders are among the folders, and are not walked into.
        for name in (*folders, *files):
            os.utime(Path(folder) / name, (time, time), follow_symlinks=False)
        Path(folder).chmod(0o555)
        os.utime(folder, (time, time))


def unsettle(target: Path) -> None:
    """Make a settled folder one that its owner can delete."""
    for folder, _folders, _files in os.walk(target):
        Path(folder).chmod(0o755)


def _walked(folder: Path) -> Iterator[Path]:
    for item in sorted(folder.iterdir(), key=lambda one: one.name):
        if item.is_dir() and not item.is_symlink():
            yield from _walked(item)
        else:
            yield item


def _copied(source: Path, target: Path, *, mode: int) -> tuple[Digest, int]:
    if source.exists() and not source.is_file():
        raise _refused(f"{str(source)!a} is no file, nor does it lead to one")
    _made_folder(target)
    hasher = hashlib.sha256()
    size = 0
    try:
        with source.open("rb") as read, target.open("xb") as write:
            while block := read.read(_COPY_BYTES):
                hasher.update(block)
                size += len(block)
                write.write(block)
    except OSError as error:
        raise UnavailableError(
            f"{str(source)!a} cannot be copied", code="pack_file", observed=error.strerror or ""
        ) from error
    target.chmod(mode)
    return Digest(hasher.digest()), size


def _made_folder(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)


def _require_name(name: str) -> None:
    if name.split("/", maxsplit=1)[0] == LOCK_FOLDER:
        raise _refused(f"{name!a} lies where the pack's own lock goes")
    if not name.isprintable():
        raise _refused(f"{name!a} is no name that can be printed")


def _refused(message: str) -> UnavailableError:
    return UnavailableError(
        message,
        code="pack_file",
        expected="files, and in an engine folders and links too, with printable names",
        hint="take it out of the folder, and of the lock",
    )
