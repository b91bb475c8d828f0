"""Change an audit folder in every way there is: no change may be accepted.

    python tools/tamper.py [DIR] [--other DIR]... [--all-bits] [--jobs N] [--only FAMILY] [--cli N]

DIR is a folder that `attested demo` left (bundle.json, policy.toml, root.pem, bodies/); without it
a folder is made by hand (--rich: one with rewrites, an engine's own answer and proofs; --log: one
with a whole log, its epochs and a policy that asks for every receipt of it). --other
names further such folders whose parts are swapped in; a boot on the same machine (where DIR is made
by hand) and one under another root always take part. The untouched folder must end in 15, every
change in 10, 12 or 13. --cli sends every N-th case of each family through `attested verify` in a
process of its own, which must agree. Exit 1 on violations.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from attestation.result import Verdict  # noqa: E402
from tests.support.epochs import COMPLETE  # noqa: E402
from tests.tamper import folder as folders  # noqa: E402
from tests.tamper.folder import AuditFolder, judge, load_folder, write_evidence  # noqa: E402
from tests.tamper.folders import (  # noqa: E402
    PROOFS,
    epoch_log,
    folder_of,
    folder_of_log,
    gateway,
    rich_gateway,
)
from tests.tamper.sweep import KEPT, REFUSED, Tally, families, run  # noqa: E402

CODES = (10, 12, 13, 0, 1, 11, 14, 15)


def main() -> int:
    """Run the sweep and print a line for each kind of change."""
    args = _arguments()
    if judge(_load(args)[0]) != Verdict.SIMULATED.exit_code:
        print("the untouched folder does not end in 15: nothing to learn from it", file=sys.stderr)
        return 2
    started = time.monotonic()
    folder, others = _load(args)
    names = args.only or list(families(folder, others, everywhere=args.all_bits))
    tally = Tally()
    with ProcessPoolExecutor(args.jobs) as pool:
        for name in names:
            for part in pool.map(_shard, [(args, name, k) for k in range(args.jobs)]):
                tally.merge(part)
            print(f"{name}: {tally.cases} cases so far, {tally.escaped} violations, "
                  f"{time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)  # fmt: skip
    disagreements = _through_cli(args, names) if args.cli else []
    _print(tally, disagreements)
    return 1 if tally.escaped or disagreements else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("dir", type=Path, nargs="?", help="audit folder; none: one made by hand")
    parser.add_argument("--other", type=Path, action="append", default=[], help="swap parts with")
    parser.add_argument("--rich", action="store_true", help="without DIR: rewrites and proofs too")
    parser.add_argument(
        "--log", action="store_true", help="without DIR: a whole log and its epochs"
    )
    parser.add_argument("--all-bits", action="store_true", help="every bit of every byte")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", action="append", help="a family of changes; may be repeated")
    parser.add_argument("--cli", type=int, default=0, metavar="N", help="every N-th by process too")
    return parser.parse_args()


def _load(args: argparse.Namespace) -> tuple[AuditFolder, Mapping[str, AuditFolder]]:
    others = {str(path): load_folder(path) for path in args.other}
    others["another root"] = folder_of(gateway("other"))
    if args.dir:
        return load_folder(args.dir), others
    if args.log:
        log = epoch_log("own")
        sibling = epoch_log("sibling", platform_of=log.made)
        return folder_of_log(log), {**others, "the same machine": folder_of_log(sibling)}
    own = rich_gateway("own") if args.rich else gateway("own")
    others["the same machine"] = folder_of(gateway("sibling", platform_of=own))
    return folder_of(own, more=PROOFS if args.rich else ""), others


def _policy(args: argparse.Namespace) -> str:
    """Return the policy of a folder made by hand, which follows from the seed, as its text."""
    if args.log:
        return epoch_log("own").made.policy_toml(log=COMPLETE)
    return gateway("own").policy_toml(more=PROOFS if args.rich else "")


def _shard(task: tuple[argparse.Namespace, str, int]) -> Tally:
    args, name, first = task
    folder, others = _load(args)
    made = families(folder, others, everywhere=args.all_bits)[name]
    return run(made(), stride=args.jobs, first=first)


def _through_cli(args: argparse.Namespace, names: list[str]) -> list[str]:
    """Return the cases on which the command and the pipeline disagree."""
    folder, others = _load(args)
    wrong: list[str] = []
    made = families(folder, others, everywhere=args.all_bits)
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        if args.dir:
            for own in (folders.POLICY, folders.ROOT):
                (path / own).write_bytes((args.dir / own).read_bytes())
        else:
            (path / folders.POLICY).write_text(_policy(args))
            (path / folders.ROOT).write_bytes(folder.anchors[0].root_der)
        command = [sys.executable, "-m", "attestation.cli.main", "verify", folders.BUNDLE,
                   "--policy", folders.POLICY, "--root", folders.ROOT,
                   "--contents", folders.BODIES, "--at", str(folder.at)]  # fmt: skip
        for family in names:
            for case in islice(made[family](), 0, None, args.cli):
                changed = case.build()
                if changed is None:
                    continue
                write_evidence(changed, path)
                done = subprocess.run(command, cwd=path, env={"PYTHONPATH": str(ROOT)},
                                      capture_output=True, check=False)  # fmt: skip
                expected = judge(changed)
                if done.returncode != expected or expected not in REFUSED:
                    wrong.append(f"command {done.returncode}, pipeline {expected}: "
                                 f"{case.kind}: {case.where}")  # fmt: skip
    return wrong


def _print(tally: Tally, disagreements: list[str]) -> None:
    width = max(map(len, tally.codes)) + 2
    print(f"{'kind':<{width}}{'cases':>9}" + "".join(f"{f'exit {code}':>9}" for code in CODES))
    for kind, codes in sorted(tally.codes.items()):
        counts = "".join(f"{codes[code] or '.':>9}" for code in CODES)
        print(f"{kind:<{width}}{codes.total():>9}{counts}")
    print(f"{tally.cases} changes, {tally.escaped} violations")
    for line in [*tally.violations[:KEPT], *disagreements[:KEPT]]:
        print(f"  {line}")


if __name__ == "__main__":
    sys.exit(main())
