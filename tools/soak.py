"""Load a served gateway with callers of every kind for a long time; it must stay as it is.

    python tools/soak.py --minutes 30 [--rate 12] [--seed 1] [--out FILE] [--folder DIR]

Plain requests, streams, callers that leave, slow ones, broken and refused requests, bodies of a
MiB, receipts, proofs and the log read, challenges, keys renewed, the engine restarted.  Every few
seconds memory, descriptors and threads of every process are read.  Exit 1 if the last third of
the run is above the middle third by more than the bound (tests/soak/sampling.py), if anything
hangs, answers 500 or logs an internal error, or if requests and receipts are not as many.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.machine import describe_machine  # noqa: E402
from tests.soak.run import Plan, Soaked, soak  # noqa: E402


def main() -> int:
    """Run it and print the table."""
    args = _arguments()
    plan = Plan(seconds=args.minutes * 60, rate=args.rate, every=args.every, seed=args.seed)
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        machine = describe_machine(Path(folder))
        soaked = soak(Path(folder), plan)
    _print(soaked)
    if args.out:
        document = {"benchmark": "soak", "machine": machine, **soaked.to_json()}
        args.out.write_text(json.dumps(document, indent=1) + "\n")
    return 1 if soaked.failures else 0


def _print(soaked: Soaked) -> None:
    for name, number in sorted(soaked.seen.items()):
        print(f"{number:>9}  {name}")
    print("  ".join(f"{name}: {number}" for name, number in soaked.totals.items()))
    columns = ("middle", "last", "more", "allowed")
    print(f"{'process':<12}{'figure':<14}" + "".join(f"{name:>12}" for name in columns))
    for growth in soaked.growths():
        print(growth.row())
    print("; ".join(soaked.failures) or "flat, nothing failed")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=12.0, help="callers that begin a second")
    parser.add_argument("--every", type=float, default=5.0, help="seconds between two samples")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where the gateway's data goes; else temporary")
    parser.add_argument("--out", type=Path, help="write the result to this file as JSON")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
