"""What notary starts extended into RTMR3 since the trust domain began."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attestation.encoding import jcs
from attestation.encoding.strict_json import parse_json
from attestation.errors import MalformedError, UnavailableError
from attestation.tdx.eventlog import KeyEvent, MeasuredEvent, parse_runtime_events
from attestation.tdx.events import extend
from gateway.attester.base import REGISTER_BYTES

if TYPE_CHECKING:
    from pathlib import Path

    from attestation.encoding.digest import Digest

_FIRST = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeLog:
    """What the first start measured, then `receipt.key` events, numbered from 1 without a gap."""

    events: tuple[MeasuredEvent | KeyEvent, ...] = ()

    @classmethod
    def load(cls, path: Path | None) -> RuntimeLog:
        """Read the log of earlier starts; no path or no file means that there was none.

        Raises `UnavailableError` if it cannot be read or is not such a log.
        """
        if path is None or not path.exists():
            return cls()
        try:
            log = cls(events=parse_runtime_events(parse_json(path.read_bytes())))
        except (OSError, MalformedError) as error:
            raise UnavailableError(
                f"the runtime log {path} cannot be used",
                code="runtime_log",
                hint="it must stem from this life of the TD: restart the TD to start anew",
            ) from error
        return log

    def with_start(
        self, bootseed: bytes, keyset_digest: Digest, measured: tuple[MeasuredEvent, ...] = ()
    ) -> RuntimeLog:
        """Return the log with one more start, which measures just `measured` before its keys.

        Raises `UnavailableError` if an earlier start in this life of the TD measured otherwise.
        """
        before = tuple(event for event in self.events if isinstance(event, MeasuredEvent))
        keys = [event for event in self.events if isinstance(event, KeyEvent)]
        if self.events and before != measured:
            raise UnavailableError(
                "an earlier start in this TD measured another model or other engine arguments",
                code="rtmr3",
                expected=_names(before),
                observed=_names(measured),
                hint="what a TD runs cannot change in its life: restart the TD, or give the same "
                "model.lock again",
            )
        n = keys[-1].n + 1 if keys else _FIRST
        event = KeyEvent(bootseed=bootseed, keyset_digest=keyset_digest, n=n)
        return RuntimeLog(events=(*measured, *keys, event))

    def require_replays_to(self, register: bytes | None) -> None:
        """Raise `UnavailableError` unless the events lead from zero to this register value."""
        value = bytes(REGISTER_BYTES)
        for event in self.events:
            value = extend(value, event.digest)
        if value != register:
            raise UnavailableError(
                "RTMR3 is not what the runtime log accounts for",
                code="rtmr3",
                expected=f"the replay of {len(self.events)} events",
                observed="another value",
                hint="something else extended it, or evidence.runtime_log is unset: restart it",
            )

    def store(self, path: Path | None) -> None:
        """Write the log in one step; without a path there is nothing to write.

        Raises `UnavailableError`.
        """
        if path is None:
            return
        temporary = path.with_name(f".{path.name}.new")
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(jcs.canonicalize(self.to_json()))
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError as error:
            raise UnavailableError(
                f"the runtime log {path} cannot be written",
                code="runtime_log",
                observed=error.strerror or "an I/O error",
            ) from error

    def to_json(self) -> list[Any]:
        """Return the events as a bundle carries them."""
        return [event.to_json() for event in self.events]


def _names(events: tuple[MeasuredEvent, ...]) -> str:
    return ", ".join(f"{event.name} {event.sha256}" for event in events) or "nothing measured"
