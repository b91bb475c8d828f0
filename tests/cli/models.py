"""A folder that is a model, and what `attested model` says of it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from attestation.cli.main import main
from attestation.cli.model_folder import (
    BLOCK_BYTES,
)
from attestation.statement.model_lock import (
    ModelLock,
    parse_model_lock,
)

REVISION = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "chat_template.jinja": b"{{ messages }}",
    "config.json": b"{}",
    "model-00001.safetensors": b"w" * (BLOCK_BYTES + 7),
    "sub/tokenizer.json": b"{}",
}


def made(folder: Path, *more: str) -> ModelLock:
    """Lock a folder with the command, into a file beside it, in place of an earlier one."""
    out = folder.parent / "model.lock"
    named = ["--name", "tiny", "-o", str(out), "--force"]
    assert main(["model", "lock", str(folder), *named, *more]) == 0
    return parse_model_lock(out.read_bytes())


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    capsys.readouterr()
    code = main(["model", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def verified(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> tuple[int, list[tuple[str, str]], dict[str, Any]]:
    """Verify a folder against the lock beside it: exit code, problems, the whole document."""
    code, output = refused(capsys, "verify", folder, folder.parent / "model.lock", "--json")
    document = json.loads(output)
    assert document["exit_code"] == code
    return code, [(one["problem"], one["path"]) for one in document["problems"]], document


def special(folder: Path, kind: str) -> None:
    place = folder / "special"
    if kind == "fifo":
        os.mkfifo(place)
    elif kind == "dangling":
        place.symlink_to("nowhere")
    elif kind == "loop":
        place.symlink_to("special")
    else:
        place.symlink_to("sub")
