"""MODEL and ENGINE-LOCAL: what a boot measured of its model, and what its receipts say of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from attestation.errors import MalformedError
from attestation.statement.model_lock import ENGINE_ARGS_EVENT, MODEL_LOCK_EVENT
from attestation.tdx.events import replay
from attestation.tdx.runtime import RECEIPT_KEY, parse_measured_event
from attestation.verifier.ledger import Complaint, unequal

if TYPE_CHECKING:
    from attestation.bundle import BootEvidence
    from attestation.encoding.digest import Digest
    from attestation.receipt.claims import ReceiptClaims
    from attestation.statement.model_lock import ModelLock
    from attestation.tdx.eventlog import Event
    from attestation.tdx.quote import Quote
    from attestation.tdx.runtime import MeasuredEvent
    from attestation.verifier.appraisal import Appraised
    from attestation.verifier.ledger import Page

_RUNTIME = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredDigests:
    """What RTMR3 says of a boot's model: the lock's digest, that of the engine's arguments."""

    model: Digest | None = None
    arguments: Digest | None = None


NOTHING_MEASURED = MeasuredDigests()


def measured_digests(boot: BootEvidence, quote: Quote | None) -> MeasuredDigests:
    """Return what the events before the boot's keys name.

    1. the event log replays to the RTMR3 of the boot's quote: else nothing it says is measured
    2. an event counts if its digest proves its content and it stands before every key event
    3. a thing that was measured twice is not known
    """
    log = boot.event_log.parse() if boot.event_log else None
    if log is None or quote is None or replay(log)[_RUNTIME] != quote.body.rtmrs[_RUNTIME]:
        return NOTHING_MEASURED
    found: dict[str, list[Digest]] = {MODEL_LOCK_EVENT: [], ENGINE_ARGS_EVENT: []}
    for event in log.events:
        if event.register != _RUNTIME:
            continue
        if event.name == RECEIPT_KEY:
            break
        measured = _named_by(event)
        if measured is not None and measured.name in found:
            found[measured.name].append(measured.sha256)
    once = {name: one[0] if len(one) == 1 else None for name, one in found.items()}
    return MeasuredDigests(model=once[MODEL_LOCK_EVENT], arguments=once[ENGINE_ARGS_EVENT])


def check_boot_model(boot: BootEvidence, measured: MeasuredDigests, page: Page) -> None:
    """MODEL for a boot: its statement and RTMR3 name the same model, or neither names one."""
    stated = boot.statement.model_digest
    if stated != measured.model:
        page.rejected(
            "MODEL",
            "the boot statement and the events of RTMR3 do not name one model",
            expected="the statement to name what was measured: "
            + _named(measured.model, f"nothing, as no event {MODEL_LOCK_EVENT} is before the keys"),
            observed=_named(stated, "no model digest in the statement"),
        )
    elif stated is not None:
        page.passed("MODEL", f"measured before the keys, and named by the statement: {stated}")


def check_receipt_model(
    claims: ReceiptClaims, known: Appraised, lock: ModelLock | None, page: Page
) -> None:
    """MODEL and ENGINE-LOCAL for a receipt; `lock` is the file the verifier holds, if any.

    1. `dig` and `cfg` are what statement and measured events of the boot name
    2. every attempt that is listed went to this trust domain's own engine
    3. `dig` is the digest of the given lock, and `cfg` that of the arguments which it states
    4. no attempt is called local without 1
    """
    model = claims.model
    if model.digest is None and model.configuration is None:
        _no_model(known, lock, page)
        _check_local(claims, page, backed=False)
        return
    complaint = _other_model(claims, known) or _other_place(claims)
    _check_local(claims, page, backed=complaint is None)
    if complaint is None and lock is not None:
        complaint = _other_lock(claims, lock)
    if complaint is not None:
        page.contradicted("MODEL", complaint)
    else:
        page.passed("MODEL", _description(model.digest, lock))


def _named_by(event: Event) -> MeasuredEvent | None:
    """Return the measured event that this is, if it is one under its own name."""
    if event.content is None:
        return None
    try:
        one = parse_measured_event(event.content)
    except MalformedError:
        # Other software measures other things; what is not in this form names no model.
        return None
    return one if one.name == event.name else None


def _no_model(known: Appraised, lock: ModelLock | None, page: Page) -> None:
    if lock is not None:
        page.lacking("MODEL", "the receipt binds no model, so it cannot be compared with the lock")
    elif known.measured.model is not None:
        page.skipped(
            "MODEL", "the boot measured a model, but this receipt does not say that it answered"
        )
    else:
        page.skipped("MODEL", "the receipt binds no model: its name is the engine's word")


def _other_model(claims: ReceiptClaims, known: Appraised) -> Complaint | None:
    model, measured = claims.model, known.measured
    if measured.model is None or measured.arguments is None:
        return Complaint(
            reason="the receipt names a model that nothing measured stands behind",
            expected=f"the events {MODEL_LOCK_EVENT} and {ENGINE_ARGS_EVENT} in RTMR3, once each "
            "and before the keys",
            observed="an event log that does not show them",
        )
    return unequal(
        "the receipt names another model than the boot",
        {
            "statement": known.boot.statement.model_digest,
            MODEL_LOCK_EVENT: measured.model,
            ENGINE_ARGS_EVENT: measured.arguments,
        },
        {
            "statement": model.digest,
            MODEL_LOCK_EVENT: model.digest,
            ENGINE_ARGS_EVENT: model.configuration,
        },
    )


def _other_place(claims: ReceiptClaims) -> Complaint | None:
    elsewhere = [attempt.upstream for attempt in claims.attempts if not attempt.local]
    if not elsewhere:
        return None
    return Complaint(
        reason="the receipt names a measured model for an engine outside this trust domain",
        expected="local attempts only",
        observed=", ".join(elsewhere),
    )


def _other_lock(claims: ReceiptClaims, lock: ModelLock) -> Complaint | None:
    if lock.digest != claims.model.digest:
        return Complaint(
            reason="the receipt names another model than the lock that was given",
            expected=f"{lock.digest} of {lock.model}",
            observed=f"{claims.model.digest}",
        )
    stated = lock.engine.arguments_digest if lock.engine is not None else None
    if stated != claims.model.configuration:
        return Complaint(
            reason="the engine was measured with other arguments than the given lock states",
            expected=_named(stated, "no engine"),
            observed=f"{claims.model.configuration}",
        )
    return None


def _check_local(claims: ReceiptClaims, page: Page, *, backed: bool) -> None:
    if not claims.attempts:
        page.skipped("ENGINE-LOCAL", "no attempt to reach an engine is listed")
    elif not any(attempt.local for attempt in claims.attempts):
        page.skipped(
            "ENGINE-LOCAL",
            "the gateway does not say that its engine is in this trust domain",
        )
    elif backed:
        page.passed("ENGINE-LOCAL", "this domain's own engine, as measured with its arguments")
    else:
        page.rejected(
            "ENGINE-LOCAL",
            "the receipt calls its engine this trust domain's own, and nothing measured stands "
            "behind that",
            expected="dig and cfg as measured, and only local attempts",
            observed="an attempt that is called local without them",
        )


def _description(digest: Digest | None, lock: ModelLock | None) -> str:
    if lock is None:
        return f"measured by the boot: {digest}"
    told = [lock.model, *(str(part) for part in (lock.source, lock.engine) if part is not None)]
    return f"the given lock, measured by the boot: {', '.join(told)}"


def _named(digest: Digest | None, otherwise: str) -> str:
    return otherwise if digest is None else f"{digest}"
