"""Event logs in all three forms, and a boot that shows one log while its quote holds another."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

from attestation.bundle import EventLogRecord
from attestation.encoding import base64url
from attestation.encoding.digest import Digest
from attestation.policy import Policy
from attestation.result import AttestationResult, Check, Verdict
from attestation.tdx.eventlog import KeyEvent, MeasuredEvent
from attestation.tdx.events import replay
from attestation.tdx.logfile import parse_recorded
from attestation.tdx.quote import canonical_quote
from tests.support.bundles import Gateway, failed, the_check
from tests.tdx.test_ccel import header, record

RUNTIME = 0x08000001
MADE = Gateway()
DOMAIN = MADE.machine.domain
LOCK = MeasuredEvent(name="image.lock", sha256=Digest.of(b"model"))
ARGS = MeasuredEvent(name="boot.args", sha256=Digest.of(b"arguments"))
KEY = KeyEvent(bootseed=MADE.bootseed, keyset_digest=MADE.keyset.digest, n=1)
STRANGER = KeyEvent(bootseed=b"\x07" * 32, keyset_digest=Digest.of(b"other"), n=1)
OTHER = b"\x5a" * 48

Event = MeasuredEvent | KeyEvent


def own(*events: Event) -> EventLogRecord:
    return EventLogRecord(format="attested-gateway", data=[event.to_json() for event in events])


def dstack(*events: Event, **changes: Any) -> EventLogRecord:
    """The same events the way dstack logs them; RTMR0 to 2 untouched."""
    return EventLogRecord(format="dstack", data=[dstack_item(one) | changes for one in events])


def dstack_item(event: Event, register: int = 3) -> dict[str, Any]:
    return dstack_event(event.name, event.content) | {"imr": register}


def dstack_event(name: str, payload: bytes) -> dict[str, Any]:
    measured = RUNTIME.to_bytes(4, "little") + b":" + name.encode() + b":" + payload
    return {
        "imr": 3,
        "event_type": RUNTIME,
        "digest": hashlib.sha384(measured).hexdigest(),
        "event": name,
        "event_payload": payload.hex(),
    }


def ccel(*events: Event, platform: bytes = b"") -> EventLogRecord:
    """The same events as records of a CC event log, whose register index 4 is RTMR3."""
    records = b"".join(record(4, event.content, kind=6) for event in events)
    data = header() + platform + records
    return EventLogRecord(format="ccel", data=base64url.encode(data))


def listing(*events: Event, log_format: str = "attested-gateway") -> str:
    """The tuple's `events` for these."""
    items = [
        dstack_item(event)["digest"] if log_format == "dstack" else event.digest.hex()
        for event in events
    ]
    rows = [
        f'{{ name = "{event.name}", digest = "{digest}" }}'
        for event, digest in zip(events, items, strict=True)
    ]
    return f"[{', '.join(rows)}]"


def pins(registers: tuple[bytes, ...]) -> dict[str, str]:
    return {f"rtmr{at}": f'"{value.hex()}"' for at, value in enumerate(registers[:3])}


def judged(
    shown: EventLogRecord | None,
    true: EventLogRecord | None = None,
    *,
    policy: Policy | None = None,
    rtmr3: bytes | None = None,
    **keys: str,
) -> AttestationResult:
    """A boot that shows one log while its quote holds what `true` (or the same) replays to."""
    measured = true or shown
    assert measured is not None
    log = parse_recorded(measured.format, measured.data)
    registers = replay(log)
    if log.format == "attested-gateway":
        registers = (*DOMAIN.rtmrs[:3], registers[3])
    if rtmr3 is not None:
        registers = (*registers[:3], rtmr3)
    domain = replace(DOMAIN, rtmrs=registers)
    quote = replace_domain(domain)
    boot = replace(MADE.evidence, event_log=shown, quote=quote)
    wanted = policy or MADE.policy(**{**pins(registers), **keys})
    bundle = MADE.bundle(boots=[boot], receipts=[])
    return MADE.verify(bundle=bundle, policy=wanted, contents={})


def replace_domain(domain: Any) -> bytes:
    report_data = MADE.evidence.statement.report_data
    return canonical_quote(MADE.machine.quote(report_data, domain=domain))


def check(result: AttestationResult) -> Check:
    return the_check(result, "EVENT-LOG")


def refused(result: AttestationResult, verdict: Verdict, reason: str) -> Check:
    found = check(result)
    assert result.verdict is verdict
    assert failed(result) == {"EVENT-LOG"}
    assert reason in found.reason
    assert found.expected
    assert found.observed
    return found


def rejected(result: AttestationResult, reason: str) -> Check:
    return refused(result, Verdict.REJECTED, reason)


def not_accepted(result: AttestationResult, reason: str) -> Check:
    return refused(result, Verdict.NOT_ACCEPTED, reason)
