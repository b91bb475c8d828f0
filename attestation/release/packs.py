"""Packs: what the parts of a model or engine volume follow from (docs/spec/packs.md).

A pack is made of a lock: its salt and its UUIDs are derived from the lock's digest, so that who has
the same lock and files builds the same bytes.
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from attestation.encoding import jcs
from attestation.encoding.digest import Digest
from attestation.encoding.members import Members
from attestation.encoding.strict_json import JsonLimits
from attestation.errors import EvidenceError, MalformedError
from attestation.statement.common import Canonical

if TYPE_CHECKING:
    from collections.abc import Iterable

SCHEMA: Final = "attested-gateway/pack/v1"
ENGINE_LOCK_SCHEMA: Final = "attested-gateway/engine-lock/v1"
LOCK_FOLDER: Final = ".attested"
MAX_DESCRIPTION_BYTES: Final = 1 << 16
_NAME: Final = r"[A-Za-z0-9._:/@+-]{1,128}"
ENGINE_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}"
ENGINE_VERSION: Final = r"[A-Za-z0-9][A-Za-z0-9._+-]{0,23}"
"""What an engine's lock takes: as strict as a release's own version, and no path."""
_TOOL: Final = r"[\x20-\x7e]{1,100}"
_LIMITS: Final = JsonLimits(max_bytes=MAX_DESCRIPTION_BYTES, max_depth=3, max_members=32)
_NAMESPACE: Final = uuid.UUID("9d0c8c4f-6c1e-5d1b-8a55-1c5b0f2f7d10")


class PackKind(StrEnum):
    """What is in a pack; also the end of its argument's name on the kernel command line."""

    MODEL = "model"
    ENGINE = "engine"

    @property
    def argument(self) -> str:
        """The argument of the measured command line that carries the root hash."""
        return f"attested.{self.value}"

    @property
    def lock_path(self) -> str:
        """Where the lock lies in the pack: a hidden name, so that it is no file of a model."""
        return f"{LOCK_FOLDER}/{'model.lock' if self is PackKind.MODEL else 'engine.json'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seeds:
    """The fixed values of a pack: salt and UUID of its hash tree, UUID of its file system."""

    salt: bytes
    verity_uuid: uuid.UUID
    erofs_uuid: uuid.UUID


def seeds_of(kind: PackKind, lock: Digest) -> Seeds:
    """Return the fixed values of the pack that is made of a lock with this digest."""
    name = f"{SCHEMA}/{kind.value}/{lock.hex}"
    return Seeds(
        salt=hashlib.sha256(name.encode()).digest(),
        verity_uuid=uuid.uuid5(_NAMESPACE, f"{name}/verity"),
        erofs_uuid=uuid.uuid5(_NAMESPACE, f"{name}/erofs"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PackDescription(Canonical):
    """What is told about a built pack: `root` is what a guest is given, `digest_of_file` of all.

    `lock` is the digest of the lock in it, `tool` the program that wrote the file system: another
    version of it may write other bytes.
    """

    kind: PackKind
    name: str
    root: Digest
    lock: Digest
    digest_of_file: Digest
    size: int
    tool: str

    @property
    def argument(self) -> str:
        """What has to stand on the measured command line."""
        return f"{self.kind.argument}={self.root.hex}"

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "kind": self.kind.value,
            "lock": self.lock.hex,
            "name": self.name,
            "root": self.root.hex,
            "schema": SCHEMA,
            "sha256": self.digest_of_file.hex,
            "size": self.size,
            "tool": self.tool,
        }


def parse_pack_description(data: bytes) -> PackDescription:
    """Return the description in a file: canonical JSON, closed.  Raises `MalformedError`."""
    return read_pack_description(jcs.parse_canonical(data, _LIMITS, what="the pack's description"))


def read_pack_description(value: Any) -> PackDescription:  # noqa: ANN401  (parsed JSON)
    """Return the description that a parsed JSON value is.  Raises `MalformedError`."""
    members = Members(value, "pack")
    members.text("schema", choices=(SCHEMA,))
    found = PackDescription(
        kind=PackKind(members.text("kind", choices=[one.value for one in PackKind])),
        name=members.text("name", pattern=_NAME),
        root=members.digest_hex("root"),
        lock=members.digest_hex("lock"),
        digest_of_file=members.digest_hex("sha256"),
        size=members.integer("size"),
        tool=members.text("tool", pattern=_TOOL),
    )
    members.close()
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineEntry:
    """A file or link of an engine: `content` is the SHA-256 of a file, or where a link leads.

    Folders are in the paths; an empty one is not kept.
    """

    path: str
    content: Digest | str
    executable: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        if isinstance(self.content, str):
            return {"link": self.content, "path": self.path}
        return {"executable": self.executable, "path": self.path, "sha256": self.content.hex}


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLock(Canonical):
    """Which engine a pack holds: name, version, and the digest of the listing of its files."""

    name: str
    version: str
    files: int
    tree: Digest

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "files": self.files,
            "name": self.name,
            "schema": ENGINE_LOCK_SCHEMA,
            "tree": self.tree.hex,
            "version": self.version,
        }


def parse_engine_lock(data: bytes) -> EngineLock:
    """Return the engine lock in a file: canonical JSON, closed.  Raises `MalformedError`."""
    members = Members(jcs.parse_canonical(data, _LIMITS, what="the engine lock"), "the engine lock")
    members.text("schema", choices=(ENGINE_LOCK_SCHEMA,))
    found = EngineLock(
        name=members.text("name", pattern=ENGINE_NAME),
        version=members.text("version", pattern=ENGINE_VERSION),
        files=members.integer("files", minimum=1),
        tree=members.digest_hex("tree"),
    )
    members.close()
    return found


def tree_digest(entries: Iterable[EngineEntry]) -> Digest:
    """Return the SHA-256 of the listing: each entry's canonical JSON and a line feed, by path."""
    hasher = hashlib.sha256()
    for entry in sorted(entries, key=lambda one: one.path):
        hasher.update(jcs.canonicalize(entry.to_json()) + b"\n")
    return Digest(hasher.digest())


def roots_on(command_line: str) -> dict[PackKind, Digest]:
    """Return the root hashes that a kernel command line names.

    Raises `MalformedError` for one that is no SHA-256, and for an argument that stands twice:
    the guest refuses both.
    """
    found: dict[PackKind, Digest] = {}
    for word in command_line.split():
        name, _, value = word.partition("=")
        for kind in PackKind:
            if name != kind.argument:
                continue
            if kind in found:
                raise MalformedError(
                    f"{name} stands twice on the command line",
                    code="command_line",
                    expected="one root hash for each pack",
                )
            found[kind] = Digest.from_hex(value, what=name)
    return found


def require_packs_named(packs: Iterable[PackDescription], command_line: str) -> None:
    """Check that packs and command line name the same root hashes, no more and no fewer.

    Raises `EvidenceError` (code "pack_root").
    """
    named = roots_on(command_line)
    told = {pack.kind: pack.root for pack in packs}
    for kind in PackKind:
        if named.get(kind) != told.get(kind):
            raise EvidenceError(
                f"the {kind.value} pack is not the one of the measured command line",
                code="pack_root",
                expected=_shown(kind, named.get(kind)),
                observed=_shown(kind, told.get(kind)),
                hint="build the image with the root hash of the pack that it is published with",
            )


def _shown(kind: PackKind, root: Digest | None) -> str:
    return f"no {kind.argument}" if root is None else f"{kind.argument}={root.hex}"
