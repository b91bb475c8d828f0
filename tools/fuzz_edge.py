"""Send requests with changed bytes to a served gateway; nothing may break (tests/mutated).

    python tools/fuzz_edge.py --runs 20000 --seed 1 [--out fuzz-out] [--input FILE]

Exit 1 for an answer of 500 or more of the gateway before a healthy engine, a connection that
hangs, a request that the engine gets twice, an internal error, a request without its receipt.
The input is written to --out as edge-HASH.bin; --input sends one such file again.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.mutated.drive import drive  # noqa: E402


def main() -> int:
    """Run it and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--runs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=ROOT / "fuzz-out", help="folder of findings")
    parser.add_argument("--input", type=Path, action="append", help="send this file instead")
    args = parser.parse_args()
    inputs = [path.read_bytes() for path in args.input] if args.input else None
    with tempfile.TemporaryDirectory() as folder:
        driven = drive(Path(folder), runs=args.runs, seed=args.seed, keep=args.out, inputs=inputs)
    for status, number in sorted(driven.statuses.items()):
        print(f"{number:>9}  {status or 'closed without an answer'}")
    print(f"{driven.inputs} inputs, seed {args.seed}, {len(driven.findings)} findings")
    for finding in driven.findings:
        print(f"    {finding}")
    return 1 if driven.findings else 0


if __name__ == "__main__":
    raise SystemExit(main())
