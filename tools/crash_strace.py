"""Fail or kill a real notary process at every system call on its data folder.

    python tools/crash_strace.py --log FILE [--sample N --seed S] [--call fdatasync]...

For each call of tests/crash/straced.py and each fault (EIO, ENOSPC, EINTR, SIGKILL), runs a boot
over an ended one with `strace -e inject=CALL:FAULT:when=N`, N = 1, 2, … until nothing is hit any
more; then reads what is left from outside, surveys it and boots on.  Exit 1 if a promise is
broken, 3 if strace cannot be used here.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import TextIO

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.crash.straced import (  # noqa: E402
    CALLS,
    FAULTS,
    Result,
    Shot,
    available,
    prepare,
    shoot,
)

_MISSES = 3
_MOST = 200
_SHOWN = 5


def main() -> int:
    """Run the campaign."""
    args = _arguments()
    if why := available():
        print(f"SKIPPED, not tested: {why}", file=sys.stderr)
        return 0 if args.skip_without else 3
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="attested-strace-") as name,
        args.log.open("w") if args.log else sys.stdout as log,
        ProcessPoolExecutor(args.jobs) as pool,
    ):
        campaign = Campaign(Path(name), pool, args.jobs, log)
        if args.sample:
            campaign.sample(args.sample, args.seed)
        else:
            campaign.every(args.call or list(CALLS))
        told = f"{campaign.told}; {time.monotonic() - began:.0f} s"
        print(told, file=log)
    print(told, file=sys.stderr)
    return 1 if campaign.broken else 0


class Campaign:
    """Shots at copies of one data folder, in parallel, a line for each call and fault."""

    def __init__(self, folder: Path, pool: ProcessPoolExecutor, jobs: int, log: TextIO) -> None:
        self._folder, self._pool, self._jobs, self._log = folder, pool, jobs, log
        self._notes = prepare(folder)
        self._runs = self._hits = self.broken = 0

    @property
    def told(self) -> str:
        return f"{self._runs} runs hit a call ({self._hits} injections), {self.broken} broken"

    def every(self, calls: Sequence[str]) -> None:
        """Every occurrence of every call with every fault."""
        for call in calls:
            for fault in FAULTS:
                self._tell(call, fault, list(self._until_missed(call, fault)))

    def sample(self, count: int, seed: int) -> None:
        """So many shots at random."""
        rng = random.Random(seed)  # noqa: S311 - repeatable, no secret
        shots = [
            Shot(call=call, fault=rng.choice(FAULTS), at=rng.randint(1, CALLS[call]))
            for call in rng.choices(list(CALLS), list(CALLS.values()), k=count)
        ]
        results = list(
            self._pool.map(
                shoot, *zip(*((self._folder, self._notes, s) for s in shots), strict=True)
            )
        )
        self._tell("sample", f"seed={seed}", [result for result in results if result.hits])

    def _until_missed(self, call: str, fault: str) -> Iterator[Result]:
        misses, number = 0, 1
        while misses < _MISSES and number < _MOST:
            futures: list[Future[Result]] = [
                self._pool.submit(
                    shoot, self._folder, self._notes, Shot(call=call, fault=fault, at=at)
                )
                for at in range(number, number + self._jobs)
            ]
            number += self._jobs
            for future in futures:
                result = future.result()
                misses = 0 if result.hits else misses + 1
                if result.hits or result.broken:
                    yield result

    def _tell(self, call: str, fault: str, results: list[Result]) -> None:
        ends = Counter(result.end for result in results if not result.broken)
        broken = [result for result in results if result.broken]
        self._runs += len(results)
        self._hits += sum(result.hits for result in results)
        self.broken += len(broken)
        told = ", ".join(f"{end} {count}" for end, count in sorted(ends.items()))
        print(f"{call} {fault} runs={len(results)} ends: {told}", file=self._log, flush=True)
        for result in broken[:_SHOWN]:
            print(f"  BROKEN {result.shot}: {result.broken}", file=self._log, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--call", action="append", choices=list(CALLS), help="only this call")
    parser.add_argument("--sample", type=int, default=0, metavar="N", help="N random shots")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--skip-without", action="store_true", help="exit 0 where strace is not")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--log", type=Path, help="default: standard output")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
