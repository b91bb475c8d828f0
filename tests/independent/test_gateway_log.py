"""The log that a running gateway leaves on its disk and shows: read by three implementations."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from attestation.cli.main import main
from attestation.log import Held, LogReport, Resources, audit_log, log_entry, read_checkpoint
from attestation.log.entries import Leaf
from attestation.merkle.note import Vkey
from gateway.notary.interface import Boot, SealedReceipt
from gateway.notary.local import LocalNotary
from tests.independent.c2sp import Read, read_log
from tests.independent.conftest import GoReader, report_of
from tests.support.notaries import running_notary, sealed

RECEIPTS = 600


@dataclass(frozen=True)
class Life:
    """One boot of a gateway: what it left, and the receipts it gave out."""

    data: Path
    boot: Boot
    receipts: list[SealedReceipt]

    @property
    def folder(self) -> Path:
        return self.data / self.boot.evidence.statement.bootseed.hex()[:16]

    @property
    def vkey(self) -> str:
        return self.boot.evidence.keyset.log_vkey


async def live(folder: Path, receipts: int) -> Life:
    async with running_notary(folder) as notary:
        given = await asyncio.gather(*(sealed(notary) for _ in range(receipts)))
        return Life(folder / "data", notary.boot, list(given))


@pytest.fixture
async def lives(tmp_path: Path) -> list[Life]:
    return [await live(tmp_path, RECEIPTS), await live(tmp_path, 3)]


async def test_log_of_every_boot_is_verified_and_monitored(
    lives: list[Life], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = str(lives[0].data)
    assert main(["log", "verify", data, "--json"]) == 0
    logs = {one["origin"]: one for one in json.loads(capsys.readouterr().out)["logs"]}
    for life in lives:
        one = logs[life.boot.evidence.statement.log_origin]
        assert one["entries"]["boot"] == 1
        assert one["entries"]["receipt"] == len(life.receipts)
        assert one["entries"]["epoch"] >= 1
        assert one["size"] == sum(one["entries"].values())
    state = ["--state", str(tmp_path / "seen.json")]
    assert main(["log", "monitor", str(lives[0].folder), *state]) == 0
    # The second boot names the first one's last checkpoint, which must not be older than ours.
    assert main(["log", "monitor", data, *state]) == 0


async def test_every_receipt_given_out_is_in_the_log_at_its_index(lives: list[Life]) -> None:
    for life in lives:
        _, entries = read_log(reader(life), life.vkey)
        assert entries[0] == log_entry(Leaf.BOOT, life.boot.evidence.statement.digest)
        for receipt in life.receipts:
            assert entries[receipt.index] == log_entry(Leaf.RECEIPT, receipt.digest)


async def test_go_reads_the_log_a_gateway_left(lives: list[Life], gocheck: GoReader) -> None:
    for life in lives:
        report = report_of(gocheck(life.vkey, life.folder / "log"))
        assert report["entries"] == report["size"] > len(life.receipts)


async def test_log_of_a_running_gateway_grows_consistently(tmp_path: Path) -> None:
    async with running_notary(tmp_path) as notary:
        vkey = notary.boot.evidence.keyset.log_key
        seen: list[LogReport] = []
        for number in range(1, 5):
            await asyncio.gather(*(sealed(notary) for _ in range(150)))
            report = await look(notary, vkey, seen)
            async with asyncio.timeout(60):
                while report.signed.checkpoint.size <= 150 * number:
                    # A reader outside has nothing to wait for but the next checkpoint.
                    await asyncio.sleep(0.05)
                    report = await look(notary, vkey, seen)
            seen.append(report)
        sizes = [one.signed.checkpoint.size for one in seen]
        assert sizes == sorted(sizes)
        assert seen[-1].consistent == tuple(sizes[:-1])


async def look(notary: LocalNotary, vkey: Vkey, seen: list[LogReport]) -> LogReport:
    """Read the log through the notary's own interface, and hold all earlier checkpoints to it."""
    loop = asyncio.get_running_loop()

    class Shown:
        def read(self, path: str, *, limit: int) -> bytes | None:
            data = asyncio.run_coroutine_threadsafe(notary.read_log(path), loop).result(60)
            assert data is None or len(data) <= limit
            return data

    def audit() -> LogReport:
        resources = Resources(Shown())
        signed = read_checkpoint(resources.checkpoint(), vkey)
        held = Held(checkpoints=tuple(one.signed for one in seen))
        return audit_log(resources, signed, held=held)

    return await asyncio.to_thread(audit)


def reader(life: Life) -> Read:
    def read(path: str) -> bytes | None:
        file = life.folder / "log" / path
        return file.read_bytes() if file.is_file() else None

    return read
