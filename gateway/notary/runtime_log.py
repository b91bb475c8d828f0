"""What notary starts extended into RTMR3 since the trust domain began."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attestation.encoding import jcs
from attestation.encoding.strict_json import parse_json
from attestation.errors import MalformedError, UnavailableError
from attestation.statement.model_lock import ENGINE_ARGS_EVENT, MODEL_LOCK_EVENT
from attestation.tdx.eventlog import KeyEvent, MeasuredEvent, parse_runtime_events
from attestation.tdx.events import extend
from attestation.tdx.launch import require_launch_order
from attestation.tdx.runtime import parse_measured_events
from gateway.attester.base import REGISTER_BYTES

if TYPE_CHECKING:
    from pathlib import Path

    from attestation.encoding.digest import Digest

_FIRST = 1
_OF_EVERY_START = frozenset({MODEL_LOCK_EVENT, ENGINE_ARGS_EVENT})
"""Events that a start measures itself where no image did; `BootPlan.measured` makes them."""


def _seen(error: OSError | MalformedError) -> str:
    if isinstance(error, OSError):
        return error.strerror or "an I/O error"
    return f"{error.message}: {error.observed}" if error.observed else error.message


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeLog:
    """What image and first start measured, then `receipt.key` events, numbered without a gap."""

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
                expected="the events of this life of the TD, as they were noted",
                observed=_seen(error),
                hint="it must stem from this life of the TD: restart the TD to start anew",
            ) from error
        return log

    @property
    def measured(self) -> tuple[MeasuredEvent, ...]:
        """What was measured before the keys."""
        return tuple(event for event in self.events if isinstance(event, MeasuredEvent))

    @property
    def keys(self) -> tuple[KeyEvent, ...]:
        """The keys of the starts in this life of the TD."""
        return tuple(event for event in self.events if isinstance(event, KeyEvent))

    def with_start(
        self, bootseed: bytes, keyset_digest: Digest, measured: tuple[MeasuredEvent, ...] = ()
    ) -> RuntimeLog:
        """Return the log with one more start, whose own measured events are `measured`.

        Those that an image measured before are not measured again; events of other names, which
        nobody but the image measures, stay as they are.  Raises `UnavailableError` if an earlier
        start in this life of the TD measured otherwise.
        """
        log = self.with_own(measured)
        n = self.keys[-1].n + 1 if self.keys else _FIRST
        event = KeyEvent(bootseed=bootseed, keyset_digest=keyset_digest, n=n)
        return RuntimeLog(events=(*log.events, event))

    def with_own(self, measured: tuple[MeasuredEvent, ...]) -> RuntimeLog:
        """Return the log with a start's own events, which are the same ones at every start.

        Raises `UnavailableError`.
        """
        own = tuple(event for event in self.measured if event.name in _OF_EVERY_START)
        if own == measured:
            return self
        if own or self.keys:
            raise UnavailableError(
                "an earlier start in this TD measured another model or other engine arguments",
                code="rtmr3",
                expected=_names(own),
                observed=_names(measured),
                hint="what a TD runs cannot change in its life: restart the TD, or give the same "
                "model.lock again",
            )
        return self.with_measured(measured)

    def with_measured(self, measured: tuple[MeasuredEvent, ...]) -> RuntimeLog:
        """Return the log with more measured events, which come before any keys.

        Raises `UnavailableError` after keys, for a name that is there already, and for events
        of a measured image that are not in their order.
        """
        if self.keys:
            raise UnavailableError(
                "nothing can be measured any more: this gateway has bound keys to RTMR3",
                code="rtmr3",
                expected="events before the first start of the notary",
                observed=_names(measured),
                hint="the units of the image say what is measured when; restart the TD",
            )
        try:
            events = parse_measured_events([one.to_json() for one in (*self.measured, *measured)])
            require_launch_order([one.name for one in events])
        except MalformedError as error:
            raise UnavailableError(
                f"this cannot be measured here: {error.message}",
                code="rtmr3",
                expected=error.expected,
                observed=error.observed,
                hint="what a TD measured cannot change in its life: restart the TD",
            ) from error
        return RuntimeLog(events=events)

    def unextended(self, register: bytes | None) -> tuple[MeasuredEvent | KeyEvent, ...]:
        """Return the events that the register does not hold yet: none, or every one.

        A register of all zero holds none of the measured events.  So it is in a simulated trust
        domain, which begins anew in each process: what one noted, the next one extends.  Keys are
        never extended a second time.  Raises `UnavailableError` for any other value.
        """
        if register == bytes(REGISTER_BYTES) and not self.keys:
            return self.events
        self.require_replays_to(register)
        return ()

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
