"""What a monitor remembers: where it looked, and of every log the key and the last checkpoint.

{"addresses":["<address>"],"logs":[{"accepted":true,"note":"<signed checkpoint>","vkey":"<vkey>"}],
"schema":"attested-gateway/log-monitor/v2"}
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

SCHEMA = "attested-gateway/log-monitor/v2"
MAX_STATE_BYTES = 1 << 24
_MAX_LOGS = 10_000
_MAX_ADDRESS_CHARS = 1 << 14
_LIMITS = JsonLimits(max_bytes=MAX_STATE_BYTES, max_depth=4, max_members=5 * _MAX_LOGS + 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Remembered:
    vkey: Vkey
    signed: SignedCheckpoint
    accepted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorState:
    """The last checkpoint that held of each log, by origin; a restarted gateway is another log.

    `addresses` are where a log was seen.  A log is accepted if it was the first at its address,
    follows an accepted one, or somebody said so.
    """

    logs: Mapping[str, _Remembered] = field(default_factory=dict)
    addresses: frozenset[str] = frozenset()

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

    def accepts(self, origin: str) -> bool:
        """Return whether the log was seen and is accepted."""
        known = self.logs.get(origin)
        return known is not None and known.accepted

    def predecessor(self, note: str) -> tuple[SignedCheckpoint, SignedCheckpoint] | None:
        """Return what was last seen of the log that `note` is about, and what `note` says.

        `note` is the checkpoint a boot names as its predecessor's last.  None if that log was
        never seen.  Raises `MalformedError` or `EvidenceError` if that log has not signed it.
        """
        for known in self.logs.values():
            if note.startswith(known.vkey.name + "\n"):
                return known.signed, read_checkpoint(note, known.vkey)
        return None

    def remember(
        self, vkey: Vkey, signed: SignedCheckpoint, *, address: str, accepted: bool
    ) -> MonitorState:
        """Return the state with this as the last checkpoint of its log, seen at `address`."""
        seen = _Remembered(vkey=vkey, signed=signed, accepted=accepted)
        return MonitorState(
            logs={**self.logs, vkey.name: seen}, addresses=self.addresses | {address}
        )

    def encode(self) -> bytes:
        """Return the file: canonical JSON, which `parse_state` reads back."""
        logs = [_to_json(self.logs[origin]) for origin in sorted(self.logs)]
        return jcs.canonicalize(
            {"addresses": sorted(self.addresses), "logs": logs, "schema": SCHEMA}
        )


def parse_state(data: bytes) -> MonitorState:
    """Return the state a file holds; its checkpoints' signatures are verified again.

    Raises `MalformedError`, `EvidenceError`.
    """
    members = Members(jcs.parse_canonical(data, _LIMITS), "the monitor's state")
    members.text("schema", choices=(SCHEMA,))
    logs = [_from_json(value) for value in members.array("logs", max_items=_MAX_LOGS)]
    addresses = [
        Members({"address": value}, "an address of the monitor's state").text(
            "address", max_chars=_MAX_ADDRESS_CHARS
        )
        for value in members.array("addresses", max_items=_MAX_LOGS)
    ]
    members.close()
    origins = [known.vkey.name for known in logs]
    if origins != sorted(set(origins)) or addresses != sorted(set(addresses)):
        raise MalformedError(
            "the monitor's state is not in order",
            code="order",
            expected="every log once, in the order of the origins, and every address once",
        )
    return MonitorState(logs=dict(zip(origins, logs, strict=True)), addresses=frozenset(addresses))


def _to_json(known: _Remembered) -> dict[str, Any]:
    return {
        "accepted": known.accepted,
        "note": known.signed.note,
        "vkey": vkey_for(known.vkey.name, known.vkey.public),
    }


def _from_json(value: JsonValue) -> _Remembered:
    members = Members(value, "a log of the monitor's state")
    vkey = parse_vkey(members.text("vkey", max_chars=1024))
    note = members.text("note", max_chars=MAX_NOTE_BYTES)
    accepted = members.flag("accepted")
    members.close()
    return _Remembered(vkey=vkey, signed=read_checkpoint(note, vkey), accepted=accepted)
