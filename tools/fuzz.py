"""Fuzz every parser of attestation/: only AttestationError may come out, and what is accepted
must keep its invariants (tests/fuzz/targets.py).

    python tools/fuzz.py --target all --runs 20000 --seed 1 [--engine auto|atheris|random]

Each target runs in a process of its own.  The atheris engine is guided by coverage and mixes
libFuzzer's changes with those of tests/fuzz/mutations.py; the random engine has the latter only
and needs nothing installed.  Inputs that must not have been answered as they were are written to
--out as <target>-<n>.bin; the exit code is then 1.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
COLUMNS = ("engine", "inputs", "accepted", "refused", "crashes", "foreign", "seconds")
SECONDS_PER_INPUT = 60
_TELLING = threading.Lock()


def main() -> int:
    """Run the chosen targets and print one line for each."""
    if sys.argv[1:2] == ["--worker"]:
        return _work(*sys.argv[2:])
    from tests.fuzz.targets import TARGETS  # noqa: PLC0415 - a worker instruments it first

    args = _arguments(sorted(TARGETS))
    chosen = sorted(TARGETS) if "all" in args.target else args.target
    args.engine = _engine(args.engine)
    args.out.mkdir(parents=True, exist_ok=True)
    print(f"{'target':<20}" + "".join(f"{name:>10}" for name in COLUMNS))
    with ThreadPoolExecutor(args.jobs) as pool:
        results = list(pool.map(lambda name: _run(name, args), chosen))
    report = {
        "seed": args.seed,
        "runs": args.runs,
        "targets": dict(zip(chosen, results, strict=True)),
    }
    (args.out / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    bad = [name for name, told in report["targets"].items() if told["crashes"] + told["foreign"]]
    total = sum(told["inputs"] for told in results)
    print(f"{len(chosen)} targets, {total} inputs, {len(bad)} with findings: {bad or 'none'}")
    return 1 if bad else 0


def _arguments(names: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--target", action="append", choices=["all", *names], metavar="NAME",
                        help="all, or one of: " + ", ".join(names))  # fmt: skip
    parser.add_argument("--runs", type=int, default=20_000, help="inputs for each target")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--engine", choices=["auto", "atheris", "random"], default="auto")
    parser.add_argument("--jobs", type=int, default=2, help="targets at a time")
    parser.add_argument("--out", type=Path, default=ROOT / "fuzz-out", help="folder of findings")
    args = parser.parse_args()
    args.target = args.target or ["all"]
    return args


def _engine(asked: str) -> str:
    present = importlib.util.find_spec("atheris") is not None
    if asked == "atheris" and not present:
        print("atheris is not installed: tools/setup.sh fuzz", file=sys.stderr)
        raise SystemExit(2)
    if asked == "auto" and not present:
        print("atheris is not installed: changing inputs at random instead", file=sys.stderr)
    return "atheris" if present and asked != "random" else "random"


def _run(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Run one target in its own process and return its counts."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        stats = Path(folder) / "stats.json"
        command = [sys.executable, str(Path(__file__).resolve()), "--worker", str(stats), name]
        command += [str(args.runs), str(args.seed), args.engine]
        told = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        counts = json.loads(stats.read_text()) if stats.exists() else {}
        for artifact in Path(folder).glob("*-*"):
            artifact.rename(args.out / f"{name}-{artifact.name}.bin")
    crashed = told.returncode != 0
    result = {"engine": args.engine, "inputs": 0, "accepted": 0, "refused": 0, "foreign": 0}
    result |= counts | {"crashes": int(crashed), "seconds": round(time.monotonic() - started, 1)}
    lines = [f"{name:<20}" + "".join(f"{result[column]:>10}" for column in COLUMNS)]
    for number, finding in enumerate(counts.get("findings", [])):
        (args.out / f"{name}-{number}.bin").write_bytes(bytes.fromhex(finding["input"]))
        lines.append(f"    {finding['error']}: {args.out}/{name}-{number}.bin")
    with _TELLING:  # targets end in threads of their own, and a print is two writes
        print("\n".join(lines), flush=True)
        if crashed:
            print(told.stderr[-2000:], file=sys.stderr)
    return result


def _work(stats: str, name: str, runs: str, seed: str, engine: str) -> int:
    """Fuzz one target in this process and write its counts to the file `stats`."""
    if engine == "atheris":
        return _work_atheris(Path(stats), name, int(runs), int(seed))
    from tests.fuzz.engine import run_random  # noqa: PLC0415
    from tests.fuzz.targets import TARGETS  # noqa: PLC0415

    tally = run_random(TARGETS[name], runs=int(runs), seed=int(seed))
    Path(stats).write_text(json.dumps(tally.to_json()))
    return 0


def _work_atheris(stats: Path, name: str, runs: int, seed: int) -> int:
    import atheris  # noqa: PLC0415

    parsers = ["attestation", "gateway.access", "gateway.notary.wire"]
    with atheris.instrument_imports(include=parsers):
        from tests.fuzz.engine import Tally  # noqa: PLC0415
        from tests.fuzz.mutations import mutate  # noqa: PLC0415
        from tests.fuzz.targets import TARGETS  # noqa: PLC0415

    target, tally, seeds = TARGETS[name], Tally(), TARGETS[name].seeds()
    corpus = Path("corpus")
    corpus.mkdir()
    for number, data in enumerate(seeds):
        tally.feed(target, data)
        (corpus / f"seed{number}").write_bytes(data)

    def one_input(data: bytes) -> None:
        tally.feed(target, data)
        if tally.inputs >= runs + len(seeds):
            stats.write_text(json.dumps(tally.to_json()))
            # libFuzzer would go on until its own count is reached, and then not come back.
            os._exit(0)

    def change(data: bytes, max_size: int, number: int) -> bytes:
        rng = Random(number)  # noqa: S311 - repeatable on purpose
        if rng.random() < 0.5:
            return bytes(atheris.Mutate(data, max_size))
        return mutate(rng, data or seeds[0], target.shape, seeds)[:max_size]

    options = [f"-seed={seed}", f"-timeout={SECONDS_PER_INPUT}", "-rss_limit_mb=4096"]
    options += ["-runs=-1", "-max_len=32768", "-verbosity=0", "-print_final_stats=0"]
    atheris.Setup([sys.argv[0], *options, str(corpus)], one_input, custom_mutator=change)
    atheris.Fuzz()
    return 1


if __name__ == "__main__":
    sys.exit(main())
