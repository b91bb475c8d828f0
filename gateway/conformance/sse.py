"""Topic `sse`: what the receipt says about an engine's stream, however it was cut and closed.

A case is `name`, `expect`, `upstream_close` and input bytes: the engine's stream.  For every
case the receipt must commit to exactly the bytes the client read, its own block left out.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from attestation.conformance.case import Case
from attestation.conformance.files import require_text, unknown_shape
from attestation.conformance.inputs import case_bytes
from attestation.encoding.digest import Digest
from attestation.errors import AttestationError, EvidenceError, MalformedError
from attestation.receipt.block import find_block, remove_block
from attestation.receipt.claims import End
from attestation.receipt.commitments import parse_openings_header, verify_commitment
from attestation.receipt.signing import parse_receipt, verify_receipt_signature
from gateway.conformance.bench import Bench
from gateway.engine.scripted import Close, Script

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import ExitStack

    from attestation.conformance.files import VectorDirectory
    from attestation.encoding.strict_json import JsonValue
    from attestation.receipt.claims import ResponseClaims
    from gateway.conformance.bench import Answer

_REQUEST = b'{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true}'
_FAILED = frozenset({End.UPSTREAM_ERROR.value})
_EITHER = frozenset({End.UPSTREAM_ERROR.value, End.COMPLETE.value})
ENDS = {
    "complete": frozenset({End.COMPLETE.value}),
    "complete-with-error": frozenset({"complete with error"}),
    "incomplete": _FAILED,
    "error": _FAILED,
    "error-or-passthrough": _EITHER | {"complete with error"},
}
"""For each expectation, the outcomes that agree with it."""

_CLOSES = {
    "clean": Close.CLEAN,
    "no-last-chunk": Close.NO_LAST_CHUNK,
    "rst": Close.RST,
    "short": Close.SHORT,
    "slow-1": Close.CLEAN,
    "split": Close.CLEAN,
}


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
    expected = _known(members, "expect", name, ENDS)
    how = _known(members, "upstream_close", name, _CLOSES)
    script = Script(writes=_writes(case_bytes(members, name), how), close=_CLOSES[how])
    return Case(name=name, expected=expected, run=partial(_play, bench, script), agrees=_agrees)


def _known(members: dict[str, Any], member: str, name: str, known: dict[str, Any]) -> str:
    text = require_text(members, member, name)
    if text not in known:
        raise MalformedError(
            f'the case {name[:80]!a} has a "{member}" this topic does not know',
            code="case",
            expected=" or ".join(sorted(known)),
        )
    return text


def _writes(data: bytes, how: str) -> tuple[bytes, ...]:
    if how == "slow-1":
        return tuple(data[at : at + 1] for at in range(len(data)))
    if how == "split":
        middle = _inside_code_point(data)
        return data[:middle], data[middle:]
    return (data,)


def _inside_code_point(data: bytes) -> int:
    """An offset inside the first multi-byte code point, the middle where there is none."""
    continuing = (at for at, byte in enumerate(data) if byte & 0xC0 == 0x80)
    return next(continuing, len(data) // 2)


def _play(bench: Bench, script: Script) -> JsonValue:
    """How the receipt says the stream ended, or what is wrong with the receipt."""
    answer, _ = bench.post(_REQUEST, script)
    if answer.cut:
        return "the answer was cut"
    try:
        claims = _bound_claims(bench, answer)
    except AttestationError as error:
        return f"not bound: {error.code}"
    if claims is None:
        return f"no receipt with status {answer.status}"
    failed = "error" in claims.finish_reasons
    return f"{claims.end.value} with error" if failed else claims.end.value


def _bound_claims(bench: Bench, answer: Answer) -> ResponseClaims | None:
    """The claims about the answer, once they are proved to be about the bytes that were read."""
    token, opened = answer.headers.get("x-receipt"), answer.headers.get("x-receipt-openings")
    body = answer.body
    block = find_block(body)
    if block is not None:
        token, opened = block.token, block.openings
    if token is None or opened is None:
        return None
    receipt = parse_receipt(token)
    verify_receipt_signature(receipt, bench.receipt_key)
    claims = receipt.claims.response
    if block is not None:
        found = body[block.offset : block.offset + block.length]
        body = remove_block(body, -1 if claims.block_offset is None else claims.block_offset, found)
    key = parse_openings_header(opened).keys.get("res", b"")
    verify_commitment(claims.commitment or b"", key, Digest.of(body), what="the answer")
    if claims.length != len(body):
        raise EvidenceError("the receipt states another length", code="length")
    return claims


def _agrees(expected: JsonValue, got: JsonValue) -> bool:
    return isinstance(expected, str) and got in ENDS[expected]
