"""Is a log that was never seen the continuation of one that was, or did somebody start anew?"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from attestation.cli.log_key import ARGUMENT

if TYPE_CHECKING:
    from attestation.cli.log_key import LogKey
    from attestation.log import MonitorState


class Continuity(StrEnum):
    """How a log is connected with what a monitor has seen at the same address."""

    SAME = "same"
    SUCCESSOR = "successor"
    FIRST = "first"
    BY_REQUEST = "accepted"
    NOT_SHOWN = "not-shown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """A finding and, in words, why it is that."""

    continuity: Continuity
    reason: str

    @property
    def accepted(self) -> bool:
        """Whether the log is to be remembered as one that was expected."""
        return self.continuity is not Continuity.NOT_SHOWN


def connect(
    state: MonitorState, key: LogKey, follows: str | None, *, known_place: bool, asked: bool
) -> Connection:
    """Return how the log of `key` is connected with the logs in `state`.

    `follows` is the origin of a log that was seen and that the log's boot was found to follow,
    `known_place` whether a log was seen at this address before this look, `asked` whether the
    caller wants a new log accepted.

    1. a log that was accepted before; 2. one that follows such a log; 3. the first at its address;
    4. one that the caller wants; 5. anything else is a log of which nobody knows where it comes
    from: the gateway's data folder was emptied, or the chain of boots was cut.
    """
    origin = key.vkey.name
    if state.accepts(origin):
        return Connection(continuity=Continuity.SAME, reason="")
    if follows is not None and state.accepts(follows):
        return Connection(continuity=Continuity.SUCCESSOR, reason=f"follows {follows}, seen before")
    why = _unconnected(key, follows)
    if not known_place and origin not in state.logs:
        told = f"seen for the first time: {why}"
        if state.logs:
            told += f"; it continues none of the logs known from elsewhere ({len(state.logs)})"
        return Connection(continuity=Continuity.FIRST, reason=told)
    if asked:
        return Connection(
            continuity=Continuity.BY_REQUEST, reason=f"a new log, accepted as asked: {why}"
        )
    return Connection(continuity=Continuity.NOT_SHOWN, reason=why)


def _unconnected(key: LogKey, follows: str | None) -> str:
    if follows is not None:
        return f"its boot follows {follows}, which continued none either"
    if key.previous is not None:
        named = key.previous.split("\n", 1)[0]
        return f"its boot names {named} as the one before it, which was never seen"
    if key.source == ARGUMENT:
        return "with --vkey alone nothing says which log it follows"
    return "its boot names none before it"
