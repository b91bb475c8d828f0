"""`attested log verify` on a data folder: the log, and the records it was made from."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.log import read_records
from gateway.cli.main import main
from tests.support.notaries import running_notary, sealed


async def live(folder: Path, receipts: int) -> str:
    """One boot from start to end; the name of the folder it leaves."""
    async with running_notary(folder) as notary:
        await asyncio.gather(*(sealed(notary) for _ in range(receipts)))
        return notary.boot.evidence.statement.bootseed.hex()[:16]


class Data:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.boots: list[str] = []

    async def live(self, receipts: int = 5) -> None:
        self.boots.append(await live(self.path.parent, receipts))

    def segment(self, boot: int) -> Path:
        return self.path / self.boots[boot] / "segments" / "000000.seg"


@pytest.fixture
async def data(tmp_path: Path) -> Data:
    made = Data(tmp_path / "data")
    await made.live(200)
    await made.live(3)
    return made


def told(capsys: pytest.CaptureFixture[str], where: Path, code: int) -> dict[str, Any]:
    assert main(["log", "verify", str(where), "--json"]) == code
    value: dict[str, Any] = json.loads(capsys.readouterr().out)
    return value


def statuses(value: dict[str, Any]) -> dict[str, str]:
    return {one["boot"]: one["status"] for one in value["records"]}


async def test_records_of_every_boot_are_read_with_its_log(
    data: Data, capsys: pytest.CaptureFixture[str]
) -> None:
    value = told(capsys, data.path, 0)
    assert statuses(value) == dict.fromkeys(data.boots, "whole")
    sizes = {one["origin"].rpartition("/")[2]: one["size"] for one in value["logs"]}
    assert {one["boot"]: one["leaves"] for one in value["records"]} == sizes
    assert main(["log", "verify", str(data.path)]) == 0
    assert f"records of {data.boots[0]}: whole, " in capsys.readouterr().out


async def test_boot_whose_log_was_deleted_is_incomplete_though_its_records_are_whole(
    data: Data, capsys: pytest.CaptureFixture[str]
) -> None:
    (data.path / data.boots[0] / "log" / "checkpoint").unlink()
    value = told(capsys, data.path, 12)
    assert statuses(value) == dict.fromkeys(data.boots, "whole")
    assert value["missing"] == [str(data.path / data.boots[0])]


async def test_records_of_one_boot_are_read_with_its_log(
    data: Data, capsys: pytest.CaptureFixture[str]
) -> None:
    value = told(capsys, data.path / data.boots[0], 0)
    assert statuses(value) == {data.boots[0]: "whole"}


async def test_damaged_record_is_refused_though_the_log_holds(
    data: Data, capsys: pytest.CaptureFixture[str]
) -> None:
    segment = data.segment(0)
    content = bytearray(segment.read_bytes())
    content[len(content) // 2] ^= 1
    segment.write_bytes(content)
    value = told(capsys, data.path, 10)
    assert statuses(value) == {data.boots[0]: "damaged", data.boots[1]: "whole"}
    assert len(value["logs"]) == 2


async def test_records_taken_back_to_an_older_state_are_refused(
    data: Data, capsys: pytest.CaptureFixture[str]
) -> None:
    segment = data.segment(0)
    content = segment.read_bytes()
    segment.write_bytes(content[: len(content) // 2])
    assert statuses(told(capsys, data.path, 10))[data.boots[0]] == "shortened"


async def test_log_that_lies_is_refused_though_the_records_hold(
    data: Data, capsys: pytest.CaptureFixture[str]
) -> None:
    # The widest: narrower ones of earlier exports may lie beside it, and nobody reads them.
    tiles = (data.path / data.boots[0] / "log").rglob("tile/0/000*/*")
    tile = max(tiles, key=lambda one: int(one.name))
    content = tile.read_bytes()
    tile.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    value = told(capsys, data.path, 10)
    assert [one["origin"].rpartition("/")[2] for one in value["logs"]] == [data.boots[1]]


async def test_two_boots_that_follow_one_are_told(
    data: Data, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    aside = tmp_path / "aside"
    (data.path / data.boots[1]).rename(aside)
    (data.path / "index.sqlite").unlink(missing_ok=True)
    await data.live()
    aside.rename(data.path / data.boots[1])
    value = told(capsys, data.path, 10)
    assert "forked" in statuses(value).values()
    reasons = {one["reason"] for one in value["records"] if one["status"] == "forked"}
    assert f"each says that it follows {data.boots[0]}" in reasons


async def test_folder_under_another_name_and_a_log_alone_have_no_records(
    data: Data, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(data.path / data.boots[0], tmp_path / "copy")
    assert told(capsys, copy, 0)["records"] == []
    assert told(capsys, copy / "log", 0)["records"] == []
    assert read_records("https://gateway/v1/log") == []
    assert read_records(str(tmp_path / "absent")) == []


async def test_records_that_cannot_be_read_are_unavailable(
    data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("gateway.cli.log_records.survey", refuse)
    assert main(["log", "verify", str(data.path)]) == 14
