"""Changes to the structure of the file: members and items dropped, doubled, renamed, retyped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from attestation.encoding import base64url, jcs
from attestation.encoding.strict_json import parse_json_object
from tests.tamper.cases import Case, Changes
from tests.tamper.document import Path, drop, dump, get, named, paths, put, rename, written_twice
from tests.tamper.folder import AuditFolder

_OTHERS: tuple[Any, ...] = (None, True, False, 0, 1, -1, 1.5, "", "A", [], {}, [[]], {"a": 1})


def members(folder: AuditFolder) -> Iterator[Case]:
    """Every member at every depth: dropped, renamed, of another type, twice; unknown ones added."""
    changes = Changes(folder)
    for path in [(), *paths(changes.document)]:
        if path and isinstance(path[-1], str):
            yield from _member(changes, path)
        if isinstance(get(changes.document, path), dict):
            for name in ("x", "", "~", "__proto__"):
                make = partial(put, changes.document, (*path, name), "x")
                yield from _both(changes, "member added", named((*path, name)), make)


def items(folder: AuditFolder) -> Iterator[Case]:
    """Every item of every array: dropped, doubled, exchanged with its neighbour, retyped."""
    changes = Changes(folder)
    for path in paths(changes.document):
        value = get(changes.document, path)
        if not isinstance(value, list):
            continue
        for at, item in enumerate(value):
            for kind, other in (
                ("item dropped", [*value[:at], *value[at + 1 :]]),
                ("item doubled", [*value[: at + 1], *value[at:]]),
                ("items exchanged", [*value[:at], *value[at : at + 2][::-1], *value[at + 2 :]]),
                ("item added", [*value, item]),
                *(("item retyped", [*value[:at], one, *value[at + 1 :]]) for one in _OTHERS),
            ):
                make = partial(put, changes.document, path, other)
                yield from _both(changes, kind, f"{named(path)}.{at}", make)
        for kind, other in (
            ("array emptied", []),
            ("array reversed", value[::-1]),
            *(("item added", [*value, one]) for one in _OTHERS),
        ):
            make = partial(put, changes.document, path, other)
            yield from _both(changes, kind, named(path), make)


def claims(folder: AuditFolder) -> Iterator[Case]:
    """The same on header and claims of every receipt, encoded again under the old signature."""
    changes = Changes(folder)
    for index, item in enumerate(changes.document["receipts"]):
        parts = item["receipt"].split(".")
        for part in (0, 1):
            value = parse_json_object(base64url.decode(parts[part]))
            for kind, where, data in _spellings(value):
                token = ".".join([*parts[:part], base64url.encode(data), *parts[part + 1 :]])
                path: Path = ("receipts", index, "receipt")
                yield changes.value(f"claim {kind}", path, token, where)


def _member(changes: Changes, path: Path) -> Iterator[Case]:
    document, where, name = changes.document, named(path), str(path[-1])
    yield from _both(changes, "member dropped", where, partial(drop, document, path))
    for other in {name + "_", name.upper(), name[:-1], " " + name, name + "\x00"} - {name}:
        make = partial(rename, document, path, other)
        yield from _both(changes, "member renamed", f"{where} {other!r}", make)
    for value in _OTHERS:
        make = partial(put, document, path, value)
        yield from _both(changes, "member retyped", f"{where} {value!r}", make)
    for second in (get(document, path), None, ""):
        twice = partial(written_twice, document, path, second)
        yield changes.file("member doubled", where, twice)


def _both(changes: Changes, kind: str, where: str, make: Callable[[], Any]) -> Iterator[Case]:
    yield changes.rewritten(f"{kind}, rewritten", where, make)
    yield changes.standing(kind, where, make)


def _spellings(value: dict[str, Any]) -> Iterator[tuple[str, str, bytes]]:
    for path in paths(value):
        where = named(path)
        if isinstance(path[-1], str):
            yield "dropped", where, jcs.canonicalize(drop(value, path))
            yield "renamed", where, jcs.canonicalize(rename(value, path, f"{path[-1]}_"))
            yield "doubled", where, written_twice(value, path, get(value, path))
        for other in _OTHERS:
            data = dump(put(value, path, other))
            if data is not None:
                yield "retyped", f"{where} {other!r}", data
    yield "added", "x", jcs.canonicalize({**value, "x": 1})
    yield "spaced", "", jcs.canonicalize(value).replace(b":", b": ", 1)
