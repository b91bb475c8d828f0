"""The event log of dstack's guest agent, made complete enough to replay.

Since 0.5.5 the agent leaves the digests of run-time events out of its answers, because they
follow from the events.  A bundle's log states every digest, so they are put back here, by the
agent's rule; whether they are right is what replaying them to a quote shows.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from attestation.bundle import EventLogRecord
from attestation.encoding.strict_json import parse_json
from attestation.errors import MalformedError, UnavailableError
from attestation.tdx.eventlog import DSTACK_RUNTIME_EVENT, dstack_runtime_digest, replay

if TYPE_CHECKING:
    from attestation.encoding.strict_json import JsonValue

FORMAT = "dstack"
RUNTIME_REGISTER = 3
_SECOND_VERSION = ("version", "preimage")


def read_agent_log(text: str) -> EventLogRecord:
    """Return the log in an answer of the agent, every digest stated.

    Raises `UnavailableError` if it is not a dstack log.
    """
    try:
        value = parse_json(text.encode())
        if isinstance(value, list):
            value = [_complete(item) for item in value]
        record = EventLogRecord(format=FORMAT, data=value)
        record.parse()
    except (MalformedError, ValueError) as error:
        raise UnavailableError(
            "the dstack agent's event log cannot be read",
            code="dstack_log",
            expected="an array of imr, event_type, digest, event, event_payload",
            observed=str(error)[:200],
            hint="logs of dstack 0.5 and 0.6 agents are known",
        ) from error
    return record


def require_replays(record: EventLogRecord, registers: tuple[bytes, ...]) -> None:
    """Raise `UnavailableError` unless the log leads to these RTMR0..3."""
    replayed = replay(record.parse())
    wrong = [index for index, value in enumerate(registers) if replayed[index] != value]
    if wrong:
        named = ", ".join(f"RTMR{index}" for index in wrong)
        raise UnavailableError(
            f"the dstack agent's event log does not account for {named}",
            code="rtmr3" if wrong == [RUNTIME_REGISTER] else "dstack_log",
            expected=f"the quote's {named}",
            observed="another value after replaying the log",
            hint="something extended a register past the agent, or the log was changed: restart "
            "the TD",
        )


def _complete(item: JsonValue) -> JsonValue:
    """State the digest of a run-time event that comes without one.

    Agents from 0.6 on write events of a second version: their digest is that of `preimage`.  A
    bundle knows the five members only, so of such an event the digest is what is left to prove.
    """
    if not isinstance(item, dict) or item.get("event_type") != DSTACK_RUNTIME_EVENT:
        return item
    event = {name: value for name, value in item.items() if name not in _SECOND_VERSION}
    if event.get("digest"):
        return event
    if "preimage" in item:
        digest = hashlib.sha384(bytes.fromhex(str(item["preimage"]))).digest()
    else:
        payload = bytes.fromhex(str(item.get("event_payload", "")))
        digest = dstack_runtime_digest(str(item.get("event", "")), payload)
    return {**event, "digest": digest.hex()}
