"""Running chosen tests on one changed program, cheaply: everything is imported once, then forked.

A change inside a function is put into the function objects of a fork whose tests are collected
already: a few milliseconds.  A change of a module's tables needs the package to be imported anew:
a fork that has only other packages yet.
"""

from __future__ import annotations

import gc
import importlib
import importlib.machinery
import json
import os
import resource
import select
import signal
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType, FunctionType

import pytest
from check_change import Site, code_of

PRELOADED = (
    "cryptography.x509", "cryptography.hazmat.primitives.asymmetric.ed25519", "dcap_qvl",
    "hypothesis", "jwt", "pytest_asyncio", "pydantic", "unittest.mock",
)  # fmt: skip
_NOT_BEGUN = 4
MEMORY = 8 << 30  # a change that allocates for ever must not take the machine with it
PYTEST = [
    "-q", "-x", "--capture=sys", "-m", "not vllm and not slow", "-p", "no:cacheprovider",
    "-p", "no:cov", "-W", "ignore::pytest.PytestAssertRewriteWarning", "-o", "timeout=0",
    "--hypothesis-profile=mutants", "--no-header", "--tb=no",
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A site, and what may notice it: (test, its usual seconds); no site, no change."""

    site: Site | None
    tests: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one change: killed, timeout or survived, and which test noticed."""

    outcome: str
    killer: str = ""
    seconds: float = 0.0


def prepare_hypothesis() -> None:
    """Few examples, and no time spent on making a failing one small."""
    from hypothesis import Phase, settings  # noqa: PLC0415

    settings.register_profile(
        "mutants",
        deadline=None,
        derandomize=True,
        database=None,
        max_examples=15,
        phases=[Phase.explicit, Phase.generate],
    )


def preload() -> None:
    """Import what is no part of this project, where it is installed."""
    for name in PRELOADED:
        importlib.import_module(name)


# --- inside a fork -------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class Watch:
    """A plugin that remembers the first failure and ends the process where a test hangs.

    What goes wrong outside a test is an error of these tools, never a kill.
    """

    usual: dict[str, float]
    pipe: int
    failed: str = ""
    running: str = ""
    others: list[str] = field(default_factory=list)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.running = nodeid
        signal.setitimer(signal.ITIMER_REAL, 5 + 20 * self.usual.get(nodeid, 0.0))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed = self.failed or report.nodeid
            self.others.append(report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed and not self.failed:
            self.failed = f"collecting {report.nodeid}"

    def pytest_internalerror(self, excrepr: object) -> None:
        self.end("error", f"within pytest, at {self.running}: {str(excrepr)[-600:]}")

    def hang(self, _signal: int, _frame: FrameType | None) -> None:
        self.end("timeout", self.running)

    def end(self, outcome: str, killer: str) -> None:
        """Report and leave at once: no cleaning up after a broken program."""
        os.write(self.pipe, json.dumps([outcome, killer]).encode())
        os._exit(0)


def _enter(pipe: int, scratch: Path, usual: dict[str, float]) -> Watch:
    os.setsid()
    silent = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(silent, number)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    os.environ["PYTEST_DEBUG_TEMPROOT"] = os.environ["TMPDIR"] = str(scratch)
    watch = Watch(usual=usual, pipe=pipe)
    signal.signal(signal.SIGALRM, watch.hang)
    return watch


# --- forking -------------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class Child:
    """One running fork."""

    job: Job
    process: int
    slot: int
    begun: float
    ends: float


@dataclass(slots=True, kw_only=True)
class Forks:
    """At most `workers` forks at a time; each has a folder of its own below `scratch`."""

    workers: int
    scratch: Path
    children: dict[int, Child] = field(default_factory=dict)

    def run(
        self, jobs: Iterable[Job], inside: Callable[[Job, Watch], None]
    ) -> Iterator[tuple[Job, Outcome]]:
        """Yield what became of each job, in the order in which they end."""
        for job in jobs:
            while len(self.children) >= self.workers:
                yield from self._ended()
            self._start(job, inside)
        while self.children:
            yield from self._ended()

    def _start(self, job: Job, inside: Callable[[Job, Watch], None]) -> None:
        usual = dict(job.tests)
        slot = min(set(range(self.workers)) - {child.slot for child in self.children.values()})
        reading, writing = os.pipe()
        process = os.fork()
        if process == 0:
            os.close(reading)
            folder = self.scratch / f"{slot}"
            folder.mkdir(exist_ok=True)
            watch = _enter(writing, folder, usual)
            try:
                inside(job, watch)
            except BaseException as error:  # noqa: BLE001  (it must not run on as the parent)
                watch.end("error", f"{type(error).__name__} {error} at {watch.running}"[:600])
            if job.site is None:
                watch.failed = "\n".join(watch.others)
            watch.end("killed" if watch.failed else "survived", watch.failed)
        os.close(writing)
        now = time.monotonic()
        ends = now + 60 + 10 * sum(usual.values())
        self.children[reading] = Child(job=job, process=process, slot=slot, begun=now, ends=ends)

    def _ended(self) -> Iterator[tuple[Job, Outcome]]:
        ready, _, _ = select.select(list(self.children), [], [], 1.0)
        now = time.monotonic()
        late = [pipe for pipe, child in self.children.items() if child.ends < now]
        for pipe in {*ready, *late}:
            child = self.children.pop(pipe)
            data = os.read(pipe, 1 << 16) if pipe in ready else b""
            os.close(pipe)
            _end_group(child.process)
            # Nothing was said: the process died, or its time is over.
            silent = ["timeout", ""] if pipe in late else ["killed", "the process died"]
            outcome, killer = json.loads(data) if data else silent
            seconds = time.monotonic() - child.begun
            yield child.job, Outcome(outcome=outcome, killer=killer, seconds=round(seconds, 3))


def _end_group(process: int) -> None:
    """End a fork of ours with whatever its tests have started."""
    for kill in (os.killpg, os.kill):
        try:
            kill(process, signal.SIGKILL)
        except ProcessLookupError:
            continue
    os.waitpid(process, 0)


# --- a change of a function ----------------------------------------------------------------------


class Warm:
    """A plugin: in the place of running the tests, fork and run those of each job.

    `tell` is given each outcome; a job whose function is not to be found is given with None.
    """

    def __init__(
        self,
        root: Path,
        jobs: Sequence[Job],
        forks: Forks,
        tell: Callable[[Job, Outcome | None], None],
    ) -> None:
        self.root, self.jobs, self.forks, self.tell = root, jobs, forks, tell

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Do all the work; nothing is left to run."""
        items = {item.nodeid: item for item in session.items}
        functions = _functions(self.root)
        ready = []
        for job in self.jobs:
            if job.site is None or _key(job.site) in functions:
                ready.append(job)
            else:
                self.tell(job, None)

        def inside(job: Job, watch: Watch) -> None:
            if job.site is not None:
                _apply(job.site, functions, self.root)
            session.config.pluginmanager.register(watch)
            chosen = [items[name] for name, _ in job.tests if name in items]
            for item, after in zip(chosen, [*chosen[1:], None], strict=True):
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
                if watch.failed and job.site is not None:
                    return

        gc.collect()
        gc.freeze()
        for job, outcome in self.forks.run(ready, inside):
            self.tell(job, outcome)
        return True


def _functions(root: Path) -> dict[tuple[str, str, int], list[FunctionType]]:
    found: dict[tuple[str, str, int], list[FunctionType]] = defaultdict(list)
    for one in gc.get_objects():
        if not isinstance(one, FunctionType):
            continue
        code = one.__code__
        if code.co_filename.startswith(f"{root}/") and "<locals>" not in code.co_qualname:
            path = Path(code.co_filename).relative_to(root).as_posix()
            found[path, code.co_qualname, code.co_firstlineno].append(one)
    return found


def _key(site: Site) -> tuple[str, str, int]:
    return site.path, site.function, site.first


def _apply(
    site: Site, functions: dict[tuple[str, str, int], list[FunctionType]], root: Path
) -> None:
    module = code_of(site, str(root / site.path))
    changed = next(
        code
        for code in _codes(module)
        if (code.co_qualname, code.co_firstlineno) == (site.function, site.first)
    )
    for function in functions[_key(site)]:
        function.__code__ = changed


def _codes(code: CodeType) -> Iterator[CodeType]:
    for one in code.co_consts:
        if isinstance(one, CodeType):
            yield one
            yield from _codes(one)


# --- a change of a module ------------------------------------------------------------------------


def run_cold(job: Job, watch: Watch, root: Path) -> None:
    """Import the package with the job's change in place, and run its tests."""
    if job.site is not None:
        _bend_import(job.site, root)
    # Only their files are collected; the others in them are left out by name.
    chosen = _Chosen(tuple(name for name, _ in job.tests))
    names = sorted({name.partition("::")[0] for name in chosen.names})
    if names and pytest.main([*PYTEST, *names], plugins=[watch, chosen]) == _NOT_BEGUN:
        watch.failed = watch.failed or "importing the package"


def _bend_import(site: Site, root: Path) -> None:
    changed = code_of(site, str(root / site.path))
    loader = importlib.machinery.SourceFileLoader
    usual = loader.get_code

    def get_code(self: importlib.machinery.SourceFileLoader, name: str) -> CodeType | None:
        return changed if Path(self.path) == root / site.path else usual(self, name)

    loader.get_code = get_code  # type: ignore[assignment,method-assign]


@dataclass(slots=True, eq=False)
class _Chosen:
    """Keeps the chosen tests, in the chosen order."""

    names: tuple[str, ...]

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        known = {item.nodeid: item for item in items}
        items[:] = [known[name] for name in self.names if name in known]
