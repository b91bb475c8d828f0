"""Settings of a gateway that could start, and what `attested doctor` finds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.access.keyfile import add_key
from gateway.access.principal import Grant
from gateway.cli import main as program

UNAVAILABLE, USAGE = 14, 2
NOW = 1_763_668_800


def config(folder: Path, url: str, **evidence: str) -> list[str]:
    """Settings of a gateway that could start, with one key; the arguments that name them."""
    keys = folder / "keys.json"
    if not keys.exists():
        add_key(keys, label="secret-label", grant=Grant(), now=NOW)
    (folder / "data").mkdir(mode=0o700, exist_ok=True)
    lines = "".join(
        f"{name} = {json.dumps(value)}\n"
        for name, value in ({"provider": "simulated:"} | evidence).items()
    )
    path = folder / "gateway.toml"
    path.write_text(
        f'[upstream]\nurl = "{url}"\n[access]\nkeys_file = "{keys}"\n'
        f'[notary]\ndata_dir = "{folder}/data"\n[evidence]\n{lines}'
    )
    return ["--config", str(path)]


def doctor(*arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    code = program.main(["doctor", "--json", *arguments])
    document = json.loads(capsys.readouterr().out)
    assert document["exit_code"] == code
    return code, {each["id"]: each for each in document["findings"]}


def levels(found: dict[str, Any], *names: str) -> list[str]:
    return [found[name]["level"] for name in names]
