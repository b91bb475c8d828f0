"""Durable receipts a second through the notary: its process, over its Unix socket.

For every number of requests in flight a closed loop: announce, seal, wait for the receipt, next.
The disk's own rate is measured first, by a bare loop of write + fdatasync in the same folder;
then everything again on a disk slowed to a given rate, the bare loop included.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.disk import PacedLayer, absolute, measure_disk
from benchmarks.figures import latencies, publish
from benchmarks.load import Request, requests
from benchmarks.machine import busy_seconds, describe_machine
from benchmarks.process import NotaryProcess, notary_process
from gateway.notary.files import FileLayer
from gateway.notary.wire.client import RemoteNotary

IN_FLIGHT = (1, 32, 128, 1024)
SLOW_SYNCS = 150.0
SEED = 20_260
_PROFILED_IN_FLIGHT = 128


async def drive(notary: RemoteNotary, load: Iterator[Request], *, in_flight: int) -> list[float]:
    """Seal every request of `load`, so many at a time; return how long each receipt took."""
    taken: list[float] = []

    async def one_after_the_other() -> None:
        for request in load:
            notary.announce(request.announcement)
            began = time.perf_counter()
            await notary.seal(request.outcome)
            taken.append(time.perf_counter() - began)

    await asyncio.gather(*(one_after_the_other() for _ in range(in_flight)))
    return taken


async def measure(
    process: NotaryProcess, *, in_flight: int, seconds: float, source: Iterator[Request]
) -> dict[str, Any]:
    """Drive one notary for about `seconds`; return rate, latencies and CPU per receipt."""
    notary = await RemoteNotary.connect(process.socket)
    try:
        prepared = [next(source) for _ in range(4 * in_flight)]
        await drive(notary, iter(prepared), in_flight=in_flight)  # warm
        await process.ask("figures")
        others = busy_seconds() - time.process_time()
        began = time.perf_counter()
        load = _until(began + seconds, source)
        taken = await drive(notary, load, in_flight=in_flight)
        elapsed = time.perf_counter() - began
        seen = await process.ask("figures")
        others = busy_seconds() - time.process_time() - seen["cpu_seconds"] - others
    finally:
        await notary.close()
    return {
        "in_flight": in_flight,
        "receipts_per_second": round(len(taken) / elapsed),
        "commit_p50_ms": seen["commit"]["p50_ms"],
        "commit_p99_ms": seen["commit"]["p99_ms"],
        "seal_p50_ms": seen["seal"]["p50_ms"],
        "seal_p99_ms": seen["seal"]["p99_ms"],
        "round_trip_p50_ms": latencies(taken)["p50_ms"],
        "round_trip_p99_ms": latencies(taken)["p99_ms"],
        "notary_cpu_us": round(1e6 * seen["cpu_seconds"] / len(taken)),
        "other_work_percent": max(0, round(100 * others / elapsed)),
        "profile": seen["profile"],
    }


def _until(moment: float, source: Iterator[Request]) -> Iterator[Request]:
    while time.perf_counter() < moment:
        yield next(source)


async def one_disk(
    folder: Path, *, in_flight: tuple[int, ...], seconds: float, syncs: float | None
) -> dict[str, Any]:
    """Measure the disk, then the notary on it."""
    layer = FileLayer() if syncs is None else PacedLayer(1 / syncs)
    bare = await asyncio.to_thread(measure_disk, folder, seconds=min(2.0, seconds), layer=layer)
    source = requests(SEED)
    runs = []
    with tempfile.TemporaryDirectory(dir=folder) as private:
        async with notary_process(Path(private), syncs=syncs) as process:
            for count in in_flight:
                run = await measure(process, in_flight=count, seconds=seconds, source=source)
                del run["profile"]
                run["receipts_per_bare_sync"] = round(
                    run["receipts_per_second"] / bare["syncs_per_second"], 2
                )
                run["commit_p50_per_bare_p50"] = round(run["commit_p50_ms"] / bare["p50_ms"], 2)
                runs.append(run)
    return {"bare_write_fdatasync": bare, "notary": runs}


async def where_time_goes(folder: Path, *, seconds: float) -> dict[str, float]:
    """Sample the notary's process at 128 in flight; return shares of its time in percent."""
    with tempfile.TemporaryDirectory(dir=folder) as private:
        async with notary_process(Path(private), profile=True) as process:
            run = await measure(
                process, in_flight=_PROFILED_IN_FLIGHT, seconds=seconds, source=requests(SEED)
            )
    shares: dict[str, float] = run["profile"]
    return shares


async def run(arguments: argparse.Namespace) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Measure everything; return the document and the rows of its table."""
    folder, seconds = arguments.folder, arguments.seconds
    document: dict[str, Any] = {
        "benchmark": "durable receipts through the notary's socket",
        "seed": SEED,
        "seconds_a_run": seconds,
        "machine": describe_machine(folder),
    }
    rows: list[dict[str, Any]] = []
    for name, syncs in (("disk_as_it_is", None), (f"disk_slowed_to_{SLOW_SYNCS:g}", SLOW_SYNCS)):
        found = await one_disk(
            folder, in_flight=tuple(arguments.in_flight), seconds=seconds, syncs=syncs
        )
        document[name] = found
        rows += [{"disk": name, **one} for one in found["notary"]]
    document["where_time_goes_percent"] = await where_time_goes(folder, seconds=seconds)
    return document, rows


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0, help="length of every single run")
    parser.add_argument("--in-flight", type=int, nargs="+", default=IN_FLIGHT)
    parser.add_argument("--folder", type=absolute, default=Path.cwd(), help="where the disk is")
    parser.add_argument("--out", type=Path, help="where the JSON is kept")
    arguments = parser.parse_args()
    publish(*asyncio.run(run(arguments)), arguments.out)


if __name__ == "__main__":
    main()
