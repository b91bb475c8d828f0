"""The events of RTMR3 as an appraisal sees them: by what their digests prove."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from attestation.errors import MalformedError
from attestation.tdx.divergence import first_difference
from attestation.tdx.eventlog import dstack_runtime_digest
from attestation.tdx.launch import GATEWAY_CONFIG, GPU_EVIDENCE
from attestation.tdx.runtime import (
    RUNTIME_REGISTER,
    KeyEvent,
    MeasuredEvent,
    parse_runtime_content,
)
from attestation.verifier.ledger import Complaint
from attestation.verifier.words import short

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from attestation.encoding.digest import Digest
    from attestation.policy import RequiredEvent
    from attestation.statement import BootStatement
    from attestation.tdx.divergence import Difference
    from attestation.tdx.events import Event, EventLog


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeEvent:
    """An event of RTMR3; `key` is what it says if its digest proves that it binds keys."""

    name: str
    digest: bytes
    key: KeyEvent | None


def runtime_events(log: EventLog) -> Iterator[RuntimeEvent]:
    """Yield the events of RTMR3, named by their content where the digest proves that.

    A dstack event also carries a name of its own, which its digest covers: an event counts as
    the gateway's only if both names are the same.
    """
    for event in log.of(RUNTIME_REGISTER):
        told = _told(event)
        if told is None or (log.format == "dstack" and told.name != event.name):
            yield RuntimeEvent(name=event.name, digest=event.digest, key=None)
        else:
            key = told if isinstance(told, KeyEvent) else None
            yield RuntimeEvent(name=told.name, digest=event.digest, key=key)


def stated_events(statement: BootStatement) -> list[RuntimeEvent]:
    """Return what the statement says would have extended RTMR3: its word, and no register's."""
    return [
        RuntimeEvent(name=event.name, digest=event.digest, key=None)
        for event in statement.unextended
    ]


def contradiction(events: Sequence[RuntimeEvent], statement: BootStatement) -> Complaint | None:
    """Return which event is of another thing than the statement of the same boot names.

    Compared are digests, by the gateway's own rule and by dstack's: a log whose proof of what an
    event says was taken away hides nothing.
    """
    named = {GATEWAY_CONFIG: statement.config_digest, GPU_EVIDENCE: statement.gpu_digest}
    for event in events:
        if event.name not in named or event.digest in _digests(event.name, named[event.name]):
            continue
        return Complaint(
            reason=f"the boot statement contradicts the event {event.name}",
            expected=f"an event of {named[event.name] or 'nothing'}, which the statement names",
            observed=f"an event {short(event.digest)} of something else",
        )
    return None


def _digests(name: str, sha256: Digest | None) -> tuple[bytes, ...]:
    if sha256 is None:
        return ()
    event = MeasuredEvent(name=name, sha256=sha256)
    return (event.digest, dstack_runtime_digest(name, event.content))


def _told(event: Event) -> MeasuredEvent | KeyEvent | None:
    if event.content is None:
        return None
    try:
        return parse_runtime_content(event.content)
    except MalformedError:
        # Another maker's event: it may be listed by its digest, and never binds keys.
        return None


def compare_measured(
    wanted: Sequence[RequiredEvent], measured: Sequence[RuntimeEvent]
) -> Difference[RuntimeEvent] | None:
    """Return where `measured` first differs, by name or digest, from what a tuple lists."""
    expected = [RuntimeEvent(name=one.name, digest=one.digest, key=None) for one in wanted]
    return first_difference(expected, measured, lambda event: (event.name, event.digest))
