"""Topic `requests`: hostile and odd chat bodies, sent to a real gateway over a real socket.

A case is `name`, `expect` and input bytes.  `accept`: the engine got exactly these bytes, once,
and the caller its answer.  `reject`: a 4xx, and the engine got nothing.  `policy`: one or the
other; docs/spec/admission.md says which and why.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from attestation.conformance.case import Case
from attestation.conformance.files import require_text, unknown_shape
from attestation.conformance.inputs import case_bytes
from attestation.errors import MalformedError
from gateway.conformance.bench import PATH, Bench
from gateway.engine.scripted import Close, Script

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import ExitStack

    from attestation.conformance.files import VectorDirectory
    from attestation.encoding.strict_json import JsonValue

EXPECTED = frozenset({"accept", "reject", "policy"})
_ANSWER = Script(
    writes=(b'{"id":"chatcmpl-1","object":"chat.completion","choices":[]}',),
    close=Close.LENGTH,
    content_type="application/json",
)


def cases(directory: VectorDirectory, resources: ExitStack) -> Iterator[Case]:
    """Yield a case for every line of every listed file."""
    bench = Bench(resources)
    for file in directory.listed_files():
        if not file.endswith(".ndjson"):
            raise unknown_shape(file)
        for members in directory.read_json_lines(file):
            yield _case(bench, members, file)


def _case(bench: Bench, members: dict[str, Any], file: str) -> Case:
    name = require_text(members, "name", f"a case of {file}")
    expected = require_text(members, "expect", name)
    if expected not in EXPECTED:
        raise MalformedError(
            f"the case {name[:80]!a} expects something this topic does not know",
            code="case",
            expected=" or ".join(sorted(EXPECTED)),
        )
    data = case_bytes(members, name)
    return Case(name=name, expected=expected, run=partial(_send, bench, data), agrees=_agrees)


def _send(bench: Bench, data: bytes) -> JsonValue:
    """What became of a body: "accept", "reject", or what went wrong."""
    answer, received = bench.post(data, _ANSWER)
    if not received and 400 <= answer.status < 500:
        return "reject"
    if not received:
        return f"status {answer.status} without asking the engine"
    if [(request.target, request.body) for request in received] != [(PATH, data)]:
        return f"the engine got {len(received)} requests, not exactly these bytes once"
    if answer.status != 200 or answer.body != _ANSWER.writes[0]:
        return f"the engine's answer came back changed, with status {answer.status}"
    return "accept"


def _agrees(expected: JsonValue, got: JsonValue) -> bool:
    return got in ("accept", "reject") if expected == "policy" else got == expected
