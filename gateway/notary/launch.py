"""What a measured image says it starts: the things behind the events of RTMR3, and their extension.

Each event names the SHA-256 of a thing: of a file as it is, or of a document in canonical JSON that
is kept beside the log (docs/spec/runtime-events.md).
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from attestation.encoding import jcs
from attestation.encoding.digest import Digest
from attestation.errors import MalformedError, UnavailableError, UsageError
from attestation.tdx.launch import ENGINE, GATEWAY_CONFIG, GATEWAY_PACKAGE, MODEL_ROOT, READY
from attestation.tdx.runtime import MeasuredEvent
from gateway.notary.runtime_log import RuntimeLog
from gateway.settings.model import CONFIG_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from attestation.statement.model_lock import LockedEngine
    from gateway.attester.base import QuoteProvider
    from gateway.settings import Settings

PACKAGE_SCHEMA: Final = "attested-gateway/package/v1"
ENGINE_SCHEMA: Final = "attested-gateway/engine/v1"
READY_SCHEMA: Final = "attested-gateway/ready/v1"
MAX_PACKAGE_FILES: Final = 50_000

_ROOT: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_PIECE: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Launched:
    """Something to measure: its event, and the document it hashes (None: a file or a root hash)."""

    event: MeasuredEvent
    document: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PackRoots:
    """The dm-verity root hashes of the packs, as the measured command line names them."""

    engine: Digest | None = None
    model: Digest | None = None


def parse_pack_roots(command_line: str) -> PackRoots:
    """Return what `attested.engine=` and `attested.model=` of a kernel command line name.

    Raises `MalformedError` for one that stands there twice or is no root hash.
    """
    found: dict[str, Digest] = {}
    for word in command_line.split():
        name, separator, value = word.partition("=")
        if not separator or name not in ("attested.engine", "attested.model"):
            continue
        if name in found or not _ROOT.fullmatch(value):
            raise MalformedError(
                f"the kernel command line does not name one root hash as {name}",
                code="command_line",
                expected="64 lower-case hexadecimal digits, once",
                observed="another one" if name in found else f"{len(value)} characters",
                hint="the image was built with other words: build it anew",
            )
        found[name] = Digest.from_hex(value, what=name)
    return PackRoots(engine=found.get("attested.engine"), model=found.get("attested.model"))


def config_of(settings: Settings) -> Launched:
    """Return the effective measured settings: the SHA-256 is the statement's `config_digest`."""
    return _documented(GATEWAY_CONFIG, {"schema": CONFIG_SCHEMA, "settings": settings.measured})


def package_of(folder: Path) -> Launched:
    """Return every file below the folder the gateway is installed in, links as links.

    Raises `UnavailableError` for a folder that cannot be read to its end, and for what is neither
    file, folder nor link.
    """
    try:
        files = [_entry(path, folder) for path in sorted(_below(folder), key=os.fspath)]
    except OSError as error:
        raise UnavailableError(
            f"the installed gateway in {folder} cannot be measured",
            code="package",
            observed=error.strerror or "an I/O error",
            hint="name the folder with --package, and let this user read all of it",
        ) from error
    if not files:
        raise UnavailableError(
            f"there is no file in {folder}",
            code="package",
            expected="the folder the gateway is installed in",
        )
    return _documented(GATEWAY_PACKAGE, {"files": files, "schema": PACKAGE_SCHEMA})


def engine_of(
    engine: LockedEngine,
    command: Sequence[str],
    environment: Mapping[str, str],
    root: Digest | None,
) -> Launched:
    """Return what starts as the engine: command, the whole environment, the pack it comes from."""
    return _documented(
        ENGINE,
        {
            "command": list(command),
            "environment": dict(environment),
            "name": engine.name,
            "root": None if root is None else root.hex,
            "schema": ENGINE_SCHEMA,
            "version": engine.version,
        },
    )


def model_root_of(root: Digest) -> Launched:
    """Return the event of the model pack: the dm-verity root hash stands for the whole volume."""
    return Launched(event=MeasuredEvent(name=MODEL_ROOT, sha256=root))


def ready_of(closed: Sequence[str]) -> Launched:
    """Return what ends the launch: which routes of the engine were asked for and not there."""
    return _documented(READY, {"closed_routes": sorted(closed), "schema": READY_SCHEMA})


def measured_file(name: str, data: bytes) -> Launched:
    """Return the event of a file that is measured as it is."""
    return Launched(event=MeasuredEvent(name=name, sha256=Digest.of(data)))


def measure(provider: QuoteProvider, path: Path, events: Sequence[MeasuredEvent]) -> bool:
    """Extend RTMR3 by events that come before any keys; False where nobody can extend it.

    1. the log at `path` holds no keys, and takes these events in their order
    2. where RTMR3 can be extended: it is what the log accounts for, then the events extend it
    3. the log is written, in either case

    A process that dies in between leaves a register that the log does not account for: nothing
    that comes later starts then.  Raises `UnavailableError`; `UsageError` on a platform that keeps
    the log itself.
    """
    if provider.event_log() is not None:
        raise UsageError(
            "this platform keeps the log of RTMR3 itself",
            code="rtmr3",
            expected="an image of this project",
            hint="leave this command out: the platform measures what it starts",
        )
    before = RuntimeLog.load(path)
    log = before.with_measured(tuple(events))
    if provider.can_extend_rtmr3:
        pending = before.unextended(provider.read_rtmr3())
        for event in (*pending, *log.events[len(before.events) :]):
            provider.extend_rtmr3(event.digest, name=event.name, content=event.content)
        log.require_replays_to(provider.read_rtmr3())
    log.store(path)
    return provider.can_extend_rtmr3


def _documented(name: str, value: dict[str, Any]) -> Launched:
    document = jcs.canonicalize(value)
    return Launched(event=MeasuredEvent(name=name, sha256=Digest.of(document)), document=document)


def _below(folder: Path) -> list[Path]:
    found: list[Path] = []
    waiting = [folder]
    while waiting:
        for path in waiting.pop().iterdir():
            if stat.S_ISDIR(path.lstat().st_mode):
                waiting.append(path)
            else:
                found.append(path)
        if len(found) > MAX_PACKAGE_FILES:
            raise UnavailableError(
                "the installed gateway has too many files",
                code="package",
                expected=f"at most {MAX_PACKAGE_FILES}",
                hint="is --package the folder of the gateway alone?",
            )
    return found


def _entry(path: Path, folder: Path) -> dict[str, Any]:
    name = path.relative_to(folder).as_posix()
    state = path.lstat()
    if stat.S_ISLNK(state.st_mode):
        return {"link": str(path.readlink()), "path": name}
    if not stat.S_ISREG(state.st_mode):
        raise UnavailableError(
            f"{path} is neither file, folder nor link",
            code="package",
            hint="nothing else belongs into an installation",
        )
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    # Who may run it is part of what it is; owner and times are the image's.
    return {
        "executable": bool(state.st_mode & stat.S_IXUSR),
        "path": name,
        "sha256": digest.hexdigest(),
        "size": state.st_size,
    }
