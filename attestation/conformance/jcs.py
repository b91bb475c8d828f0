"""Topic `jcs`: `input/X.json` has exactly the canonical bytes of `output/X.json`."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

from attestation.conformance.case import Case
from attestation.conformance.files import unknown_shape
from attestation.encoding import jcs
from attestation.encoding.digest import Digest
from attestation.encoding.strict_json import JsonLimits, parse_json
from attestation.errors import MalformedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import ExitStack

    from attestation.conformance.files import VectorDirectory

_FILE = re.compile(r"(input|output)/([^/]+)\.json")
# Canonicalisation reads every number as a double, so integers beyond 64 bits have a form too.
_LIMITS = JsonLimits(max_number_chars=1024, min_integer=-(1 << 1023), max_integer=1 << 1023)


def cases(directory: VectorDirectory, _resources: ExitStack) -> Iterator[Case]:
    """Yield a case for every listed input; its output must be listed as well, and no other."""
    halves = [_halves(file) for file in directory.listed_files()]
    names = {folder: [n for f, n in halves if f == folder] for folder in ("input", "output")}
    for unpaired in sorted(set(names["input"]) ^ set(names["output"])):
        raise unknown_shape(f"{unpaired}.json (only one of input/ and output/)")
    for name in names["input"]:
        yield _case(directory, name)


def _halves(file: str) -> tuple[str, str]:
    match = _FILE.fullmatch(file)
    if match is None:
        raise unknown_shape(file)
    return match[1], match[2]


def _case(directory: VectorDirectory, name: str) -> Case:
    data = directory.read(f"input/{name}.json")
    output = directory.read(f"output/{name}.json")
    return Case(name=name, expected=_shown(output), run=partial(_canonical, data))


def _canonical(data: bytes) -> str:
    try:
        return _shown(jcs.canonicalize_full(parse_json(data, _LIMITS)))
    except MalformedError as error:
        return f"reject: {error.code}"


def _shown(data: bytes) -> str:
    """Equal texts mean equal bytes; whole documents would make unreadable lines."""
    return f"{len(data)} bytes, sha256 {Digest.of(data).hex}"
