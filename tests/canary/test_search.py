"""The search finds what is there: without this, finding nothing would prove nothing."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.canary.search import Canary, files_below, hits

TOKEN = Canary().hidden.encode()
PLANTED = {
    "as it is": TOKEN,
    "other case": TOKEN.upper(),
    "json": json.dumps({"prompt": TOKEN.decode()}).encode(),
    "repr": repr(ValueError(TOKEN)).encode(),
    "hex": TOKEN.hex().encode(),
    "HEX": TOKEN.hex().upper().encode(),
    "percent": "".join(f"%{byte:02X}" for byte in TOKEN).encode(),
    "query": quote(f"?a={TOKEN.decode()}").encode(),
    "utf-16": TOKEN.decode().encode("utf-16-le"),
    **{
        f"base64 after {length}": base64.b64encode(b"x" * length + TOKEN + b"y" * 5)
        for length in range(7)
    },
    **{
        f"base64url after {length}": base64.urlsafe_b64encode(b"\xff" * length + TOKEN + b"\xfe")
        for length in range(7)
    },
}


@pytest.mark.parametrize("form", PLANTED)
def test_planted_token_is_found_in_every_form(form: str) -> None:
    assert hits(TOKEN, {"a": b"log line " + PLANTED[form] + b" end\n", "b": b"nothing"})


def test_token_of_another_run_is_not_found() -> None:
    other = Canary().hidden.encode()
    places = {form: data for form, data in PLANTED.items() if form != "other"}
    assert hits(other, places) == []


def test_token_is_found_in_files_of_nested_folders_and_in_their_names(tmp_path: Path) -> None:
    inner = tmp_path / "data" / "deep"
    inner.mkdir(parents=True)
    (inner / "innocent").write_bytes(b"\x00\x01" + TOKEN + b"\xff")
    (inner / f"name-{TOKEN.decode()}").write_bytes(b"")
    found = hits(TOKEN, files_below(tmp_path))
    assert {name.partition(" (")[0] for name in found} == {
        "data/deep/innocent",
        f"data/deep/name-{TOKEN.decode()}",
    }


def test_random_bytes_hold_no_token() -> None:
    assert hits(TOKEN, {"noise": bytes(range(256)) * 400}) == []
