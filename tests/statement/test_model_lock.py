"""The model lock: its one form, and everything that is not it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.encoding import jcs
from attestation.encoding.digest import Digest
from attestation.errors import MalformedError
from attestation.statement.model_lock import (
    MAX_ARGUMENTS,
    MAX_FILES,
    LockedEngine,
    LockedFile,
    ModelLock,
    ModelSource,
    Role,
    parse_model_lock,
    require_distinct_paths,
    require_path,
)
from tests.refusals import refusal


def file(path: str, **changes: Any) -> LockedFile:
    base = LockedFile(path=path, role=Role.OTHER, sha256=Digest.of(path.encode()), size=3)
    return replace(base, **changes)


LOCK = ModelLock(
    model="tiny",
    files=(file("config.json", role=Role.CONFIG), file("model.safetensors", role=Role.WEIGHTS)),
    source=ModelSource(repository="org/tiny", revision="0" * 40),
    engine=LockedEngine(
        name="vllm", version="0.32.0", arguments=("--max-model-len=4096", "--speculative={}")
    ),
)


def changed(change: Callable[[dict[str, Any]], object]) -> bytes:
    document = json.loads(LOCK.canonical)
    change(document)
    return jcs.canonicalize(document)


def test_lock_reads_back_as_itself() -> None:
    assert parse_model_lock(LOCK.canonical) == LOCK


def test_model_digest_is_the_sha256_of_the_file() -> None:
    assert LOCK.digest.hex == hashlib.sha256(LOCK.canonical).hexdigest()


def test_arguments_digest_is_that_of_the_canonical_array() -> None:
    assert LOCK.engine is not None
    expected = b'["--max-model-len=4096","--speculative={}"]'
    assert LOCK.engine.arguments_digest == Digest.of(expected)


def test_a_lock_without_engine_and_source_is_one() -> None:
    lock = replace(LOCK, source=None, engine=None)
    assert parse_model_lock(lock.canonical) == lock
    assert lock.facts()["engine"] is lock.facts()["engine_args_digest"] is None


def test_facts_name_model_source_engine_and_size() -> None:
    assert LOCK.facts() == {
        "digest": LOCK.digest.hex,
        "model": "tiny",
        "source": "org/tiny@" + "0" * 40,
        "engine": "vllm/0.32.0",
        "engine_args_digest": LOCK.engine and LOCK.engine.arguments_digest.hex,
        "files": 2,
        "bytes": 6,
    }


def test_what_a_gateway_measures_are_the_digests_of_lock_and_arguments() -> None:
    measured = LOCK.measured
    assert measured is not None
    assert LOCK.engine is not None
    assert (measured.digest, measured.engine) == (LOCK.digest, str(LOCK.engine))
    assert measured.arguments_digest == LOCK.engine.arguments_digest


def test_a_lock_without_engine_is_nothing_to_measure() -> None:
    assert replace(LOCK, engine=None).measured is None


@pytest.mark.parametrize("form", [LOCK.canonical + b"\n", b" " + LOCK.canonical, b"{}", b"[]"])
def test_any_other_bytes_are_refused(form: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_model_lock(form)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(extra=1),
        lambda d: d.update(schema="attested-gateway/model-lock/v2"),
        lambda d: d.update(model="two words"),
        lambda d: d.update(model=""),
        lambda d: d.update(model="m" * 129),
        lambda d: d.pop("engine"),
        lambda d: d.pop("source"),
        lambda d: d["source"].update(repo="/org/tiny"),
        lambda d: d["source"].update(repo="o" * 129),
        lambda d: d["source"].update(revision="feature/x"),
        lambda d: d["source"].update(url="x"),
        lambda d: d["engine"].update(name="v" * 16),
        lambda d: d["engine"].update(version="1 2"),
        lambda d: d["engine"].update(version="1" * 25),
        lambda d: d["engine"].update(environment=[]),
        lambda d: d["engine"].update(arguments=["a"] * (MAX_ARGUMENTS + 1)),
        lambda d: d["files"][0].update(role="binary"),
        lambda d: d["files"][0].update(size=-1),
        lambda d: d["files"][0].update(sha256="00"),
        lambda d: d["files"][0].update(mode=0o644),
        lambda d: d.update(files=d["files"] * (MAX_FILES // 2 + 1)),
    ],
)
def test_member_outside_the_closed_format_is_refused(
    change: Callable[[dict[str, Any]], object],
) -> None:
    with pytest.raises(MalformedError):
        parse_model_lock(changed(change))


@pytest.mark.parametrize("argument", ["a\nb", "a\x1b[2J", "a" * 4097, 1, None])
def test_argument_that_is_not_printable_text_is_refused(argument: object) -> None:
    data = changed(lambda d: d["engine"].update(arguments=[argument]))
    assert refusal(parse_model_lock, data) == "engine_argument"


def test_argument_may_be_empty_and_as_long_as_the_bound() -> None:
    data = changed(lambda d: d["engine"].update(arguments=["", "a" * 4096]))
    assert parse_model_lock(data).engine is not None


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "a/",
        "a//b",
        ".",
        "./a",
        "..",
        "a/../b",
        "a\\b",
        "a\x00b",
        "a\nb",
        "a\x7f",
        "a\u202eb",
        "\ud800",
        "e\u0301",
        "a" * 256,
        "/".join(["a" * 255] * 3),
    ],
)
def test_path_that_could_mean_something_else_is_refused(path: str) -> None:
    assert refusal(require_path, path) == "model_path"


def test_path_in_a_lock_goes_through_the_same_rule() -> None:
    data = changed(lambda d: d["files"][0].update(path="../config.json"))
    assert refusal(parse_model_lock, data) == "model_path"


@pytest.mark.parametrize("path", ["a", "a/b.c", "ä/…", "a b", "a" * 255, "a/" + "b" * 255])
def test_plain_path_stands_as_it_is(path: str) -> None:
    assert require_path(path) == path


@pytest.mark.parametrize(
    "paths",
    [
        [],
        ["b", "a"],
        ["a", "a"],
        ["Config.json", "config.json"],
        ["STRASSE", "stra\u00dfe"],
        ["a", "a/b"],
        ["A", "a/b/c"],
    ],
)
def test_paths_that_are_not_ascending_and_distinct_everywhere_are_refused(
    paths: list[str],
) -> None:
    assert refusal(require_distinct_paths, paths) == "model_files"


def test_order_of_files_in_a_lock_is_checked() -> None:
    data = changed(lambda d: d["files"].reverse())
    assert refusal(parse_model_lock, data) == "model_files"


def test_names_that_share_a_beginning_are_different_files() -> None:
    require_distinct_paths(["a", "a.b", "a.b.c", "ab/c", "ab/d"])


PATHS = st.lists(
    st.from_regex(r"[a-z]{1,3}(/[a-z]{1,3})?", fullmatch=True), min_size=1, unique=True
)


@given(PATHS, st.text(max_size=20))
def test_every_lock_that_is_accepted_reads_back_as_its_own_bytes(
    paths: list[str], argument: str
) -> None:
    lock = ModelLock(
        model="m",
        files=tuple(file(path) for path in sorted(paths)),
        engine=LockedEngine(name="e", version="1", arguments=(argument,)),
    )
    try:
        data = lock.canonical
        parsed = parse_model_lock(data)
    except MalformedError:
        return
    assert parsed.canonical == data
