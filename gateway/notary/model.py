"""What a notary with these settings is to measure of its model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attestation.errors import MalformedError, UnavailableError, UsageError
from attestation.statement.model_lock import MAX_LOCK_BYTES, parse_model_lock

if TYPE_CHECKING:
    from pathlib import Path

    from attestation.statement.model_lock import MeasuredModel, ModelLock
    from gateway.settings import Settings


def load_measured_model(settings: Settings) -> MeasuredModel | None:
    """Return what the file `model.lock` says, or None where the settings name none.

    The files of the model are not read: that is the image's work (dm-verity), or that of
    `attested model verify` before the engine starts.  Raises `UnavailableError` for a lock that
    cannot be read, `MalformedError` for what is none, `UsageError` for one without an engine or
    for another engine than the settings name for the one
    behind the Unix socket.
    """
    path = settings.model.lock
    if path is None:
        return None
    measured = _load(path).measured
    if measured is None:
        raise UsageError(
            f"the model lock {path} names no engine",
            code="model_lock",
            hint="make it anew with attested model lock --engine NAME==VERSION --arg …",
        )
    locked = settings.locked_engine
    configured = None if locked is None else locked.engine
    if configured not in (None, measured.engine):
        raise UsageError(
            "upstream.engine is another engine than the model lock names",
            code="model_lock",
            expected=measured.engine,
            observed=configured or "",
            hint="leave upstream.engine out (in upstreams: of the engine behind the Unix socket): "
            "receipts then name the engine of the lock",
        )
    return measured


def _load(path: Path) -> ModelLock:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_LOCK_BYTES + 1)
    except OSError as error:
        raise UnavailableError(
            f"the model lock {path} cannot be read",
            code="model_lock",
            observed=error.strerror or "an I/O error",
            hint="unset model.lock, or make it with attested model lock",
        ) from error
    try:
        return parse_model_lock(data)
    except MalformedError as error:
        raise MalformedError(
            f"the model lock {path} cannot be used: {error.message}",
            code=error.code,
            expected=error.expected,
            observed=error.observed,
            hint="make it anew with attested model lock",
        ) from error
