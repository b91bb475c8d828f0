"""Files of a model that change while they are read have no digest."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from attestation.cli.model_folder import (
    BLOCK_BYTES,
    Entry,
    hash_files,
    open_folder,
    survey,
)
from attestation.errors import UnavailableError
from tests.cli.models import made, refused, verified


def told_while_reading(place: Path, change: Any) -> UnavailableError:
    entry = Entry(path="w", place=place, size=place.stat().st_size)
    ((_, answer),) = hash_files([entry], lambda _count: change())
    assert isinstance(answer, UnavailableError)
    return answer


def test_file_that_grows_while_it_is_read_has_no_digest(model: Path) -> None:
    place = model / "model-00001.safetensors"

    def append() -> None:
        if place.stat().st_size < 2 * BLOCK_BYTES:
            with place.open("ab") as file:
                file.write(b"x" * BLOCK_BYTES)

    assert told_while_reading(place, append).code == "model_changed"


def test_file_that_is_overwritten_while_it_is_read_has_no_digest(model: Path) -> None:
    place = model / "model-00001.safetensors"
    os.utime(place, ns=(1, 1))

    def overwrite() -> None:
        with place.open("r+b") as file:
            file.write(b"v")

    assert told_while_reading(place, overwrite).code == "model_changed"


def test_file_that_changed_between_survey_and_reading_has_no_digest(model: Path) -> None:
    (entry, *_) = survey(open_folder(str(model), None)).entries
    ((_, answer),) = hash_files([replace(entry, size=entry.size + 1)], lambda _count: None)
    assert isinstance(answer, UnavailableError)


def test_file_that_is_gone_or_a_link_by_now_is_named(model: Path) -> None:
    place = model / "config.json"
    entry = Entry(path="config.json", place=place, size=2)
    place.unlink()
    place.symlink_to("sub/tokenizer.json")
    ((_, answer),) = hash_files([entry], lambda _count: None)
    assert isinstance(answer, UnavailableError)
    assert "config.json" in answer.message


def test_command_stops_at_the_file_it_cannot_read(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made(model)
    genuine = os.open

    def failing(path: Any, flags: int, *more: Any) -> int:
        if str(path).endswith("config.json"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return genuine(path, flags, *more)

    monkeypatch.setattr(os, "open", failing)
    assert refused(capsys, "lock", model, "--name", "tiny")[0] == 14
    assert verified(model, capsys)[:2] == (14, [("unreadable", "config.json")])
