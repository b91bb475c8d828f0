r"""The texts of an outcome that come again from one request to the next: written, read, remembered.

    end \n decision \n request type \n response type \n model asked for \n model served \n engine
    \n finish reasons \n mods \n attempts \n codes of rewrites

Lists have commas between their items, an attempt is `upstream outcome local` with local 0 or 1,
and an empty text stands for none.  What was read once is known by its bytes: checking a dozen
texts again and again took 10 microseconds of every receipt.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from attestation.receipt import text
from attestation.receipt.claims import End
from attestation.receipt.outcome import ModelFacts
from gateway.notary.wire.values import refused

if TYPE_CHECKING:
    from attestation.receipt.outcome import Outcome

_LINES: Final = 11
_REMEMBERED: Final = 1024
_ENDS: Final = {str(end): end for end in End}
_NO_FACTS: Final = ModelFacts()


class Facts(NamedTuple):
    """They fit the alphabets of receipts; an attempt is upstream, outcome, whether it is local."""

    end: End
    decision: str
    request_type: str | None
    response_type: str | None
    model: ModelFacts
    finish_reasons: tuple[str, ...]
    mods: tuple[str, ...]
    attempts: tuple[tuple[str, str, bool], ...]
    rewrites: tuple[str, ...]


def encode_facts(outcome: Outcome) -> bytes:
    """Return the facts of an outcome."""
    model = outcome.model
    attempts = [f"{one.upstream} {one.outcome} {one.local:d}" for one in outcome.attempts]
    said = (
        outcome.end,
        outcome.decision,
        outcome.request_type or "",
        outcome.response_type or "",
        model.id or "",
        model.served or "",
        model.engine or "",
        ",".join(outcome.finish_reasons),
        ",".join(outcome.mods),
        ",".join(attempts),
        ",".join([one.code for one in outcome.splices]),
    )
    return "\n".join(said).encode("utf-8")


@lru_cache(maxsize=_REMEMBERED)
def decode_facts(said: bytes) -> Facts:
    """Return the facts that these bytes are, or raise `MalformedError`."""
    lines = said.decode("latin-1").split("\n")
    if len(lines) != _LINES:
        raise refused(f"{_LINES} texts about an outcome")
    end = _ENDS.get(lines[0])
    if end is None:
        raise refused("an end of an exchange: " + ", ".join(_ENDS))
    model = ModelFacts(
        id=_optional(lines[4], text.CALLER_TEXT),
        served=_optional(lines[5], text.CALLER_TEXT),
        engine=_optional(lines[6], text.ENGINE),
    )
    return Facts(
        end=end,
        decision=_text(lines[1], text.CODE),
        request_type=_optional(lines[2], text.CONTENT_TYPE),
        response_type=_optional(lines[3], text.CONTENT_TYPE),
        model=_NO_FACTS if model == _NO_FACTS else model,
        finish_reasons=_texts(lines[7], text.MAX_REASONS + 1, text.REASON),
        mods=_texts(lines[8], text.MAX_MODS, text.CODE),
        attempts=tuple(map(_attempt, _listed(lines[9], text.MAX_ATTEMPTS))),
        rewrites=_texts(lines[10], text.MAX_SPLICES, text.CODE),
    )


def _attempt(said: str) -> tuple[str, str, bool]:
    parts = said.split(" ")
    if len(parts) != 3 or parts[2] not in ("0", "1"):
        raise refused("an attempt: upstream, outcome, 0 or 1")
    return _text(parts[0], text.LABEL), _text(parts[1], text.CODE), parts[2] == "1"


def _text(said: str, pattern: re.Pattern[str]) -> str:
    if pattern.fullmatch(said) is None:
        raise refused(f"text of the form {pattern.pattern}")
    return said


def _optional(said: str, pattern: re.Pattern[str]) -> str | None:
    return _text(said, pattern) if said else None


def _listed(said: str, longest: int) -> list[str]:
    items = said.split(",") if said else []
    if len(items) > longest:
        raise refused(f"a list of at most {longest} items")
    return items


def _texts(said: str, longest: int, pattern: re.Pattern[str]) -> tuple[str, ...]:
    return tuple([_text(item, pattern) for item in _listed(said, longest)])
