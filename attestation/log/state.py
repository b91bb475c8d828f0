"""What a monitor remembers: of every log it has seen, the key and the last checkpoint it accepted.

{"logs":[{"note":"<signed checkpoint>","vkey":"<vkey>"}],"schema":"attested-gateway/log-monitor/v1"}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from attestation.encoding import jcs
from attestation.encoding.members import Members
from attestation.encoding.strict_json import JsonLimits
from attestation.errors import EvidenceError, MalformedError
from attestation.log.audit import SignedCheckpoint, read_checkpoint
from attestation.merkle.note import MAX_NOTE_BYTES, Vkey, parse_vkey, vkey_for

if TYPE_CHECKING:
    from attestation.encoding.strict_json import JsonValue

SCHEMA = "attested-gateway/log-monitor/v1"
MAX_STATE_BYTES = 1 << 24
_MAX_LOGS = 10_000
_LIMITS = JsonLimits(max_bytes=MAX_STATE_BYTES, max_depth=4, max_members=3 * _MAX_LOGS + 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Remembered:
    vkey: Vkey
    signed: SignedCheckpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorState:
    """The last accepted checkpoint of each log, by origin; a restarted gateway is another log."""

    logs: Mapping[str, _Remembered] = field(default_factory=dict)

    def last(self, vkey: Vkey) -> SignedCheckpoint | None:
        """Return the last checkpoint of the log, None if it was never seen.

        Raises `EvidenceError` (code "log_key") if its origin was seen with another key.
        """
        known = self.logs.get(vkey.name)
        if known is None:
            return None
        if known.vkey != vkey:
            raise EvidenceError(
                "the log has another key than when it was last seen",
                code="log_key",
                expected=known.vkey.public.hex(),
                observed=vkey.public.hex(),
                hint="a log has one key for its life: this is another log under the same name",
            )
        return known.signed

    def predecessor(self, note: str) -> tuple[SignedCheckpoint, SignedCheckpoint] | None:
        """Return what was last seen of the log that `note` is about, and what `note` says.

        `note` is the checkpoint a boot names as its predecessor's last.  None if that log was
        never seen.  Raises `MalformedError` or `EvidenceError` if that log has not signed it.
        """
        for known in self.logs.values():
            if note.startswith(known.vkey.name + "\n"):
                return known.signed, read_checkpoint(note, known.vkey)
        return None

    def remember(self, vkey: Vkey, signed: SignedCheckpoint) -> MonitorState:
        """Return the state with this as the last checkpoint of its log."""
        return MonitorState(
            logs={**self.logs, vkey.name: _Remembered(vkey=vkey, signed=signed)},
        )

    def encode(self) -> bytes:
        """Return the file: canonical JSON, which `parse_state` reads back."""
        logs = [_to_json(self.logs[origin]) for origin in sorted(self.logs)]
        return jcs.canonicalize({"logs": logs, "schema": SCHEMA})


def parse_state(data: bytes) -> MonitorState:
    """Return the state a file holds; its checkpoints' signatures are verified again.

    Raises `MalformedError`, `EvidenceError`.
    """
    members = Members(jcs.parse_canonical(data, _LIMITS), "the monitor's state")
    members.text("schema", choices=(SCHEMA,))
    logs = [_from_json(value) for value in members.array("logs", max_items=_MAX_LOGS)]
    members.close()
    origins = [known.vkey.name for known in logs]
    if origins != sorted(set(origins)):
        raise MalformedError(
            "the monitor's state is not in order",
            code="order",
            expected="every log once, in the order of the origins",
        )
    return MonitorState(logs=dict(zip(origins, logs, strict=True)))


def _to_json(known: _Remembered) -> dict[str, Any]:
    return {"note": known.signed.note, "vkey": vkey_for(known.vkey.name, known.vkey.public)}


def _from_json(value: JsonValue) -> _Remembered:
    members = Members(value, "a log of the monitor's state")
    vkey = parse_vkey(members.text("vkey", max_chars=1024))
    note = members.text("note", max_chars=MAX_NOTE_BYTES)
    members.close()
    return _Remembered(vkey=vkey, signed=read_checkpoint(note, vkey))
