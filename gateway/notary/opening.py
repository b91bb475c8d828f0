"""From settings to the parts of a notary: provider, collateral, plan."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from attestation.errors import MalformedError, UnavailableError
from attestation.tdx.collateral import parse_dcap_collateral
from gateway.attester.base import open_provider
from gateway.endorsements.store import EndorsementStore
from gateway.notary.boot import BootPlan
from gateway.notary.model import load_measured_model
from gateway.notary.parts import NotaryLimits, NotaryParts
from gateway.notary.quotes.epochs import Pacing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from attestation.encoding.digest import Digest
    from attestation.tdx.collateral import Collateral
    from gateway.notary.files import FileLayer
    from gateway.settings import Settings
    from gateway.telemetry.metrics import Metrics

_DAY_SECONDS = 86_400


def open_notary_parts(
    settings: Settings,
    *,
    tls_spki: tuple[Digest, ...],
    metrics: Metrics,
    on_end: Callable[[str], None],
    on_renewal: Callable[[], None] = lambda: None,
    emit: Callable[..., None] = lambda _event, **_fields: None,
    layer: FileLayer,
) -> NotaryParts:
    """Return what a notary with these settings is made of.

    Opens the quote provider, reads the collateral file and looks for the endorsement store;
    raises `UsageError`, `UnavailableError` or `MalformedError` as those do.
    """
    evidence, notary, log = settings.evidence, settings.notary, settings.log
    now = int(time.time())
    return NotaryParts(
        provider=open_provider(evidence.provider),
        plan=BootPlan(
            name=settings.name,
            config_digest=settings.config_digest,
            tls_spki=tls_spki,
            not_after=now + notary.keyset_days * _DAY_SECONDS,
            now=now,
            runtime_log=evidence.runtime_log,
            model=load_measured_model(settings),
        ),
        data_dir=notary.data_dir,
        metrics=metrics,
        collateral=_load_collateral(evidence.collateral_file),
        endorsements=_open_store(evidence.endorsements),
        limits=NotaryLimits(
            max_tasks=notary.max_tasks,
            quote_timeout=evidence.quote_timeout,
            closing_seconds=evidence.quote_timeout,
            quote_interval=evidence.quote_interval,
            max_challenges=evidence.max_challenges,
            checkpoint_seconds=log.checkpoint_seconds,
            pacing=Pacing(seconds=log.epoch_seconds, forced_seconds=log.forced_epoch_seconds),
            export_seconds=log.export_seconds,
            segment_bytes=log.segment_bytes,
            retain_days=notary.retain_days,
        ),
        layer=layer,
        on_end=on_end,
        on_renewal=on_renewal,
        emit=emit,
    )


def _open_store(folder: Path | None) -> EndorsementStore | None:
    """Return the store, which must be a folder by now; what is in it may change later."""
    if folder is None:
        return None
    store = EndorsementStore(folder)
    store.names()
    return store


def _load_collateral(path: Path | None) -> Collateral | None:
    if path is None:
        return None
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UnavailableError(
            f"the collateral file {path} cannot be read",
            code="collateral_file",
            observed=error.strerror or "an I/O error",
            hint="unset evidence.collateral_file, or fetch the file anew",
        ) from error
    try:
        return parse_dcap_collateral(data)
    except MalformedError as error:
        raise MalformedError(
            f"the collateral file {path} cannot be used: {error.message}",
            code=error.code,
            expected=error.expected or "collateral as dcap-qvl writes it (JSON)",
            observed=error.observed,
            hint="unset evidence.collateral_file, or fetch the file anew",
        ) from error
