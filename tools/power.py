"""Let the power go at every moment of a notary's life, in every way, and judge what is left.

    python tools/power.py --states 100000 --seed 1 --log FILE

Records what notaries ask of their disk, then builds the states that a power loss may leave after
every operation (tests/crash/states.py: unsynced writes missing, reordered, torn at 512 bytes,
zeroes or garbage; names there or not) and judges each (tests/crash/promises.py).  Every state is
read from outside and surveyed, every 5th is read whole by the survey, and every 60th is booted on.
Exit 1 if a promise is broken.
"""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.crash.campaign import LIVES, Share, judge_share  # noqa: E402

_SHARE = 5_000


def main() -> int:
    """Judge the states and print a line for each share."""
    args = _arguments()
    began = time.monotonic()
    shares = [
        Share(life=life, states=min(_SHARE, args.states), seed=args.seed * 1000 + number)
        for number, life in enumerate(list(LIVES) * (args.states // (_SHARE * len(LIVES)) + 1))
    ]
    states, broken = 0, 0
    with args.log.open("w") if args.log else sys.stdout as log:
        print(f"seed={args.seed}", file=log)
        with ProcessPoolExecutor(args.jobs) as pool:
            for share, found, calls in pool.map(judge_share, shares):
                states += found.states
                broken += sum(found.broken.values())
                print(
                    f"{share.life} seed={share.seed} operations={calls} moments={found.moments} "
                    f"states={found.states} broken={sum(found.broken.values())}",
                    file=log,
                    flush=True,
                )
                for rule, example in found.examples.items():
                    print(f"  BROKEN {found.broken[rule]} times, first {example}", file=log)
        told = f"{states} distinct states, {broken} broken; {time.monotonic() - began:.0f} s"
        print(told, file=log)
    print(told, file=sys.stderr)
    return 1 if broken else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--states", type=int, default=100_000, help="at least so many in all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--log", type=Path, help="default: standard output")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
