"""Which tests run which lines, how long each takes, and where the tables of a module are used."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import coverage
from check_change import Site

_PROGRAM = (
    "import sys, pytest; sys.path.insert(0, sys.argv.pop(1)); import check_survey; "
    "sys.exit(pytest.main(sys.argv[1:], plugins=[check_survey.Clock()]))"
)
_WAYS = ("|run", "|setup", "|teardown")


@dataclass(slots=True, kw_only=True)
class Survey:
    """Usual seconds of each test, and by file and line the tests that run it."""

    seconds: dict[str, float]
    database: Path
    settled: bool = False
    _lines: dict[str, dict[int, set[str]]] = field(default_factory=dict)
    _names: dict[str, str] = field(default_factory=dict)

    def tests_of(self, path: str, lines: frozenset[int] | None) -> set[str]:
        """Return the tests that run one of these lines of a file; all of its lines for None."""
        known = self.lines(path)
        chosen = known.values() if lines is None else [known.get(line, set()) for line in lines]
        return set().union(*chosen) & self.seconds.keys()

    def settle(self, without: list[str]) -> None:
        """Leave tests out, for this run and later ones of the same tree."""
        self.seconds = {name: took for name, took in self.seconds.items() if name not in without}
        self.settled = True
        document = {"seconds": self.seconds, "settled": True}
        self.database.with_suffix(".json").write_text(json.dumps(document), encoding="utf-8")

    def lines(self, path: str) -> dict[int, set[str]]:
        """Return the tests of each line of a file."""
        if path not in self._lines:
            data = coverage.CoverageData(str(self.database))
            data.read()
            found: dict[int, set[str]] = {}
            for name in data.measured_files():
                if name.endswith("/" + path):
                    found = {
                        line: {_test_in(context) for context in contexts}
                        for line, contexts in data.contexts_by_lineno(name).items()
                    }
            self._lines[path] = found
        return self._lines[path]


def _test_in(context: str) -> str:
    return next((context.removesuffix(way) for way in _WAYS if context.endswith(way)), context)


class Clock:
    """A pytest plugin that writes how long each passed test took to the file of `SURVEY`."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.passed: set[str] = set()

    def pytest_runtest_logreport(self, report: object) -> None:
        name, took = str(getattr(report, "nodeid", "")), float(getattr(report, "duration", 0.0))
        self.seconds[name] += took
        if getattr(report, "when", "") == "call" and getattr(report, "passed", False):
            self.passed.add(name)

    def pytest_sessionfinish(self) -> None:
        kept = {name: round(self.seconds[name], 5) for name in sorted(self.passed)}
        document = {"seconds": kept, "settled": False}
        Path(os.environ["SURVEY"]).write_text(json.dumps(document), encoding="utf-8")


def digest_of(root: Path) -> str:
    """Return what names this state of code and tests."""
    total = hashlib.sha256()
    for name in ("attestation", "gateway", "tests"):
        for file in sorted((root / name).rglob("*.py")):
            total.update(file.relative_to(root).as_posix().encode() + b"\0")
            total.update(hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()


def make_survey(tree: Path, keep: Path, folders: list[str]) -> Survey:
    """Run the unchanged tests once, with every line's tests written down, or take the last survey
    of the same tree.  Raises `SystemExit` where they are not green: a red start "kills" everything.
    """
    stem = keep / f"survey-{digest_of(tree)[:24]}"
    database, seconds = stem.with_suffix(".coverage"), stem.with_suffix(".json")
    if not (database.exists() and seconds.exists()):
        for old in keep.glob("survey-*"):
            old.unlink()
        command = [
            sys.executable, "-c", _PROGRAM, str(Path(__file__).parent), "-q",
            "-m", "not vllm and not slow", "--no-header",
            "-p", "no:cacheprovider", "--hypothesis-profile=quick", *folders,
            "--cov=attestation", "--cov-context=test", "--cov-report=",
        ]  # fmt: skip
        part = seconds.with_suffix(".part")
        environment = os.environ | {"COVERAGE_FILE": str(database), "SURVEY": str(part)}
        if subprocess.run(command, cwd=tree, env=environment, check=False).returncode != 0:
            database.unlink(missing_ok=True)
            raise SystemExit("expected the unchanged tree to pass its tests: run `make test`")
        part.rename(seconds)
    known = json.loads(seconds.read_text(encoding="utf-8"))
    return Survey(seconds=known["seconds"], database=database, settled=known["settled"])


@dataclass(slots=True)
class Uses:
    """Where names of module level are used in attestation/."""

    root: Path
    _lines: dict[tuple[str, str], set[int]] = field(default_factory=lambda: defaultdict(set))
    _heirs: dict[tuple[str, str], set[str]] = field(default_factory=lambda: defaultdict(set))
    _wide: set[tuple[str, str]] = field(default_factory=set)
    _paths: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for file in sorted((self.root / "attestation").rglob("*.py")):
            path = file.relative_to(self.root).as_posix()
            self._paths.append(path)
            for node in ast.parse(file.read_text(encoding="utf-8")).body:
                self._note(path, node)

    def tests_of(self, site: Site, survey: Survey) -> set[str]:
        """Return the tests that may notice a change of a module's table."""
        found: set[str] = set()
        done: set[tuple[str, str]] = set()
        pending = [(site.path, site.constant.partition(".")[0])]
        while pending:
            home, name = pending.pop()
            if (home, name) in done:
                continue
            done.add((home, name))
            for path in [home] if name.startswith("_") else self._paths:
                used = frozenset(self._lines.get((path, name), ()))
                wide = (path, name) in self._wide
                if used or wide:
                    found |= survey.tests_of(path, None if wide else used)
                pending += [(path, heir) for heir in self._heirs.get((path, name), ())]
        return found or survey.tests_of(site.path, None) or set(survey.seconds)

    def _note(self, path: str, node: ast.stmt) -> None:
        if isinstance(node, ast.FunctionDef):
            self._inside(path, node)
        elif isinstance(node, ast.ClassDef):
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef):
                    self._inside(path, inner)
                else:
                    self._wide |= {(path, name) for name in _names(inner)}
            # A class is used by name wherever its defaults are.
            self._wide.add((path, node.name))
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            for name in _names(node):
                if isinstance(target, ast.Name) and name != target.id:
                    self._heirs[path, name].add(target.id)

    def _inside(self, path: str, node: ast.FunctionDef) -> None:
        for default in [*node.args.defaults, *node.args.kw_defaults, *node.decorator_list]:
            self._wide |= {(path, name) for name in _names(default)} if default else set()
        for statement in ast.walk(node):
            if isinstance(statement, ast.stmt) and statement is not node:
                for name in _names(statement):
                    self._lines[path, name].add(statement.lineno)


def _names(node: ast.AST) -> set[str]:
    found = {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}
    return found | {inner.attr for inner in ast.walk(node) if isinstance(inner, ast.Attribute)}
