"""One thing that was looked at, how it is, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attestation.errors import AttestationError


class Level(StrEnum):
    """How a thing is.  Only `FAIL` is about something that the configured mode needs."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """`seen` says in words what is there, `todo` what to do (empty: nothing).

    `id` is stable and for programs, `data` are further facts for them.  Neither carries a secret.
    """

    id: str
    area: str
    title: str
    level: Level
    seen: str
    todo: str = ""
    data: dict[str, object] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """Return the form of `--json`."""
        return {
            "area": self.area,
            "data": self.data,
            "id": self.id,
            "level": self.level.value,
            "seen": self.seen,
            "title": self.title,
            "todo": self.todo or None,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Where a finding belongs; makes findings of it."""

    id: str
    area: str
    title: str

    def ok(self, seen: str, **data: object) -> Finding:
        """All is well."""
        return self._finding(Level.OK, seen, "", data)

    def warn(self, seen: str, todo: str, **data: object) -> Finding:
        """It works, and has a consequence that one should know."""
        return self._finding(Level.WARN, seen, todo, data)

    def fail(self, seen: str, todo: str, **data: object) -> Finding:
        """Something that the configured mode needs is not to be had."""
        return self._finding(Level.FAIL, seen, todo, data)

    def absent(self, seen: str, todo: str = "", **data: object) -> Finding:
        """It is not there, and nothing that is configured needs it."""
        return self._finding(Level.ABSENT, seen, todo, data)

    def lacking(self, seen: str, todo: str, *, needed: bool, **data: object) -> Finding:
        """It is not there: a failure if it is needed."""
        return self._finding(Level.FAIL if needed else Level.ABSENT, seen, todo, data)

    def refused(self, error: AttestationError, *, level: Level = Level.FAIL) -> Finding:
        """What an error of ours says, in its own words."""
        details = [f"expected {error.expected}"] if error.expected else []
        details += [f"saw {error.observed}"] if error.observed else []
        seen = "; ".join((error.message, *details))
        return self._finding(level, seen, error.hint, {"code": error.code})

    def _finding(self, level: Level, seen: str, todo: str, data: dict[str, object]) -> Finding:
        return Finding(
            id=self.id,
            area=self.area,
            title=self.title,
            level=level,
            seen=seen,
            todo=todo,
            data=data,
        )
