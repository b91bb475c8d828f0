"""Judging at the instant that was asked for, and beside a past one at the present."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from attestation.cli.files import parse_instant

if TYPE_CHECKING:
    from collections.abc import Callable

    from attestation.result import AttestationResult

STILL_TO_COME = (
    "today: judged at an instant that is still to come (--at): what is revoked, renewed or found "
    "out until then is not known"
)


class Moments:
    """The instant of `--at` (`stated`), and the clock's now where that is later, else None.

    An instant that is still to come is judged by all the same, and the result says so.
    Without `--at` both are one.  Raises `UsageError` for a text that is no instant.
    """

    def __init__(self, stated: str | None) -> None:
        clock = parse_instant(None)
        self.at = clock if stated is None else parse_instant(stated)
        self.now = clock if self.at < clock else None
        self._ahead = self.at > clock

    @property
    def each(self) -> tuple[int, ...]:
        """Every instant that is judged by."""
        return (self.at,) if self.now is None else (self.at, self.now)

    def judge(self, verify: Callable[[int], AttestationResult]) -> AttestationResult:
        """Return what `verify` says of the stated instant, with what it says of the present."""
        result = verify(self.at)
        if self._ahead:
            return replace(result, not_proved=(*result.not_proved, STILL_TO_COME))
        return result if self.now is None else replace(result, now=verify(self.now))
