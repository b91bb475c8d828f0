"""A model's folder: which files count, and their digests, however large they are.

    survey ─► entries (what is a model file)  ─► hash_files ─► digests, or why there are none

Nothing outside the folder is read, but for links into a folder that is named with it.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from attestation.encoding.counts import counted
from attestation.encoding.digest import Digest
from attestation.encoding.printable import printable
from attestation.errors import AttestationError, UnavailableError, UsageError
from attestation.statement.model_lock import MAX_PATH_CHARS, ModelSource, Role, require_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

BLOCK_BYTES = 4 << 20
_THREADS = 8
_HIDDEN = "."
_NAMED = 5

_ROLES = (
    (Role.CHAT_TEMPLATE, re.compile(r"chat_template\.(jinja|json)|.*\.jinja")),
    (Role.GENERATION_CONFIG, re.compile(r"generation_config\.json")),
    (
        Role.TOKENIZER,
        re.compile(
            r"tokenizer.*|.*\.tiktoken|tekken\.json|vocab\..*|merges\.txt|"
            r"special_tokens_map\.json|added_tokens\.json|spiece\.model|sentencepiece.*\.model"
        ),
    ),
    (Role.WEIGHTS, re.compile(r".*\.(safetensors|bin|gguf|pt|pth|ckpt|h5|msgpack|npz)")),
    (Role.CONFIG, re.compile(r".*\.(json|ya?ml|toml)")),
)
_CACHE_FOLDER = re.compile(r"models--(.+)")
_REVISION = re.compile(r"[0-9a-f]{40}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFolder:
    """Where a model lies: its files are below `path`, links may lead to files below `within`."""

    path: Path
    within: Path

    @property
    def source(self) -> ModelSource | None:
        """Repository and revision, if this is a snapshot in a Hugging Face cache."""
        cache = _CACHE_FOLDER.fullmatch(self.path.parent.parent.name)
        if cache is None or self.path.parent.name != "snapshots":
            return None
        if not _REVISION.fullmatch(self.path.name):
            return None
        return ModelSource(repository=cache[1].replace("--", "/"), revision=self.path.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A file of the folder: its path in a lock, where its bytes are, and its size."""

    path: str
    place: Path
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What is in a folder: model files, and by path why something in it cannot be one.

    `passed_over` are the paths of the files and folders whose names start with a dot, in order;
    what is in such a folder is not looked at.
    """

    entries: tuple[Entry, ...]
    refused: dict[str, AttestationError]
    passed_over: tuple[str, ...]

    @property
    def hidden(self) -> str:
        """What was passed over, in words: how many, and the first of their names."""
        named = ", ".join(printable(path) for path in self.passed_over[:_NAMED])
        more = ", …" if len(self.passed_over) > _NAMED else ""
        return f"passed over {counted(len(self.passed_over), 'hidden name')}: {named}{more}"

    def to_json(self) -> dict[str, object]:
        """Return what was passed over in JSON form: how many, and the first of their names."""
        return {
            "count": len(self.passed_over),
            "names": [writable(path) for path in self.passed_over[:_NAMED]],
        }


def open_folder(name: str, within: str | None) -> ModelFolder:
    """Return the folder that a command names; raises `UsageError` if there is none.

    Links may lead into `within`: by default the folder itself, or, where it is a snapshot of a
    Hugging Face cache (models--ORG--NAME/snapshots/REVISION), the cache folder of that model.
    """
    path = _resolved(name)
    folder = ModelFolder(path=path, within=path)
    if within is not None:
        return ModelFolder(path=path, within=_resolved(within))
    if folder.source is not None:
        return ModelFolder(path=path, within=path.parent.parent)
    return folder


def survey(folder: ModelFolder) -> Survey:
    """Return every file below the folder, in ascending order of the paths.

    Names that start with a dot are passed over and listed, files and folders: `.git`, `.cache`,
    `.gitattributes`.  Links to files are followed inside `within`; links to folders, links that
    lead elsewhere or nowhere, and what is neither file nor folder are refused, each by name.
    Raises `UnavailableError` if a folder cannot be listed.
    """
    found: dict[str, Entry] = {}
    refused: dict[str, AttestationError] = {}
    hidden: list[str] = []
    for path, item in _walk(folder.path, ""):
        if item.name.startswith(_HIDDEN):
            hidden.append(path)
            continue
        try:
            found[path] = _entry(require_path(path), item, folder.within)
        except AttestationError as error:
            refused[path] = error
    return Survey(
        entries=tuple(found[path] for path in sorted(found)),
        refused=refused,
        passed_over=tuple(sorted(hidden)),
    )


def writable(path: str) -> str:
    """Return a name out of a folder, which is anybody's choice, so that JSON can carry it."""
    return path.encode("utf-8", "backslashreplace").decode()


def role_of(path: str) -> Role:
    """Return the role that a file's name gives it (docs/spec/model.md)."""
    name = path.rpartition("/")[2].lower()
    return next((role for role, pattern in _ROLES if pattern.fullmatch(name)), Role.OTHER)


def hash_files(
    entries: Iterable[Entry], progress: Callable[[int], None]
) -> Iterator[tuple[Entry, Digest | UnavailableError]]:
    """Yield each file with its SHA-256, or with why there is none, in the order given.

    Several files are read at once, each in blocks of 4 MiB.  A file whose size or time
    changed while it was read has no digest.  `progress` is told how many bytes were
    read, from any thread.
    """
    threads = min(_THREADS, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(lambda entry: (entry, _hashed(entry, progress)), entries)


def _walk(folder: Path, prefix: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    if len(prefix) > MAX_PATH_CHARS:
        # Nothing below it can stand in a lock, and each level is a call inside a call.
        raise UnavailableError(
            "the model's folder is nested too deeply",
            code="model_path",
            expected=f"paths of at most {MAX_PATH_CHARS} characters",
            observed=f"{prefix[:40]!a}… goes on beyond them",
            hint="take what lies so deep out of the folder",
        )
    try:
        with os.scandir(folder) as listing:
            items = sorted(listing, key=lambda item: item.name)
    except OSError as error:
        raise _unreadable(str(folder), error) from error
    for item in items:
        if item.is_dir(follow_symlinks=False) and not item.name.startswith(_HIDDEN):
            yield from _walk(folder / item.name, f"{prefix}{item.name}/")
        else:
            yield prefix + item.name, item


def _entry(path: str, item: os.DirEntry[str], within: Path) -> Entry:
    try:
        place = Path(item.path).resolve(strict=True)
        seen = place.stat()
    except (OSError, RuntimeError) as error:
        nowhere = item.is_symlink() and isinstance(error, FileNotFoundError)
        raise (_leads_nowhere(path) if nowhere else _unreadable(path, error)) from error
    if item.is_symlink() and not place.is_relative_to(within):
        raise UnavailableError(
            f"{path!a} is a link that leaves the model's folder",
            code="model_link",
            expected=f"a place below {within}",
            hint="name the folder that it may lead into with --links-within",
        )
    if not stat.S_ISREG(seen.st_mode):
        what = "a link to a folder" if stat.S_ISDIR(seen.st_mode) else "neither a file nor a folder"
        raise UnavailableError(
            f"{path!a} is {what}",
            code="model_special",
            expected="regular files, and links to regular files",
            hint="take it out of the folder",
        )
    return Entry(path=path, place=place, size=seen.st_size)


def _hashed(entry: Entry, progress: Callable[[int], None]) -> Digest | UnavailableError:
    hasher = hashlib.sha256()
    block = bytearray(BLOCK_BYTES)
    view = memoryview(block)
    read = 0
    try:
        # The link was followed already: what stands there now must be that very file.
        descriptor = os.open(entry.place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            before = os.fstat(descriptor)
            while count := file.readinto(block):
                hasher.update(view[:count])
                read += count
                progress(count)
            after = os.fstat(descriptor)
    except OSError as error:
        return _unreadable(entry.path, error)
    if not _same(before, after) or read != entry.size:
        return UnavailableError(
            f"{entry.path!a} changed while it was read",
            code="model_changed",
            expected=f"{entry.size} bytes that stay as they are",
            observed=f"{read} bytes",
            hint="wait until whatever writes to the folder is done, then run it again",
        )
    return Digest(hasher.digest())


def _same(before: os.stat_result, after: os.stat_result) -> bool:
    return (before.st_size, before.st_mtime_ns, before.st_ctime_ns) == (
        after.st_size,
        after.st_mtime_ns,
        after.st_ctime_ns,
    )


def _resolved(name: str) -> Path:
    try:
        path = Path(name).resolve(strict=True)
        observed = "" if path.is_dir() else "something else"
    except (OSError, RuntimeError, ValueError) as error:
        path, observed = Path(), _why(error)
    if observed:
        # As with every input that is named and not there.
        raise UsageError(
            f"{name!a} is not a folder that can be read",
            code="model_folder",
            expected="the model's folder",
            observed=observed,
        )
    return path


def _leads_nowhere(path: str) -> UnavailableError:
    return UnavailableError(
        f"{path!a} is a link that leads nowhere",
        code="model_link",
        expected="regular files, and links to regular files",
        hint="fetch what it names, or take it out of the folder",
    )


def _unreadable(name: str, error: Exception) -> UnavailableError:
    return UnavailableError(f"{name!a} cannot be read", code="model_file", observed=_why(error))


def _why(error: Exception) -> str:
    reason = error.strerror if isinstance(error, OSError) else None
    return reason or type(error).__name__
