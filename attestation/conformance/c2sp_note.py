"""Topic `c2sp-note`: arrays of signed notes to verify; other known files are only parsed."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any

from attestation.conformance.case import Case, accept_or_reject
from attestation.conformance.files import (
    require_flag,
    require_list,
    require_object,
    require_text,
    unknown_shape,
)
from attestation.errors import MalformedError
from attestation.merkle.note import ED25519, parse_note, parse_vkey, split_vkey, verify_note

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import ExitStack

    from attestation.conformance.files import VectorDirectory

# The lists of known logs are YAML, of which one line form is enough to find every key.
_PUBLIC_KEY = re.compile(r"^[ \t-]*PublicKey:[ \t]*[\"']?([^\"'\s]+)[\"']?[ \t]*$", re.MULTILINE)


def cases(directory: VectorDirectory, _resources: ExitStack) -> Iterator[Case]:
    """Yield the cases of every listed file, chosen by its shape."""
    for file in directory.listed_files():
        if file.endswith((".yaml", ".yml")):
            yield from _known_logs(directory, file)
        elif file.endswith(".json"):
            yield from _json_cases(directory, file)
        else:
            raise unknown_shape(file)


def _json_cases(directory: VectorDirectory, file: str) -> Iterator[Case]:
    value = directory.read_json(file)
    if isinstance(value, list):
        for item in require_list(value, file):
            yield _signed_note(item, file)
        return
    note = require_text(require_object(value, file), "note", file)
    yield _parsed(f"{file}#note", partial(_parse_note, note))


def _signed_note(item: dict[str, Any], file: str) -> Case:
    name = require_text(item, "id", f"a case of {file}")
    vkeys = item.get("vkeys")
    if not isinstance(vkeys, list) or not all(isinstance(vkey, str) for vkey in vkeys):
        raise MalformedError(
            f"the case {name[:80]!a} is not usable", code="case", expected="a list of vkeys"
        )
    note = require_text(item, "note", name)
    return Case(
        name=name,
        expected="accept" if require_flag(item, "valid", name) else "reject",
        run=partial(accept_or_reject, partial(_verify, note, vkeys)),
    )


def _known_logs(directory: VectorDirectory, file: str) -> Iterator[Case]:
    text = directory.read(file).decode("utf-8", "replace")
    keys = _PUBLIC_KEY.findall(text)
    if not keys:
        raise unknown_shape(file)
    for number, key in enumerate(keys):
        yield _parsed(f"{file}#{number}", partial(_parse_any_vkey, key))


def _parsed(name: str, action: partial[None]) -> Case:
    return Case(name=name, expected="accept", run=partial(accept_or_reject, action))


def _verify(note: str, vkeys: list[str]) -> None:
    verify_note(parse_note(note), [parse_vkey(vkey) for vkey in vkeys])


def _parse_note(note: str) -> None:
    parse_note(note)


def _parse_any_vkey(text: str) -> None:
    _, _, key = split_vkey(text)
    if key[0] == ED25519:
        parse_vkey(text)
