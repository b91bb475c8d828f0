"""A reader that shares no code with this project agrees with it about our logs and their proofs."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.errors import AttestationError
from attestation.log import Held, Resources, audit_log, read_checkpoint
from attestation.merkle import tiles, tree
from attestation.merkle.tlog_proof import TlogProof, render
from tests.independent import c2sp
from tests.independent.c2sp import WrongError, check_proof, read_log
from tests.support.tiled_logs import TiledLog, gateway_entries
from tests.vectors_path import need

ENTRIES = gateway_entries(66_000)


def read_by_both(log: TiledLog) -> tuple[bool, bool]:
    """Whether our own reader and the second one accept the log as it stands."""
    try:
        resources = Resources(log)
        signed = read_checkpoint(resources.checkpoint(), log.vkey)
        audit_log(resources, signed, held=Held())
        ours = True
    except AttestationError:
        ours = False
    try:
        read_log(log.files.get, log.vkey_text)
        theirs = True
    except WrongError:
        theirs = False
    return ours, theirs


@pytest.mark.parametrize("size", [0, 1, 2, 255, 256, 257, 1000, 66_000])
def test_log_is_read_by_the_second_reader(size: int) -> None:
    log = TiledLog(entries=ENTRIES[:size])
    head, entries = read_log(log.files.get, log.vkey_text)
    assert (head.origin, head.size) == (log.origin, size)
    assert entries == log.entries
    assert read_by_both(log) == (True, True)


def test_log_without_partial_tiles_is_read_by_the_second_reader() -> None:
    log = TiledLog(entries=ENTRIES[:512])
    log.publish(300)
    for path in ("tile/0/001.p/44", "tile/entries/001.p/44"):
        del log.files[path]
    assert read_by_both(log) == (True, True)


@given(st.integers(1, 600), st.data())
@settings(max_examples=60)
def test_both_readers_refuse_a_log_with_any_byte_changed(size: int, data: st.DataObject) -> None:
    log = TiledLog(entries=ENTRIES[:size])
    path = data.draw(st.sampled_from(sorted(log.files)))
    log.flip(path, data.draw(st.integers(0, len(log.files[path]) - 1)))
    assert read_by_both(log) == (False, False)


@given(st.integers(1, 600), st.data())
@settings(max_examples=30)
def test_both_readers_refuse_a_log_that_lacks_a_file(size: int, data: st.DataObject) -> None:
    log = TiledLog(entries=ENTRIES[:size])
    del log.files[data.draw(st.sampled_from(sorted(log.files)))]
    assert read_by_both(log) == (False, False)


@given(st.integers(1, 2000), st.data())
@settings(max_examples=60)
def test_proofs_from_tiles_are_those_of_the_definition(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    older = data.draw(st.integers(1, size))
    entries = ENTRIES[:size]
    read = Resources(TiledLog(entries=entries)).read_tile
    assert tiles.root_from_tiles(size, read) == c2sp.mth(entries)
    assert tiles.inclusion_path_from_tiles(index, size, read) == c2sp.path(index, entries)
    assert tiles.consistency_path_from_tiles(older, size, read) == c2sp.subproof(
        older, entries, True
    )
    tree.verify_consistency(
        size1=older,
        root1=c2sp.mth(entries[:older]),
        size2=size,
        root2=c2sp.mth(entries),
        path=c2sp.subproof(older, entries, True),
    )


def proof_of(log: TiledLog, index: int, *, extra: bytes | None = None) -> str:
    size = len(log.entries)
    path = tiles.inclusion_path_from_tiles(index, size, Resources(log).read_tile)
    return render(TlogProof(extra=extra, index=index, path=tuple(path), note=log.note(size)))


@given(st.integers(1, 400), st.data())
@settings(max_examples=30)
def test_proof_is_checked_by_the_second_reader(size: int, data: st.DataObject) -> None:
    log = TiledLog(entries=ENTRIES[:size])
    index = data.draw(st.integers(0, size - 1))
    text = proof_of(log, index, extra=data.draw(st.none() | st.binary(min_size=1, max_size=9)))
    assert check_proof(text, ENTRIES[index], log.vkey_text).size == size
    with pytest.raises(WrongError):
        check_proof(text, ENTRIES[index] + b"x", log.vkey_text)


def test_changed_proof_is_refused_by_the_second_reader() -> None:
    log = TiledLog(entries=ENTRIES[:300])
    text = proof_of(log, 77)
    for changed in (
        text.replace("index 77", "index 78"),
        text.replace("index 77", "index 077"),
        text.replace("index 77", "index 300"),
        text.replace("@v1", "@v2"),
        text.replace("\n300\n", "\n301\n"),
        "\n".join(text.split("\n")[:2] + text.split("\n")[3:]),
    ):
        assert changed != text
        with pytest.raises(WrongError):
            check_proof(changed, ENTRIES[77], log.vkey_text)


def test_second_reader_reads_a_log_from_elsewhere() -> None:
    folder = need("tlog-tiles")
    meaning = (folder / "manifest.json").read_text()
    (vkey,) = {word for word in meaning.split() if word.count("+") >= 2}
    sizes = [path.name.partition(".")[2] for path in folder.glob("checkpoint.*")]
    assert len(sizes) > 2
    for size in sizes:

        def read(path: str, size: str = size) -> bytes | None:
            file = folder / (f"checkpoint.{size}" if path == "checkpoint" else path)
            return file.read_bytes() if file.is_file() else None

        head, entries = read_log(read, vkey)
        assert head.size == len(entries) == int(size)


def test_second_reader_shares_no_code_with_this_project() -> None:
    parsed = ast.parse(Path(c2sp.__file__).read_text())
    imported = {
        name
        for node in ast.walk(parsed)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    packages = {name.partition(".")[0] for name in imported}
    assert packages == {
        "__future__", "base64", "collections", "cryptography", "dataclasses", "hashlib", "struct",
    }  # fmt: skip
