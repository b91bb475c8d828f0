"""The order in which an exchange is used, as a table."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

from attestation.errors import UsageError

if TYPE_CHECKING:
    import re


class LocalProtocolError(UsageError):
    """The gateway used an exchange in the wrong order or with contradictory values."""


class State(StrEnum):
    """Where an exchange stands."""

    RECEIVING = "receiving"
    RECEIVED = "received"
    PLANNED = "planned"
    PLAIN = "plain"
    STREAM = "stream"
    PLAIN_DONE = "plain_done"
    STREAM_DONE = "stream_done"
    ANSWERED = "answered"
    FINISHED = "finished"


_RUNNING: Final = frozenset(State) - {State.FINISHED}
STREAMS: Final = frozenset({State.STREAM, State.STREAM_DONE})
_ENGINE: Final = frozenset({State.PLANNED, State.PLAIN, State.PLAIN_DONE}) | STREAMS
_BEFORE_PLAN: Final = frozenset({State.RECEIVING, State.RECEIVED})
ALLOWED_IN: Final = {
    "receive": frozenset({State.RECEIVING}),
    "skim": frozenset({State.RECEIVING}),
    "received": frozenset({State.RECEIVING}),
    "decide": _BEFORE_PLAN,
    "set_model": _BEFORE_PLAN | {State.PLANNED},
    "plan": frozenset({State.RECEIVED}),
    "attempt": _ENGINE | {State.ANSWERED},
    "respond": frozenset({State.PLANNED}),
    "engine": frozenset({State.PLAIN, State.STREAM}),
    "taken": STREAMS,
    "engine_end": frozenset({State.PLAIN, State.STREAM}),
    "answer": _RUNNING - STREAMS,
    "finish": _RUNNING,
}


def out_of_order(action: str, state: State) -> LocalProtocolError:
    """Return the error for an action that has no place in `state`."""
    return misuse(f"not in the state {state}", action)


def require_fit(pattern: re.Pattern[str], value: str, what: str) -> None:
    """Refuse a value that a receipt could not carry."""
    if not pattern.fullmatch(value):
        raise LocalProtocolError(
            f"{what} is not in its alphabet", code="exchange", expected=pattern.pattern
        )


def misuse(rule: str, action: str) -> LocalProtocolError:
    """Return the error for an action that breaks `rule`."""
    return LocalProtocolError(
        f"an exchange was used in a wrong way: {action}", code="exchange", expected=rule
    )
