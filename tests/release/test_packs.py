"""Descriptions of packs, locks of engines, and root hashes on a command line."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.encoding import jcs
from attestation.encoding.digest import Digest
from attestation.errors import EvidenceError, MalformedError
from attestation.release.packs import (
    EngineEntry,
    PackKind,
    parse_engine_lock,
    parse_pack_description,
    require_packs_named,
    roots_on,
    seeds_of,
    tree_digest,
)
from tests.refusals import refusal
from tests.release.builders import ENGINE_LOCK, LOCK, description

ROOT = Digest.of(b"root")
ENTRIES = [
    EngineEntry(path="bin/python", content="/usr/bin/python3"),
    EngineEntry(path="bin/vllm", content=Digest.of(b"#!"), executable=True),
    EngineEntry(path="lib/a.py", content=Digest.of(b"a")),
]


def test_description_reads_back_as_it_was() -> None:
    assert parse_pack_description(description().canonical) == description()


def test_engine_lock_reads_back_as_it_was() -> None:
    assert parse_engine_lock(ENGINE_LOCK.canonical) == ENGINE_LOCK


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "gpu"}, {"schema": "attested-gateway/pack/v2"}, {"root": "00"}, {"size": -1},
        {"size": True}, {"tool": ""}, {"name": "a b"}, {"more": 1}, {"lock": None},
        {"sha256": "A" * 64},
    ],
)  # fmt: skip
def test_description_in_another_form_is_refused(changes: dict[str, Any]) -> None:
    value = description().to_json() | changes
    refusal(parse_pack_description, jcs.canonicalize(value))


@pytest.mark.parametrize(
    "changes",
    [
        {"files": 0},
        {"version": "a b"},
        {"schema": "x"},
        {"tree": "0"},
        {"more": 1},
        {"name": ""},
        {"version": ""},
        {"version": ".."},
        {"name": "a/.."},
        {"name": "a b"},
        {"name": "v" * 65},
    ],
)
def test_engine_lock_in_another_form_is_refused(changes: dict[str, Any]) -> None:
    refusal(parse_engine_lock, jcs.canonicalize(ENGINE_LOCK.to_json() | changes))


@pytest.mark.parametrize("parse", [parse_pack_description, parse_engine_lock])
def test_white_space_makes_another_file(parse: Callable[[bytes], object]) -> None:
    value = description().to_json() if parse is parse_pack_description else ENGINE_LOCK.to_json()
    assert refusal(parse, json.dumps(value).encode()) == "not_canonical"


@given(st.binary(max_size=200))
def test_no_bytes_make_the_parsers_fail_otherwise(data: bytes) -> None:
    for parse in (parse_pack_description, parse_engine_lock):
        with pytest.raises(MalformedError):
            parse(data)


@pytest.mark.parametrize("parse", [parse_pack_description, parse_engine_lock])
def test_file_of_more_than_64_kibibytes_is_not_read(parse: Callable[[bytes], object]) -> None:
    assert refusal(parse, b" " * ((1 << 16) + 1)) == "size"


def test_fixed_values_are_those_of_the_document() -> None:
    name = f"attested-gateway/pack/v1/model/{LOCK.hex}"
    space = uuid.UUID("9d0c8c4f-6c1e-5d1b-8a55-1c5b0f2f7d10")
    made = seeds_of(PackKind.MODEL, LOCK)
    assert made.salt == hashlib.sha256(name.encode()).digest()
    assert made.erofs_uuid == uuid.uuid5(space, f"{name}/erofs")
    assert made.verity_uuid == uuid.uuid5(space, f"{name}/verity")


def test_fixed_values_differ_between_kinds_and_locks() -> None:
    found = [
        seeds_of(PackKind.MODEL, LOCK),
        seeds_of(PackKind.ENGINE, LOCK),
        seeds_of(PackKind.MODEL, Digest.of(b"another lock")),
    ]
    assert len({one.salt for one in found}) == 3
    assert len({name for one in found for name in (one.verity_uuid, one.erofs_uuid)}) == 6
    assert seeds_of(PackKind.MODEL, LOCK) == found[0]


def test_listing_does_not_depend_on_the_order_of_its_entries() -> None:
    assert tree_digest(ENTRIES) == tree_digest(ENTRIES[::-1])


@pytest.mark.parametrize(
    "other",
    [
        EngineEntry(path="bin/vllm", content=Digest.of(b"#!")),
        EngineEntry(path="bin/vllm", content=Digest.of(b"#?"), executable=True),
        EngineEntry(path="bin/vllm", content=Digest.of(b"#!").hex),
        EngineEntry(path="bin/vlln", content=Digest.of(b"#!"), executable=True),
    ],
)
def test_listing_of_another_file_has_another_digest(other: EngineEntry) -> None:
    assert tree_digest([ENTRIES[0], other, ENTRIES[2]]) != tree_digest(ENTRIES)


def test_root_hashes_are_found_on_a_command_line() -> None:
    model, engine = description(), description(PackKind.ENGINE)
    line = f"ro {model.argument} attested.models=1 quiet {engine.argument}"
    assert roots_on(line) == {PackKind.MODEL: model.root, PackKind.ENGINE: engine.root}
    require_packs_named([engine, model], line)
    require_packs_named([], "ro quiet")


@pytest.mark.parametrize("value", ["", "00", "Z" * 64, ROOT.hex.upper()])
def test_root_hash_in_another_form_is_refused(value: str) -> None:
    assert refusal(roots_on, f"attested.model={value}") == "digest"


def test_root_hash_that_stands_twice_is_refused() -> None:
    word = description().argument
    assert refusal(roots_on, f"{word} {word}") == "command_line"


@pytest.mark.parametrize(
    "line", ["ro", f"attested.model={ROOT.hex}", f"attested.engine={ROOT.hex}"]
)
def test_command_line_with_other_packs_is_refused(line: str) -> None:
    code = refusal(require_packs_named, [description()], line, error=EvidenceError)
    assert code == "pack_root"


def test_command_line_with_one_pack_more_is_refused() -> None:
    line = f"{description().argument} attested.engine={ROOT.hex}"
    code = refusal(require_packs_named, [description()], line, error=EvidenceError)
    assert code == "pack_root"


def test_locks_lie_where_no_model_file_can() -> None:
    assert PackKind.MODEL.lock_path == ".attested/model.lock"
    assert PackKind.ENGINE.lock_path == ".attested/engine.json"
