"""Telling statements apart by their purpose."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attestation.encoding.members import Members
from attestation.statement import boot, running
from attestation.statement.boot import BootStatement
from attestation.statement.running import ChallengeStatement, EpochStatement

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from attestation.encoding.strict_json import JsonValue

Statement: TypeAlias = BootStatement | EpochStatement | ChallengeStatement


def parse_statement(value: JsonValue) -> Statement:
    """Return the statement of a parsed JSON value, whichever it is.  Raises `MalformedError`."""
    parsers: dict[str, Callable[[JsonValue], Statement]] = {
        boot.PURPOSE: boot.parse_boot_statement,
        running.EPOCH_PURPOSE: running.parse_epoch_statement,
        running.CHALLENGE_PURPOSE: running.parse_challenge_statement,
    }
    purpose = Members(value, "the statement").text("purpose", choices=tuple(parsers))
    return parsers[purpose](value)
