"""The keys file: what it stores, what it refuses, how it changes."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import MalformedError, UnavailableError, UsageError
from gateway.access import keyfile
from gateway.access.keyfile import add_key, load_keys, new_key, parse_keys, revoke_key
from gateway.access.principal import Grant, subject_of

NOW = 1_800_000_000


def add(path: Path, label: str = "", grant: Grant | None = None) -> str:
    return add_key(path, label=label, grant=grant or Grant(), now=NOW)


def document(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def rewritten(path: Path, **changes: object) -> bytes:
    """The file's bytes with members of its first key replaced."""
    content = document(path)
    content["keys"][0] |= changes
    return json.dumps(content).encode()


def test_key_has_the_prefix_and_256_random_bits() -> None:
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(key.startswith("ag-") and len(key) == 3 + 43 for key in keys)


def test_file_holds_the_digest_and_never_the_key(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    key = add(path, "agent")
    (record,) = load_keys(path)
    assert record.sub == subject_of(key.encode())
    assert record.label == "agent"
    assert key.encode() not in path.read_bytes()
    assert key.removeprefix("ag-").encode() not in path.read_bytes()


def test_subject_is_the_labelled_hash_of_the_key() -> None:
    expected = hashlib.sha256(b"attested-gateway/key/v1/" + b"ag-x").digest()
    assert subject_of(b"ag-x").value == expected


def test_file_is_private_and_no_temporary_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    add(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert {item.name for item in tmp_path.iterdir()} == {"keys.json", "keys.json.lock"}


def test_file_that_others_may_write_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    add(path)
    path.chmod(0o620)
    with pytest.raises(UsageError) as refusal:
        load_keys(path)
    assert "chmod 600" in str(refusal.value)


def test_absent_file_is_reported_with_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError) as refusal:
        load_keys(tmp_path / "none.json")
    assert "attested keys add" in str(refusal.value)


def test_folder_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UnavailableError):
        add(tmp_path / "file" / "keys.json")


def test_revoked_key_stays_listed_with_the_time(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    add(path, "one")
    add(path, "two")
    revoke_key(path, name="one", now=NOW + 5)
    states = {record.label: record.revoked for record in load_keys(path)}
    assert states == {"one": NOW + 5, "two": None}


def test_key_can_be_revoked_by_the_beginning_of_its_digest(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    key = add(path)
    revoked = revoke_key(path, name=subject_of(key.encode()).base64url[:8], now=NOW)
    assert revoked.sub == subject_of(key.encode())


@pytest.mark.parametrize("name", ["twin", "", "nobody", "short"])
def test_name_of_no_single_key_revokes_nothing(tmp_path: Path, name: str) -> None:
    path = tmp_path / "keys.json"
    add(path, "twin")
    add(path, "twin")
    add(path, "")
    before = path.read_bytes()
    with pytest.raises(UsageError):
        revoke_key(path, name=name, now=NOW)
    assert path.read_bytes() == before


def test_key_cannot_be_revoked_twice(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    add(path, "one")
    revoke_key(path, name="one", now=NOW)
    with pytest.raises(UsageError):
        revoke_key(path, name="one", now=NOW)


@pytest.mark.parametrize(
    "grant",
    [
        Grant(routes=("no-slash",)),
        Grant(models=("a b",)),
        Grant(models=("x" * 129,)),
        Grant(concurrency=0),
        Grant(concurrency=100_001),
        Grant(expires=-1),
    ],
)
def test_grant_that_could_not_be_read_back_is_not_written(tmp_path: Path, grant: Grant) -> None:
    path = tmp_path / "keys.json"
    with pytest.raises(UsageError):
        add(path, grant=grant)
    assert not path.exists()


@pytest.mark.parametrize("label", ["a" * 65, "line\nbreak", "ünïcode", "quote'"])
def test_label_outside_the_alphabet_is_refused(tmp_path: Path, label: str) -> None:
    with pytest.raises(UsageError):
        add(tmp_path / "keys.json", label)


def test_damaged_file_is_named_and_nothing_is_added_to_it(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text("garbage")
    path.chmod(0o600)
    with pytest.raises(MalformedError, match=r"keys\.json cannot be used"):
        add(path)
    assert path.read_text() == "garbage"


@pytest.mark.parametrize(
    "changes",
    [
        {"extra": 1},
        {"sub": "short"},
        {"created": "yesterday"},
        {"revoked": True},
        {"label": 5},
        {"grant": {}},
        {"grant": {"routes": ["*"], "models": ["*"], "concurrency": 1, "expires": None, "x": 1}},
        {"grant": {"routes": "*", "models": ["*"], "concurrency": 1, "expires": None}},
        {"grant": {"routes": [1], "models": ["*"], "concurrency": 1, "expires": None}},
        {"grant": {"routes": ["*"], "models": ["*"], "concurrency": 1.0, "expires": None}},
    ],
)
def test_record_that_is_not_understood_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = tmp_path / "keys.json"
    add(path)
    with pytest.raises(MalformedError):
        parse_keys(rewritten(path, **changes))


def test_one_key_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    add(path)
    content = document(path)
    content["keys"] *= 2
    with pytest.raises(MalformedError):
        parse_keys(json.dumps(content).encode())


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b'{"keys":[],"schema":"other"}', b'{"keys":[],"keys":[]}']
)
def test_other_documents_are_refused(data: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_keys(data)


def test_oversize_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "keys.json"
    add(path)
    monkeypatch.setattr(keyfile, "_MAX_FILE_BYTES", 10)
    with pytest.raises(MalformedError):
        load_keys(path)


@given(st.binary(max_size=200))
def test_only_malformed_error_leaves_the_parser(data: bytes) -> None:
    try:
        parse_keys(data)
    except MalformedError:
        return
    raise AssertionError("random bytes were accepted as a keys file")


def test_grant_digest_does_not_depend_on_the_order_of_names() -> None:
    one = Grant(models=("a", "b"), routes=("/x", "/y"))
    two = Grant(models=("b", "a"), routes=("/y", "/x"))
    assert one.digest == two.digest


@pytest.mark.parametrize(
    "other",
    [Grant(models=("a",)), Grant(routes=("/v1/x",)), Grant(concurrency=1), Grant(expires=5)],
)
def test_grant_digest_covers_every_member(other: Grant) -> None:
    assert other.digest != Grant().digest


def _add_many(path: str, count: int) -> None:
    for _ in range(count):
        add(Path(path))


def test_commands_running_at_once_lose_no_key(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_add_many, args=(str(path), 5)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert len(load_keys(path)) == 15
