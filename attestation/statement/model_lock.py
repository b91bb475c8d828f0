"""The model lock: which files a model consists of, and which engine serves it how.

Its SHA-256 is the model digest that boot statements, measured events and receipts name
(docs/spec/model.md).
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from attestation.encoding import jcs
from attestation.encoding.digest import Digest
from attestation.encoding.members import Members
from attestation.encoding.strict_json import JsonLimits
from attestation.errors import MalformedError
from attestation.statement.common import Canonical

if TYPE_CHECKING:
    from collections.abc import Sequence

SCHEMA: Final = "attested-gateway/model-lock/v1"
MODEL_LOCK_EVENT: Final = "model.lock"
ENGINE_ARGS_EVENT: Final = "engine.args"
MAX_LOCK_BYTES: Final = 8 << 20
MAX_FILES: Final = 4096
MAX_ARGUMENTS: Final = 1024
MAX_PATH_CHARS: Final = 512
MAX_ARGUMENT_CHARS: Final = 4096

NAME: Final = re.compile(r"[A-Za-z0-9._:/@+-]{1,128}", re.ASCII)
REPOSITORY: Final = re.compile(r"[A-Za-z0-9._-]+(?:/[A-Za-z0-9._-]+){0,3}", re.ASCII)
REVISION: Final = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
# Together with the "/" between them at most 40 characters: what a receipt calls an engine.
ENGINE_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,15}", re.ASCII)
ENGINE_VERSION: Final = re.compile(r"[A-Za-z0-9._+-]{1,24}", re.ASCII)

_MAX_COMPONENT_CHARS: Final = 255
_LIMITS: Final = JsonLimits(max_bytes=MAX_LOCK_BYTES, max_depth=4, max_members=8 * MAX_FILES)


class Role(StrEnum):
    """What a file is to the engine."""

    WEIGHTS = "weights"
    TOKENIZER = "tokenizer"
    CHAT_TEMPLATE = "chat_template"
    GENERATION_CONFIG = "generation_config"
    CONFIG = "config"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedFile:
    """One file: its path below the model's folder, its role, its SHA-256 and size in bytes."""

    path: str
    role: Role
    sha256: Digest
    size: int

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "path": self.path,
            "role": str(self.role),
            "sha256": self.sha256.hex,
            "size": self.size,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSource:
    """Where the files were published: a repository and a revision of it."""

    repository: str
    revision: str

    def to_json(self) -> dict[str, str]:
        """Return the JSON form."""
        return {"repo": self.repository, "revision": self.revision}

    def __str__(self) -> str:
        return f"{self.repository}@{self.revision}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedEngine:
    """The engine that serves the model, and every argument that it is started with."""

    name: str
    version: str
    arguments: tuple[str, ...] = ()

    @property
    def arguments_digest(self) -> Digest:
        """SHA-256 of the canonical form of the array of arguments: the event `engine.args`."""
        return Digest.of(jcs.canonicalize(list(self.arguments)))

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"arguments": list(self.arguments), "name": self.name, "version": self.version}

    def __str__(self) -> str:
        return f"{self.name}/{self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredModel:
    """What a boot measures of its model: the lock's digest, the engine and its arguments."""

    digest: Digest
    engine: str
    arguments_digest: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLock(Canonical):
    """A model's files in ascending order of their paths; its digest is the model digest."""

    model: str
    files: tuple[LockedFile, ...]
    source: ModelSource | None = None
    engine: LockedEngine | None = None

    @property
    def size(self) -> int:
        """How many bytes all files hold together."""
        return sum(file.size for file in self.files)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "engine": None if self.engine is None else self.engine.to_json(),
            "files": [file.to_json() for file in self.files],
            "model": self.model,
            "schema": SCHEMA,
            "source": None if self.source is None else self.source.to_json(),
        }

    @property
    def measured(self) -> MeasuredModel | None:
        """What a gateway in front of this engine measures, None without an engine."""
        if self.engine is None:
            return None
        return MeasuredModel(
            digest=self.digest,
            engine=str(self.engine),
            arguments_digest=self.engine.arguments_digest,
        )

    def facts(self) -> dict[str, Any]:
        """Return what people and programs are told about a lock."""
        return {
            "digest": self.digest.hex,
            "model": self.model,
            "source": None if self.source is None else str(self.source),
            "engine": None if self.engine is None else str(self.engine),
            "engine_args_digest": self.engine and self.engine.arguments_digest.hex,
            "files": len(self.files),
            "bytes": self.size,
        }


def parse_model_lock(data: bytes) -> ModelLock:
    """Return the lock that a file holds: canonical JSON, closed, by the rules of `model.md`.

    Raises `MalformedError`.
    """
    members = Members(jcs.parse_canonical(data, _LIMITS, what="the model lock"), "the model lock")
    members.text("schema", choices=(SCHEMA,))
    files = members.array("files", max_items=MAX_FILES)
    lock = ModelLock(
        model=members.text("model", pattern=NAME),
        files=tuple(_file(value) for value in files),
        source=None if members.is_null("source") else _source(members.object("source")),
        engine=None if members.is_null("engine") else _engine(members.object("engine")),
    )
    members.close()
    require_distinct_paths([file.path for file in lock.files])
    return lock


def require_path(path: str) -> str:
    """Return `path` if it can stand in a lock, or raise `MalformedError`.

    It is relative, of non-empty components apart from "." and "..", printable, in Unicode's
    normal form C, and without a backslash, which separates components on some systems.
    """
    parts = path.split("/")
    if (
        len(path) > MAX_PATH_CHARS
        or not path.isprintable()
        or "\\" in path
        or any(part in ("", ".", "..") or len(part) > _MAX_COMPONENT_CHARS for part in parts)
        or not unicodedata.is_normalized("NFC", path)
    ):
        raise MalformedError(
            "the name of a model file cannot stand in a lock",
            code="model_path",
            expected=f"a relative path without . or .., printable, at most {MAX_PATH_CHARS} "
            "characters, NFC",
            observed=ascii(path)[:80],
        )
    return path


def require_distinct_paths(paths: Sequence[str]) -> None:
    """Raise `MalformedError` unless the paths ascend and mean different files everywhere.

    Some file systems take names apart that differ in case only, and some do not: on those a
    lock would list one file twice.
    """
    if not paths:
        raise _wrong_files("at least one file", "none")
    for before, after in itertools.pairwise(paths):
        if not before < after:
            raise _wrong_files("ascending paths, each once", ascii(after)[:80])
    folded: set[str] = set()
    for path in paths:
        name = path.casefold()
        if name in folded:
            raise _wrong_files("paths that differ in more than case", ascii(path)[:80])
        folded.add(name)
    for path in paths:
        if not folded.isdisjoint(_folders_of(path.casefold())):
            raise _wrong_files("no file where another has its folder", ascii(path)[:80])


def _folders_of(path: str) -> list[str]:
    return [path[:place] for place, character in enumerate(path) if character == "/"]


def _file(value: Any) -> LockedFile:  # noqa: ANN401  (one parsed JSON value)
    members = Members(value, "a model file")
    file = LockedFile(
        path=require_path(members.text("path", max_chars=MAX_PATH_CHARS)),
        role=Role(members.text("role", choices=tuple(Role))),
        sha256=members.digest_hex("sha256"),
        size=members.integer("size"),
    )
    members.close()
    return file


def _source(members: Members) -> ModelSource:
    source = ModelSource(
        repository=members.text("repo", pattern=REPOSITORY, max_chars=128),
        revision=members.text("revision", pattern=REVISION),
    )
    members.close()
    return source


def _engine(members: Members) -> LockedEngine:
    engine = LockedEngine(
        name=members.text("name", pattern=ENGINE_NAME),
        version=members.text("version", pattern=ENGINE_VERSION),
        arguments=tuple(
            require_argument(value) for value in members.array("arguments", max_items=MAX_ARGUMENTS)
        ),
    )
    members.close()
    return engine


def require_argument(value: object) -> str:
    """Return an engine argument: printable text, or raise `MalformedError`."""
    if isinstance(value, str) and len(value) <= MAX_ARGUMENT_CHARS and value.isprintable():
        return value
    raise MalformedError(
        "an engine argument cannot stand in a lock",
        code="engine_argument",
        expected=f"printable text of at most {MAX_ARGUMENT_CHARS} characters",
    )


def _wrong_files(expected: str, observed: str) -> MalformedError:
    return MalformedError(
        "the files of a model lock are not in its one form",
        code="model_files",
        expected=expected,
        observed=observed,
    )
