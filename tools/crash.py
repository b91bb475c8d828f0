"""Kill the gateway under load, over and over, and audit what is left each time.

    python tools/crash.py --cycles 1000 --seed 1 --log FILE

Starts `attested serve` with simulated quotes and the stand-in engine on one data folder, drives
plain and streamed requests over real sockets, and in each cycle kills a worker, the notary, both,
the supervisor, a start-up, or drains with SIGTERM.  tests/crash/audit.py says what must hold then.
One line a cycle goes to the log; exit 1 at the first broken promise, with the data folder kept.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TextIO

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.crash.cycles import Campaign  # noqa: E402
from tests.crash.outside import Violation  # noqa: E402


def main() -> int:
    """Run the campaign; 0 if every promise held."""
    args = _arguments()
    seed = secrets.randbelow(1 << 32) if args.seed is None else args.seed
    folder = Path(tempfile.mkdtemp(prefix="attested-crash-")).resolve()
    with args.log.open("w") if args.log else sys.stdout as log:
        print(f"seed={seed} cycles={args.cycles} workers={args.workers}", file=log, flush=True)
        try:
            totals = asyncio.run(_run(Campaign(folder, seed, args.workers), args, log))
        except (Violation, TimeoutError, RuntimeError) as broken:
            print(f"BROKEN {broken}", file=log)
            print(f"seed {seed}: {broken}; what is left: {folder}", file=sys.stderr)
            return 1
        print(totals, file=log)
    print(totals, file=sys.stderr)
    shutil.rmtree(folder)
    return 0


async def _run(campaign: Campaign, args: argparse.Namespace, log: TextIO) -> str:
    try:
        return await _cycles(campaign, args, log)
    finally:
        campaign.abort()


async def _cycles(campaign: Campaign, args: argparse.Namespace, log: TextIO) -> str:
    began = time.monotonic()
    await campaign.open()
    for number in range(1, args.cycles + 1):
        if args.seconds and time.monotonic() - began > args.seconds:
            break
        cycle = await campaign.cycle(number)
        print(cycle.line, file=log, flush=True)
    await campaign.close()
    counts = ", ".join(f"{name} {count}" for name, count in sorted(campaign.totals.items()))
    return f"no promise broken: {counts}; {time.monotonic() - began:.0f} s"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--cycles", type=int, default=50)
    parser.add_argument("--seed", type=int, help="default: a fresh one, shown in the log")
    parser.add_argument("--workers", type=int, default=2, help="0: one process, always killed")
    parser.add_argument("--seconds", type=float, default=0, help="begin no cycle after so long")
    parser.add_argument("--log", type=Path, help="default: standard output")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
