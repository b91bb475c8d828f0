"""A change that has not been made yet: sweeps are large, and most tests make a few of each kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from tests.tamper.document import Path, dump, named, put, rewrite
from tests.tamper.folder import AuditFolder


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One change: its kind, where it is made, and how to make it.

    `build` gives None where the change cannot be written down or leaves everything as it was.
    """

    kind: str
    where: str
    build: Callable[[], AuditFolder | None]


class Changes:
    """Makes the cases that start from one folder and its document."""

    def __init__(self, folder: AuditFolder) -> None:
        self.folder = folder
        self.document = folder.document()

    def file(self, kind: str, where: str, make: Callable[[], bytes | None]) -> Case:
        """Return the case of other bytes in place of the bundle."""

        def build() -> AuditFolder | None:
            data = make()
            return None if data is None or data == self.folder.bundle else self.folder.but(data)

        return Case(kind=kind, where=where, build=build)

    def bodies(self, kind: str, where: str, make: Callable[[], dict[str, bytes | None]]) -> Case:
        """Return the case of other bodies; None takes one away."""

        def build() -> AuditFolder | None:
            changed = self.folder.but(**make())
            return None if changed.bodies == self.folder.bodies else changed

        return Case(kind=kind, where=where, build=build)

    def standing(self, kind: str, where: str, make: Callable[[], Any]) -> Case:
        """Return the case of another document, written as it stands."""
        return self.file(kind, where, lambda: dump(make()))

    def rewritten(self, kind: str, where: str, make: Callable[[], Any]) -> Case:
        """Return the case of another document, put in order, addressed and written anew."""
        return self.file(kind, where, lambda: rewrite(make()))

    def value(self, kind: str, path: Path, value: Any, where: str = "") -> Case:
        """Return the rewritten case of another value at `path`."""
        text = f"{named(path)} {where}".rstrip()
        return self.rewritten(kind, text, partial(put, self.document, path, value))
