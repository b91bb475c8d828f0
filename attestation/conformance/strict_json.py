"""Topic `json`: the strict parser over `*.ndjson` of `name`, `expect` and input bytes."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

from attestation.conformance.case import Case, accept_or_reject, equal_or_either
from attestation.conformance.files import require_text, unknown_shape
from attestation.conformance.inputs import case_bytes
from attestation.encoding.strict_json import parse_json
from attestation.errors import MalformedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import ExitStack

    from attestation.conformance.files import VectorDirectory


def cases(directory: VectorDirectory, _resources: ExitStack) -> Iterator[Case]:
    """Yield a case for every line of every listed file."""
    for file in directory.listed_files():
        if not file.endswith(".ndjson"):
            raise unknown_shape(file)
        for members in directory.read_json_lines(file):
            yield _case(members, file)


def _case(members: dict[str, Any], file: str) -> Case:
    name = require_text(members, "name", f"a case of {file}")
    data = case_bytes(members, name)
    return Case(
        name=name,
        expected=require_text(members, "expect", name),
        run=partial(accept_or_reject, partial(parse_json, data)),
        agrees=equal_or_either,
        deviation=partial(_duplicate_member, data),
    )


def _duplicate_member(data: bytes) -> str | None:
    """Name the deviation if the parser refuses `data` for a duplicate that is really there."""
    try:
        parse_json(data)
    except MalformedError as error:
        if error.code == "duplicate_member" and _names_member_twice(data):
            return "duplicate_member"
    return None


def _names_member_twice(data: bytes) -> bool:
    """Look with the standard library alone, so that the parser does not vouch for itself."""
    found = False

    def count(pairs: list[tuple[str, object]]) -> None:
        nonlocal found
        found = found or len({name for name, _ in pairs}) < len(pairs)

    try:
        json.loads(data, object_pairs_hook=count)
    except ValueError:
        return False
    return found
