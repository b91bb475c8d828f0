"""Sample mutants of attestation/ and see whether the tests notice.

    python tools/mutate.py --sample 120 --seed 1 [--only attestation/tdx] [--list]

1. Every place in attestation/ where one small change gives another program is listed.
2. `--sample` of them are drawn with `--seed`, evenly over the list; equal seeds, equal mutants.
3. The unchanged tree is tested first: a red start would "kill" everything.
4. Each mutant is written into a copy of the tree and the tests of its own area run with -x; only
   if they stay green, all tests of attestation/. Not green within the time limit is a kill too,
   counted apart.
5. The survivors are printed with file, line and change; the exit code is 1 below `--floor`.

Not mutated: docstrings, annotations, decorators, prose (a text with a space in it, and whatever
describes a failure to a person), since no test ought to pin the wording of a message. A change
that cannot alter behaviour may be drawn; it is reported as a survivor, never hidden.
"""

from __future__ import annotations

import argparse
import ast
import copy
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from queue import SimpleQueue

from attestation_tests import ROOT, folders

COPIED = (
    "attestation",
    "docs",
    "gateway",
    "tests",
    "tools",
    "examples",
    "pyproject.toml",
    "Makefile",
)
PYTEST_USAGE, PYTEST_NOTHING_RAN = 4, 5
MEMORY = 8 << 30  # a mutant that allocates for ever must not take the machine with it
MESSAGES = {"message", "expected", "observed", "hint", "help", "description", "epilog", "metavar"}
COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.Mod: ast.Mult,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One changed program: `source` is the whole file after the change."""

    path: str
    line: int
    change: str
    source: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.change}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the tests said: killed, timeout or survived."""

    mutant: Mutant
    outcome: str
    seconds: float


# --- step 1: where one small change gives another program ----------------------------------------


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def _children(node: ast.AST) -> Iterator[ast.AST]:
    """Sub-trees that may be changed; annotations, decorators and prose are left out."""
    for field, value in ast.iter_fields(node):
        if field in {"annotation", "returns", "decorator_list", "type_comment", "type_params"}:
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.keyword) and child.arg in MESSAGES:
                continue
            if isinstance(child, ast.AST) and not _is_type_checking(child):
                yield child


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    skip_strings = isinstance(node, ast.Raise)
    yield node
    for child in _children(node):
        if isinstance(child, ast.stmt) and _is_docstring(child):
            continue
        if skip_strings and isinstance(child, ast.Call):
            # The first argument of a raised error is its message; keywords may be codes.
            yield from (
                found
                for key in child.keywords
                if key.arg not in MESSAGES
                for found in _walk(key.value)
            )
            continue
        yield from _walk(child)


def _constant_changes(node: ast.Constant) -> Iterator[tuple[str, ast.AST]]:
    old = node.value
    if isinstance(old, bool):
        yield f"{old} -> {not old}", ast.Constant(not old)
    elif isinstance(old, int):
        yield f"{old} -> {old + 1}", ast.Constant(old + 1)
    elif isinstance(old, str) and " " not in old:
        yield f"{old!r} -> {old + 'X'!r}", ast.Constant(old + "X")
    elif isinstance(old, bytes):
        yield f"{old!r} -> {old + b'X'!r}", ast.Constant(old + b"X")


def _expression_changes(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    if isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARISONS:
        changed = copy.deepcopy(node)
        changed.ops[0] = COMPARISONS[type(node.ops[0])]()
        yield f"{ast.unparse(node)} -> {ast.unparse(changed)}", changed
    elif isinstance(node, ast.BoolOp):
        swapped = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        other = ast.BoolOp(op=swapped, values=node.values)
        yield f"{ast.unparse(node)} -> {ast.unparse(other)}", other
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield f"{ast.unparse(node)} -> {ast.unparse(node.operand)}", node.operand
    elif isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC:
        calculated = ast.BinOp(node.left, ARITHMETIC[type(node.op)](), node.right)
        yield f"{ast.unparse(node)} -> {ast.unparse(calculated)}", calculated
    elif isinstance(node, ast.Constant):
        yield from _constant_changes(node)


def _negated(test: ast.expr) -> ast.expr:
    return ast.UnaryOp(op=ast.Not(), operand=test)


def _statement_changes(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    if isinstance(node, ast.If | ast.While):
        changed = copy.copy(node)
        changed.test = _negated(node.test)
        yield f"if {ast.unparse(node.test)} -> negated", changed
    elif isinstance(node, ast.IfExp):
        yield (
            f"{ast.unparse(node)} -> negated",
            ast.IfExp(_negated(node.test), node.body, node.orelse),
        )
    elif isinstance(node, ast.Return) and node.value and ast.unparse(node.value) != "None":
        yield f"{ast.unparse(node)} -> return None", ast.Return(ast.Constant(None))
    elif isinstance(node, ast.Raise | ast.AugAssign) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    ):
        yield f"{ast.unparse(node).splitlines()[0]} -> pass", ast.Pass()
    elif isinstance(node, ast.Continue):
        yield "continue -> break", ast.Break()
    elif isinstance(node, ast.Break):
        yield "break -> continue", ast.Continue()


class _Replace(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        if node is self.old:
            return ast.copy_location(self.new, node)
        return self.generic_visit(node)


def _render(tree: ast.Module, old: ast.AST, new: ast.AST) -> str:
    # The memo keeps `old` itself in the copy, so that the transformer can recognise it.
    duplicate = copy.deepcopy(tree, {id(old): old})
    changed = _Replace(old, new).visit(duplicate)
    return ast.unparse(ast.fix_missing_locations(changed)) + "\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A place and what could stand there instead; rendered only when drawn."""

    path: str
    tree: ast.Module
    old: ast.AST
    new: ast.AST
    change: str

    def mutant(self) -> Mutant:
        line = getattr(self.old, "lineno", 0)
        source = _render(self.tree, self.old, self.new)
        return Mutant(path=self.path, line=line, change=self.change[:160], source=source)


def sites(root: Path, only: str) -> list[Site]:
    """All places below `only`, in the order of the source."""
    found = []
    for file in sorted((root / "attestation").rglob("*.py")):
        path = file.relative_to(root).as_posix()
        if not path.startswith(only):
            continue
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for node in _walk(tree):
            for change, new in [*_expression_changes(node), *_statement_changes(node)]:
                found.append(Site(path=path, tree=tree, old=node, new=new, change=change))
    return found


# --- step 2: the draw ----------------------------------------------------------------------------


def draw(every: list[Site], sample: int, seed: int) -> list[Site]:
    """`sample` sites, one at random from each of as many equal stretches of the list."""
    if sample >= len(every):
        return every
    chance = random.Random(seed)  # noqa: S311  a draw to be repeated, not a secret
    edges = [number * len(every) // sample for number in range(sample + 1)]
    return [every[chance.randrange(low, high)] for low, high in pairwise(edges)]


# --- steps 3 and 4: run the tests in copies ------------------------------------------------------


def copy_tree(target: Path) -> Path:
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy2(source, target / name)
    return target


def run_tests(tree: Path, chosen: list[str], limit: float) -> str:
    """`passed`, `failed` or `timeout`; no folders have killed nothing."""
    if not chosen:
        return "passed"  # pytest without a path would run every test there is
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-m", "not vllm and not slow"]
    command += ["-p", "no:cacheprovider", "--hypothesis-profile=quick", "--no-header", *chosen]
    # PYTHONPATH goes before the editable install, so that child processes see the mutant too.
    environment = os.environ | {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    with subprocess.Popen(
        command,
        cwd=tree,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        resource.prlimit(process.pid, resource.RLIMIT_AS, (MEMORY, MEMORY))
        try:
            status = process.wait(limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            return "timeout"
    if status == PYTEST_USAGE:
        message = f"expected pytest to understand its command, saw exit 4: {' '.join(command)}"
        raise SystemExit(message)
    # A folder whose tests are all deselected has killed nothing.
    return "passed" if status in {0, PYTEST_NOTHING_RAN} else "failed"


def area_of(path: str, available: list[str]) -> list[str]:
    area = f"tests/{Path(path).parts[1].removesuffix('.py')}"
    return [area] if area in available else []


def judge(mutant: Mutant, trees: SimpleQueue[Path], available: list[str], limit: float) -> Verdict:
    tree, begun = trees.get(), time.monotonic()
    target = tree / mutant.path
    original = target.read_bytes()
    try:
        target.write_text(mutant.source, encoding="utf-8")
        own = area_of(mutant.path, available)
        rest = [name for name in available if name not in own]
        outcome = run_tests(tree, own, limit)
        if outcome == "passed":
            outcome = run_tests(tree, rest, limit)
    finally:
        target.write_bytes(original)
        trees.put(tree)
    named = {"failed": "killed", "passed": "survived"}.get(outcome, outcome)
    return Verdict(mutant=mutant, outcome=named, seconds=time.monotonic() - begun)


def judge_all(mutants: list[Mutant], workers: int, scratch: Path) -> list[Verdict]:
    trees: SimpleQueue[Path] = SimpleQueue()
    for number in range(workers):
        trees.put(copy_tree(scratch / f"tree{number}"))
    available = folders()
    begun = time.monotonic()
    if run_tests(scratch / "tree0", available, 1800) != "passed":
        message = "expected the unchanged tree to pass its tests, saw a failure: run `make test`"
        raise SystemExit(message)
    baseline = time.monotonic() - begun
    print(f"unchanged tree: green in {baseline:.0f} s, {len(available)} test folders", flush=True)
    limit = max(60.0, 5 * baseline)
    verdicts = []
    with ThreadPoolExecutor(workers) as pool:
        waiting = [pool.submit(judge, mutant, trees, available, limit) for mutant in mutants]
        for number, future in enumerate(waiting, 1):
            verdict = future.result()
            verdicts.append(verdict)
            print(
                f"{number:4d}/{len(mutants)} {verdict.outcome:8s} {verdict.seconds:5.1f} s  "
                f"{verdict.mutant}",
                flush=True,
            )
    return verdicts


# --- step 5: the report --------------------------------------------------------------------------


def report(verdicts: list[Verdict], floor: float) -> int:
    survivors = [verdict.mutant for verdict in verdicts if verdict.outcome == "survived"]
    late = sum(verdict.outcome == "timeout" for verdict in verdicts)
    killed = len(verdicts) - len(survivors)
    share = 100 * killed / len(verdicts) if verdicts else 0.0
    print(f"\n{len(survivors)} survivors:")
    for mutant in survivors:
        print(f"  {mutant}")
    print(f"mutants: {killed} of {len(verdicts)} killed ({share:.1f} %), {late} of them by time")
    return 0 if verdicts and share >= floor else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sample", type=int, default=120)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="attestation/", help="path prefix of the files to change")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--floor", type=float, default=90.0, help="percentage that must be killed")
    parser.add_argument("--list", action="store_true", help="print the drawn mutants, run nothing")
    arguments = parser.parse_args()
    every = sites(ROOT, arguments.only)
    mutants = [site.mutant() for site in draw(every, arguments.sample, arguments.seed)]
    print(f"{len(every)} places, {len(mutants)} drawn with seed {arguments.seed}", flush=True)
    if arguments.list:
        print(*mutants, sep="\n")
        return 0
    with tempfile.TemporaryDirectory(prefix="mutants-") as scratch:
        return report(judge_all(mutants, arguments.workers, Path(scratch)), arguments.floor)


if __name__ == "__main__":
    sys.exit(main())
