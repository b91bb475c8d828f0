"""Reading a directory of test vectors: what its manifest lists, and nothing outside it."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from attestation.encoding.strict_json import JsonLimits, JsonValue, parse_json, type_name
from attestation.errors import MalformedError, UsageError

MAX_FILE_BYTES = 1 << 26
# Vectors hold numbers on purpose beyond what the product takes; they must still be readable.
_LIMITS = JsonLimits(
    max_bytes=MAX_FILE_BYTES,
    max_members=2_000_000,
    max_number_chars=1024,
    min_integer=-(1 << 1023),
    max_integer=1 << 1023,
)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One file that a sub-directory's manifest describes; `file` is relative to DIR."""

    file: str
    members: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryManifest:
    """A sub-directory of DIR and the entries of its `manifest.json`, in their order."""

    folder: str
    entries: tuple[Entry, ...]


class VectorDirectory:
    """A directory laid out as `manifest.json` with `files`, or as `*/manifest.json` with `entries`.

    Names are POSIX paths relative to the directory.  Every method raises `MalformedError` (code
    "manifest") if a name leaves the directory (through "..", an absolute path or a link), is no
    regular file, is larger than 64 MiB or has another SHA-256 than the manifest says.
    """

    def __init__(self, path: Path) -> None:
        if not os.path.isdir(path):  # noqa: PTH112 - raises for no name, be it too long
            raise UsageError(
                "there is no such directory of test vectors",
                code="directory",
                observed=str(path),
                hint="give the directory that holds manifest.json",
            )
        self._root = path.resolve()
        self._digests: dict[str, str] = {}

    def listed_files(self) -> tuple[str, ...]:
        """Return the names that `manifest.json` lists, every one present and of its SHA-256."""
        manifest = self._manifest("manifest.json")
        names = [self._register(item) for item in _objects(manifest, "files", "manifest.json")]
        for name in names:
            self.read(name)
        return tuple(names)

    def entry_manifests(self) -> tuple[EntryManifest, ...]:
        """Return the manifests of the sub-directories by name, their files checked.

        An entry's `file` is relative to its own directory or, failing that, to DIR.
        """
        folders = sorted(
            child.name for child in self._root.iterdir() if (child / "manifest.json").exists()
        )
        return tuple(self._entry_manifest(folder) for folder in folders)

    def beside(self, folder: str, name: str) -> str:
        """Return the name, relative to DIR, of a file that a manifest of `folder` speaks of."""
        local = f"{folder}/{name}"
        return local if self._exists(local) else name

    def read(self, name: str) -> bytes:
        """Return the bytes of a file; its SHA-256 is checked if a manifest gave one."""
        path = self._locate(name)
        if path.stat().st_size > MAX_FILE_BYTES:
            raise _bad(f"{name} is too large", f"at most {MAX_FILE_BYTES} bytes")
        try:
            data = path.read_bytes()
        except OSError as error:
            raise _bad(f"{name} cannot be read", "a readable file", str(error.strerror)) from None
        expected = self._digests.get(_normal(name))
        if expected is not None and hashlib.sha256(data).hexdigest() != expected:
            raise _bad(f"{name} is not the file its manifest describes", f"SHA-256 {expected}")
        return data

    def read_json(self, name: str) -> JsonValue:
        """Return the JSON value of a file."""
        return parse_json(self.read(name), _LIMITS)

    def read_json_lines(self, name: str) -> list[dict[str, Any]]:
        """Return the JSON objects of a file with one on every line; blank lines count not."""
        values = [
            parse_json(line, _LIMITS) for line in self.read(name).split(b"\n") if line.strip()
        ]
        return [require_object(value, name) for value in values]

    def _manifest(self, name: str) -> dict[str, Any]:
        return require_object(self.read_json(name), name)

    def _entry_manifest(self, folder: str) -> EntryManifest:
        name = f"{folder}/manifest.json"
        items = _objects(self._manifest(name), "entries", name)
        return EntryManifest(
            folder=folder,
            entries=tuple(Entry(file=self._entry_file(folder, i), members=i) for i in items),
        )

    def _entry_file(self, folder: str, item: dict[str, Any]) -> str:
        name = _file_name(item)
        found = self.beside(folder, name)
        if "sha256" in item:
            self._digests[_normal(found)] = _sha256(item, name)
        self.read(found)
        return found

    def _exists(self, name: str) -> bool:
        try:
            return self._inside(name).exists()
        except OSError:
            # A name that is too long for the file system names nothing.
            return False

    def _register(self, item: dict[str, Any]) -> str:
        name = _file_name(item)
        if _normal(name) in self._digests:
            raise _bad(f"the manifest lists {name} twice", "every file once")
        self._digests[_normal(name)] = _sha256(item, name)
        return name

    def _inside(self, name: str) -> Path:
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts or "\0" in name or not pure.parts:
            raise _bad(f"the name {name[:80]!a} leaves the directory", "a relative path inside it")
        return self._root / pure

    def _locate(self, name: str) -> Path:
        try:
            path = self._inside(name).resolve(strict=True)
            mode = path.stat().st_mode
        except (OSError, RuntimeError):
            # RuntimeError is how older Python versions report a loop of links.
            raise _bad(
                f"{name[:80]!a} cannot be read",
                "manifest.json, and every file that it lists, in the directory",
                "nothing of that name",
            ) from None
        if not path.is_relative_to(self._root):
            raise _bad(f"{name[:80]!a} leads out of the directory", "a file inside it")
        if not stat.S_ISREG(mode):
            raise _bad(f"{name[:80]!a} is not a regular file", "a regular file")
        return path


def require_object(value: JsonValue, what: str) -> dict[str, Any]:
    """Return `value` if it is an object; otherwise raise `MalformedError`."""
    if not isinstance(value, dict):
        raise _bad(f"{what} does not hold an object", "an object", type_name(value))
    return value


def require_list(value: JsonValue, what: str) -> list[dict[str, Any]]:
    """Return `value` if it is a list of objects; otherwise raise `MalformedError`."""
    if not isinstance(value, list):
        raise _bad(f"{what} does not hold an array", "an array", type_name(value))
    return [require_object(item, what) for item in value]


def require_text(members: dict[str, Any], name: str, what: str) -> str:
    """Return the string member `name`; otherwise raise `MalformedError`."""
    value = members.get(name)
    if not isinstance(value, str):
        raise _bad(f'{what} lacks "{name}"', "a string", type_name(value))
    return value


def require_flag(members: dict[str, Any], name: str, what: str) -> bool:
    """Return the boolean member `name`; otherwise raise `MalformedError`."""
    value = members.get(name)
    if not isinstance(value, bool):
        raise _bad(f'{what} lacks "{name}"', "a boolean", type_name(value))
    return value


def unknown_shape(name: str) -> MalformedError:
    """Return the refusal of a listed file that no parser of the topic takes."""
    return _bad(f"{name} is of no shape that this topic knows", "the layout the topic documents")


def _objects(manifest: dict[str, Any], member: str, what: str) -> list[dict[str, Any]]:
    return require_list(manifest.get(member), f'"{member}" of {what}')


def _file_name(item: dict[str, Any]) -> str:
    return require_text(item, "file", "an item of the manifest")


def _sha256(item: dict[str, Any], name: str) -> str:
    digest = require_text(item, "sha256", f"the manifest's item {name}")
    if not _SHA256.fullmatch(digest):
        raise _bad(f"the manifest's SHA-256 of {name} is none", "64 lower-case hex characters")
    return digest


def _normal(name: str) -> str:
    return str(PurePosixPath(name))


def _bad(message: str, expected: str, observed: str = "") -> MalformedError:
    return MalformedError(message, code="manifest", expected=expected, observed=observed)
