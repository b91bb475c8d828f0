"""Topic `merkle`: arrays of inclusion and consistency proofs; `wantErr` means refuse."""

from __future__ import annotations

import base64
import binascii
from functools import partial
from typing import TYPE_CHECKING, Any

from attestation.conformance.case import Case, accept_or_reject
from attestation.conformance.files import require_flag, require_list, require_text, unknown_shape
from attestation.errors import MalformedError
from attestation.merkle.tree import verify_consistency, verify_inclusion

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import ExitStack

    from attestation.conformance.files import VectorDirectory

_INCLUSION = {"leafIdx", "treeSize", "root", "leafHash", "proof", "wantErr"}
_CONSISTENCY = {"size1", "size2", "root1", "root2", "proof", "wantErr"}


def cases(directory: VectorDirectory, _resources: ExitStack) -> Iterator[Case]:
    """Yield a case for every item of every listed array."""
    for file in directory.listed_files():
        if not file.endswith(".json"):
            raise unknown_shape(file)
        for item in require_list(directory.read_json(file), file):
            name = f"{file}#{require_text(item, 'name', f'a case of {file}')}"
            yield Case(
                name=name,
                expected="reject" if require_flag(item, "wantErr", name) else "accept",
                run=partial(accept_or_reject, _check(item, name)),
            )


def _check(item: dict[str, Any], name: str) -> Callable[[], None]:
    path = [_hash(node, name) for node in _proof(item, name)]
    if item.keys() >= _INCLUSION:
        return partial(
            verify_inclusion,
            leaf_hash=_hash(item["leafHash"], name),
            index=_integer(item, "leafIdx", name),
            size=_integer(item, "treeSize", name),
            path=path,
            root=_hash(item["root"], name),
        )
    if item.keys() >= _CONSISTENCY:
        return partial(
            verify_consistency,
            size1=_integer(item, "size1", name),
            root1=_hash(item["root1"], name),
            size2=_integer(item, "size2", name),
            root2=_hash(item["root2"], name),
            path=path,
        )
    raise unknown_shape(name)


def _proof(item: dict[str, Any], name: str) -> list[Any]:
    proof = item.get("proof")
    if proof is not None and not isinstance(proof, list):
        raise _unusable(name, "an array or null as proof")
    return proof or []


def _hash(value: object, name: str) -> bytes:
    """Decode whatever bytes the case gives for a hash: a wrong length is the product's to see."""
    if value is None:
        return b""
    try:
        return base64.b64decode(value if isinstance(value, str) else "*", validate=True)
    except (binascii.Error, ValueError):
        raise _unusable(name, "hashes in standard base64") from None


def _integer(item: dict[str, Any], member: str, name: str) -> int:
    value = item[member]
    if type(value) is not int:
        raise _unusable(name, f"an integer {member}")
    return value


def _unusable(name: str, expected: str) -> MalformedError:
    return MalformedError(f"the case {name[:80]!a} is not usable", code="case", expected=expected)
