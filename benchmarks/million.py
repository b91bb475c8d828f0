"""A long boot: memory, proofs, restart and a lost index at a million receipts.

1. receipts through the notary's socket, 1,024 in flight, with a look at the notary's memory at a
   tenth of the way, at half of it and at the end
2. once an epoch covers them all: finding receipts with their proofs, one after the other
3. the boot is ended; a new notary starts over the same data folder
4. the same without the index: ready again, and complete again
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attestation.errors import UnavailableError
from benchmarks.disk import absolute, measure_disk
from benchmarks.figures import latencies, publish
from benchmarks.load import Request, requests
from benchmarks.machine import describe_machine
from benchmarks.process import NotaryProcess, notary_process
from benchmarks.receipts import drive
from gateway.notary.interface import Found, ReceiptState
from gateway.notary.log.folder import INDEX_FILE
from gateway.notary.wire.client import RemoteNotary

SEED = 1_000_000
IN_FLIGHT = 1024
LOOKED_UP = 200
_CHUNK = 20_000
_INDEX_SECONDS = 600.0
_PAUSE_SECONDS = 0.2


@dataclass(slots=True, kw_only=True)
class Sample:
    """Every so many-th request of a load is remembered, to be looked up later."""

    every: int
    seen: int = 0
    kept: list[Request] = field(default_factory=list)

    def through(self, load: Iterator[Request]) -> Iterator[Request]:
        """Pass a load on."""
        for request in load:
            if self.seen % self.every == 0:
                self.kept.append(request)
            self.seen += 1
            yield request


async def fill(
    process: NotaryProcess, notary: RemoteNotary, sample: Sample, receipts: int
) -> dict[str, Any]:
    """Seal so many receipts; return the notary's memory on the way and the mean rate."""
    source = sample.through(requests(SEED))
    memory: dict[str, float] = {"0": (await process.ask("figures"))["resident_mib"]}
    looks = {receipts // 10, receipts // 2, receipts}
    began, done, cpu = time.perf_counter(), 0, 0.0
    while done < receipts:
        count = min(_CHUNK, receipts - done, min(look for look in looks if look > done) - done)
        await drive(notary, itertools.islice(source, count), in_flight=IN_FLIGHT)
        done += count
        seen = await process.ask("figures")
        cpu += seen["cpu_seconds"]
        if done in looks:
            memory[str(done)] = seen["resident_mib"]
    elapsed = time.perf_counter() - began
    return {
        "receipts": receipts,
        "receipts_per_second": round(receipts / elapsed),
        "notary_cpu_us": round(1e6 * cpu / receipts),
        "notary_resident_mib": memory,
    }


async def find(notary: RemoteNotary, request: Request, wait_seconds: float = 0.0) -> Found:
    """Look a receipt up for its owner; it has to be there."""
    announced = request.announcement
    found = await notary.find(announced.jti, announced.sub, wait_seconds=wait_seconds)
    if found is None:
        raise RuntimeError("a receipt that was released is not found")
    return found


async def prove(notary: RemoteNotary, sample: Sample) -> dict[str, Any]:
    """Find every remembered receipt; return how long one takes, and how many are anchored."""
    taken, anchored = [], 0
    for request in sample.kept:
        began = time.perf_counter()
        found = await find(notary, request)
        taken.append(time.perf_counter() - began)
        anchored += found.state is ReceiptState.ANCHORED and found.proof is not None
    return {"looked_up": len(taken), "anchored": anchored, **latencies(taken)}


async def first_boot(folder: Path, sample: Sample, receipts: int) -> dict[str, Any]:
    """Fill a log, prove what is in it, end the boot."""
    async with notary_process(folder) as process:
        notary = await RemoteNotary.connect(process.socket)
        filled = await fill(process, notary, sample, receipts)
        for request in sample.kept[-1:]:
            await find(notary, request, wait_seconds=30.0)
        proved = await prove(notary, sample)
        await notary.close()
        closing = time.perf_counter()
    return {
        "log": filled,
        "found_with_proof": proved,
        "close_seconds": round(time.perf_counter() - closing, 2),
    }


async def restart(folder: Path, sample: Sample) -> dict[str, Any]:
    """Start over a filled folder; return when it is ready, and when all receipts are found.

    Times are seconds from the start of the process.
    """
    began = time.perf_counter()
    async with notary_process(folder) as process:
        ready = time.perf_counter() - began
        notary = await RemoteNotary.connect(process.socket)
        for request in sample.kept:
            await _found_at_last(notary, request)
        complete = time.perf_counter() - began
        proved = await prove(notary, sample)
        await notary.close()
        memory = (await process.ask("figures"))["resident_mib"]
    return {
        "ready_seconds": round(ready, 2),
        "of_this_the_boot": process.ready_seconds,
        "all_found_seconds": round(complete, 2),
        "found_with_proof": proved,
        "notary_resident_mib": memory,
    }


async def _found_at_last(notary: RemoteNotary, request: Request) -> None:
    deadline = time.perf_counter() + _INDEX_SECONDS
    while True:
        try:
            await find(notary, request)
        except UnavailableError as error:
            if error.code != "index_incomplete" or time.perf_counter() > deadline:
                raise
            await asyncio.sleep(_PAUSE_SECONDS)
        else:
            return


async def run(arguments: argparse.Namespace) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Measure everything; return the document and the rows of its table."""
    receipts = arguments.receipts
    machine = describe_machine(arguments.folder)
    bare = await asyncio.to_thread(measure_disk, arguments.folder, seconds=2.0)
    sample = Sample(every=max(1, receipts // LOOKED_UP))
    with tempfile.TemporaryDirectory(dir=arguments.folder) as private:
        folder = Path(private)
        first = await first_boot(folder, sample, receipts)
        size = _size_of(folder)
        with_index = await restart(folder, sample)
        _remove_index(folder / "data")
        without_index = await restart(folder, sample)
    document = {
        "benchmark": "a long boot",
        "seed": SEED,
        "machine": machine,
        "bare_write_fdatasync": bare,
        **first,
        "on_disk_mib": round(size / (1 << 20)),
        "restart": with_index,
        "restart_without_index": without_index,
    }
    return document, _rows(document)


def _size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _remove_index(data_dir: Path) -> None:
    for path in data_dir.glob(f"{INDEX_FILE}*"):
        path.unlink()


def _rows(document: dict[str, Any]) -> list[dict[str, Any]]:
    log, proof = document["log"], document["found_with_proof"]
    figures = {
        "receipts": log["receipts"],
        "receipts a second": log["receipts_per_second"],
        **{f"MiB resident at {at}": mib for at, mib in log["notary_resident_mib"].items()},
        "ms to find with proof, p50": proof["p50_ms"],
        "ms to find with proof, p99": proof["p99_ms"],
        "s to restart": document["restart"]["ready_seconds"],
        "s until all is found": document["restart"]["all_found_seconds"],
        "s to restart without index": document["restart_without_index"]["ready_seconds"],
        "s until it is rebuilt": document["restart_without_index"]["all_found_seconds"],
    }
    return [{"figure": name, "value": value} for name, value in figures.items()]


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--receipts", type=int, default=1_000_000)
    parser.add_argument("--folder", type=absolute, default=Path.cwd(), help="where the disk is")
    parser.add_argument("--out", type=Path, help="where the JSON is kept")
    arguments = parser.parse_args()
    publish(*asyncio.run(run(arguments)), arguments.out)


if __name__ == "__main__":
    main()
