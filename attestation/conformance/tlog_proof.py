"""Topic `tlog-proof`: an object with `vkey`, `origin` and `cases` of `proof` and `leaf_b64`."""

from __future__ import annotations

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
from attestation.conformance.inputs import decode_base64
from attestation.merkle.note import parse_vkey
from attestation.merkle.tlog_proof import parse_tlog_proof, verify_tlog_proof
from attestation.merkle.tree import leaf_hash

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import ExitStack

    from attestation.conformance.files import VectorDirectory


def cases(directory: VectorDirectory, _resources: ExitStack) -> Iterator[Case]:
    """Yield a case for every proof of every listed file."""
    for file in directory.listed_files():
        if not file.endswith(".json"):
            raise unknown_shape(file)
        log = require_object(directory.read_json(file), file)
        vkey = require_text(log, "vkey", file)
        origin = require_text(log, "origin", file)
        for item in require_list(log.get("cases"), f"cases of {file}"):
            yield _case(item, vkey, origin, file)


def _case(item: dict[str, Any], vkey: str, origin: str, file: str) -> Case:
    name = require_text(item, "id", f"a case of {file}")
    proof = require_text(item, "proof", name)
    leaf = decode_base64(item, "leaf_b64", name)
    return Case(
        name=name,
        expected="accept" if require_flag(item, "valid", name) else "reject",
        run=partial(accept_or_reject, partial(_verify, proof, leaf, vkey, origin)),
    )


def _verify(proof: str, leaf: bytes, vkey: str, origin: str) -> None:
    verify_tlog_proof(
        parse_tlog_proof(proof),
        leaf_hash=leaf_hash(leaf),
        vkeys=[parse_vkey(vkey)],
        origin=origin,
    )
