"""What the gateway itself needs: its folder, its keys, its TLS, its engine."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import statistics
import tempfile
from typing import TYPE_CHECKING

from attestation.errors import AttestationError
from gateway.access.keyfile import load_keys
from gateway.cli.checkup.apart import Part, apart_findings, unseen
from gateway.cli.checkup.callers import caller_findings
from gateway.cli.checkup.engine import engine_findings
from gateway.cli.checkup.finding import Finding, Subject
from gateway.notary.model import load_measured_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from gateway.cli.checkup.apart import Viewer
    from gateway.settings import AccessSettings, NotarySettings, Settings

AREA = "service"
SLOW_FSYNC = 0.02
_TRIES = 5
_RECORD = bytes(4096)
_LITTLE_SPACE = 1 << 30
_SEGMENTS = "*/segments/*.seg"
_MODEL = Subject(id="service.model", area=AREA, title="model lock")
_CALLERS = Subject(id="service.callers", area=AREA, title="keys, budgets, engines")


def service_findings(
    settings: Settings, viewer: Viewer, now: int, clock: Callable[[], float]
) -> Iterator[Finding]:
    """Look at folder, keys, TLS, model and engine; nothing stays behind that was written.

    Of what is another user's, `viewer` is told to have that one look.  `now` is in Unix seconds,
    `clock` counts seconds.
    """
    notary = settings.notary
    yield from apart_findings(settings, viewer)
    if viewer.keeps_data:
        yield from _data_dir(notary, clock)
    gateways = viewer.sees(Part.GATEWAY)
    if gateways:
        yield _keys(settings.access, now)
        yield from caller_findings(settings, now)
    yield _tls(settings)
    if viewer.sees(Part.NOTARY):
        yield _model(settings)
    else:
        yield unseen(_MODEL, notary, Part.NOTARY)
    if not gateways:
        yield unseen(_CALLERS, notary, Part.GATEWAY)
        return
    for engine in settings.engines:
        yield from asyncio.run(engine_findings(engine, alone=len(settings.engines) == 1))


def newest_record(data_dir: Path) -> int | None:
    """Return when a record was last written to the log (Unix seconds), None if none is found."""
    try:
        return max((int(path.stat().st_mtime) for path in data_dir.glob(_SEGMENTS)), default=None)
    except OSError:
        return None


def _data_dir(notary: NotarySettings, clock: Callable[[], float]) -> Iterator[Finding]:
    folder = notary.data_dir
    owner = "run as the user of the gateway"
    if notary.user is not None:
        owner = f"chown -R {notary.user} {folder}, whose user this is"
    subject = Subject(id="service.data_dir", area=AREA, title="data folder")
    try:
        mode = folder.stat().st_mode
    except FileNotFoundError:
        yield _future_folder(subject, folder, notary.user or "the user of the gateway")
        return
    except OSError as error:
        yield subject.fail(f"{folder}: {error.strerror}", owner)
        return
    if not stat.S_ISDIR(mode):
        yield subject.fail(f"{folder} is no folder", "name another one as notary.data_dir")
        return
    if stat.S_IMODE(mode) & 0o077:
        yield subject.fail(f"others can enter {folder}", f"chmod 700 {folder}")
        return
    free = shutil.disk_usage(folder).free
    yield (
        subject.ok(f"{folder}, {free >> 30} GiB free", free=free)
        if free >= _LITTLE_SPACE
        else subject.warn(
            f"{folder}, {free >> 20} MiB free",
            "a full disk ends the boot: make room, or lower notary.retain_days",
            free=free,
        )
    )
    yield _fsync(folder, owner, clock)


def _future_folder(subject: Subject, folder: Path, user: str) -> Finding:
    parent = folder.parent
    if parent.is_dir() and os.access(parent, os.W_OK | os.X_OK):
        return subject.ok(f"{folder} is made at the first start")
    return subject.fail(
        f"{folder} is not there, and cannot be made in {parent}",
        f"make the folder above it and give it to {user}",
    )


def _fsync(folder: Path, owner: str, clock: Callable[[], float]) -> Finding:
    """Time what every receipt waits for, on a file without a name."""
    subject = Subject(id="service.fsync", area=AREA, title="durable write")
    times = []
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            for _ in range(_TRIES):
                file.write(_RECORD)
                file.flush()
                began = clock()
                os.fdatasync(file.fileno())
                times.append(clock() - began)
    except OSError as error:
        return subject.fail(f"cannot be made: {error.strerror}", f"{owner}; is the disk full?")
    middle = statistics.median(times)
    shown, data = f"{middle * 1000:.1f} ms", {"seconds": round(middle, 6)}
    if middle > SLOW_FSYNC:
        return subject.warn(
            f"{shown}: every answer waits for one",
            "use a faster disk, or one with a write cache that survives a loss of power",
            **data,
        )
    return subject.ok(f"{shown}; every answer waits for one", **data)


def _keys(access: AccessSettings, now: int) -> Finding:
    subject = Subject(id="service.keys", area=AREA, title="API keys")
    path = access.keys_file
    try:
        records = load_keys(path)
    except AttestationError as error:
        return subject.refused(error)
    usable = [
        each
        for each in records
        if each.revoked is None and (each.grant.expires is None or each.grant.expires > now)
    ]
    if not usable and not access.issuers:
        return subject.warn(
            f"{path} holds no key that is in use: nobody can ask anything",
            f"attested keys add --keys-file {path}",
            usable=0,
        )
    return subject.ok(f"{len(usable)} in use, in {path}", usable=len(usable))


def _tls(settings: Settings) -> Finding:
    subject = Subject(id="service.tls", area=AREA, title="TLS")
    listen, tls = settings.listen, settings.tls
    where = f"unix:{listen.uds}" if listen.uds else f"{listen.host}:{listen.port}"
    if tls.mode == "off":
        return subject.warn(
            f"off, at {where}",
            "the confidentiality of the channel is then not proved: tls.mode = self-signed",
        )
    return subject.ok(
        f"at {where}, a key made in this boot; its certificate names {', '.join(tls.names)}"
    )


def _model(settings: Settings) -> Finding:
    try:
        model = load_measured_model(settings)
    except AttestationError as error:
        return _MODEL.refused(error)
    if model is None:
        return _MODEL.absent("none: receipts then name no measured model")
    return _MODEL.ok(f"{model.digest.hex[:16]}…, {model.engine}", digest=model.digest.hex)
