"""Checks on statements and locks that another one would hide."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from attestation.encoding.digest import Digest
from attestation.statement import PreviousBoot, model_lock, parse_boot_statement
from attestation.statement.model_lock import (
    MAX_PATH_CHARS,
    LockedFile,
    ModelLock,
    Role,
    parse_model_lock,
)
from tests.refusals import refusal
from tests.support.bundles import Gateway
from tests.support.epochs import EpochLog


def continuing() -> dict[str, Any]:
    log = EpochLog(Gateway())
    prev = PreviousBoot(checkpoint=log.note(log.checkpoint()), quote_digest=log.made.quote_digest)
    statement = replace(Gateway(seed="b").evidence.statement, prev=prev)
    value: dict[str, Any] = statement.to_json()
    assert parse_boot_statement(value) == statement
    return value


def test_named_predecessor_has_closed_members() -> None:
    value = continuing()
    value["prev"]["more"] = 1
    assert refusal(parse_boot_statement, value) == "unknown_member"


def test_named_checkpoint_is_bounded() -> None:
    value = continuing()
    value["prev"]["checkpoint"] += value["prev"]["checkpoint"].splitlines()[-1] + "\n"
    assert parse_boot_statement(value).prev is not None
    line = value["prev"]["checkpoint"].splitlines()[-1] + "\n"
    value["prev"]["checkpoint"] += line * (4096 // len(line))
    assert refusal(parse_boot_statement, value) == "member_value"


def lock(*paths: str) -> bytes:
    files = tuple(
        LockedFile(path=path, role=Role.OTHER, sha256=Digest.of(b""), size=1) for path in paths
    )
    return ModelLock(model="tiny", files=files, source=None, engine=None).canonical


def test_lock_lists_a_bounded_number_of_files(monkeypatch: pytest.MonkeyPatch) -> None:
    data = lock("a", "b")
    monkeypatch.setattr(model_lock, "MAX_FILES", 2)
    assert len(parse_model_lock(data).files) == 2
    monkeypatch.setattr(model_lock, "MAX_FILES", 1)
    assert refusal(parse_model_lock, data) == "member_value"


def test_path_of_a_locked_file_may_be_as_long_as_the_bound() -> None:
    path = "a/" * (MAX_PATH_CHARS // 2 - 1) + "bc"
    assert parse_model_lock(lock(path)).files[0].path == path
