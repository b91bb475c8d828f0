"""Take every check of the verifier away, one at a time, and see whether a test notices.

    python tools/check_mutants.py [--only PATH] [--sample N --seed S] [--list] [--workers N]

1. Every place in the verifier that can refuse or withhold is listed (tools/check_sites.py): each
   statement that refuses, each branch, each operand of a condition, each member of a comparison,
   each entry of a table, each bound.  A mutant is the program in which that one check is not made.
2. The unchanged tests of attestation/ run once, without the vectors; it is written down which
   test runs which line, and how long it takes.
3. Each mutant is judged by the tests that run its line, those that noticed it last time first,
   then the fastest; the first failure kills it.  A test that hangs is a kill, counted apart.
4. Survivors are printed with file, line and change.  Those in tools/check_mutants.toml are argued
   to be the same program; an entry there that is killed, or names nothing, is an error.

What is done is remembered in .check-mutants/: a run that was interrupted goes on, and one on the
same code and tests judges nothing twice (--fresh does).  Not noticed are tests that run the
verifier in another process.  Handlers are not mutated: a check that crashes has not passed.
Exit 1 if a mutant survives.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import pytest
from attestation_tests import ROOT, folders
from check_change import Site
from check_forks import (
    PYTEST,
    Forks,
    Job,
    Outcome,
    Warm,
    Watch,
    preload,
    prepare_hypothesis,
    run_cold,
)
from check_sites import sites
from check_survey import Survey, Uses, digest_of, make_survey
from mutate import copy_tree

KEPT = ROOT / ".check-mutants"
ARGUED = Path(__file__).with_suffix(".toml")
_FIRST_FILES = 3


@dataclass(slots=True, kw_only=True)
class Memory:
    """What earlier runs found, by site id: outcomes of the same tree, hints of any other."""

    digest: str
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    hints: dict[str, str] = field(default_factory=dict)
    argued: set[str] = field(default_factory=set)

    @property
    def file(self) -> Path:
        return KEPT / "state.jsonl"

    def load(self, *, fresh: bool) -> None:
        lines = self.file.read_text(encoding="utf-8").splitlines() if self.file.exists() else []
        for line in lines:
            row = json.loads(line)
            if row["killer"]:
                self.hints[row["id"]] = row["killer"]
            if row["digest"] == self.digest and not fresh:
                told = {name: row[name] for name in ("outcome", "killer", "seconds")}
                self.outcomes[row["id"]] = Outcome(**told)

    def add(self, site: Site, outcome: Outcome) -> None:
        self.outcomes[site.id] = outcome
        row = {"digest": self.digest[:24], "id": site.id, **asdict(outcome)}
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


# --- which tests ---------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class Chooser:
    """Chooses and orders the tests of a site."""

    survey: Survey
    uses: Uses
    hints: dict[str, str]

    def tests(self, site: Site) -> tuple[tuple[str, float], ...]:
        if site.constant:
            names = self.uses.tests_of(site, self.survey)
        else:
            names = self.survey.tests_of(site.path, site.triggers)
        area = f"tests/{Path(site.path).parts[1].removesuffix('.py')}/"
        hint = self.hints.get(site.id, "")
        times = self.survey.seconds
        order = sorted(names, key=lambda n: (n != hint, times[n] > 1, area not in n, times[n], n))
        return tuple((name, times[name]) for name in order)


# --- the run -------------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class Progress:
    """One line on a terminal, or one line now and then elsewhere; on standard error."""

    total: int
    done: int = 0
    survived: int = 0
    begun: float = field(default_factory=time.monotonic)
    said: float = 0.0

    def add(self, site: Site, outcome: Outcome) -> None:
        self.done += 1
        if outcome.outcome == "survived":
            self.survived += 1
            print(f"\rsurvived: {site}", file=sys.stderr)
        now, terminal = time.monotonic(), sys.stderr.isatty()
        if now - self.said < (0.2 if terminal else 30) and self.done < self.total:
            return
        self.said = now
        left = (now - self.begun) / self.done * (self.total - self.done)
        text = f"{self.done}/{self.total} judged, {self.survived} survived, {left:.0f} s left"
        print(f"\r{text:60}", end="" if terminal else "\n", file=sys.stderr, flush=True)


def judge(wanted: list[Site], root: Path, chooser: Chooser, memory: Memory, workers: int) -> None:
    """Judge every site that memory has no outcome of."""
    due = [site for site in wanted if site.id not in memory.outcomes]
    progress = Progress(total=len(due))
    jobs = [Job(site=site, tests=chooser.tests(site)) for site in due]
    cold = [job for job in jobs if job.site and job.site.constant]
    warm = [job for job in jobs if job.site and not job.site.constant]

    def tell(job: Job, outcome: Outcome) -> None:
        if outcome.outcome == "error" or job.site is None:
            raise SystemExit(f"no mutant can be judged: {job.site}: {outcome.killer}")
        memory.add(job.site, outcome)
        progress.add(job.site, outcome)

    with tempfile.TemporaryDirectory(prefix="m-", ignore_cleanup_errors=True) as scratch:
        if warm:
            cold += _judge_warm(warm, root, Forks(workers=workers, scratch=Path(scratch)), tell)
        forks = Forks(workers=workers, scratch=Path(scratch))

        def inside(job: Job, watch: Watch) -> None:
            run_cold(job, watch, root)

        # To collect many files takes longer than to run most tests: a few of them come first.
        whole = {job.site.id: job for job in cold if job.site}
        left = []
        for job, outcome in forks.run([_begin(job) for job in cold], inside):
            usual = whole[job.site.id] if job.site else job
            if outcome.outcome == "survived" and len(job.tests) < len(usual.tests):
                left.append(usual)
            else:
                tell(job, outcome)
        for job, outcome in forks.run(left, inside):
            tell(job, outcome)


def _begin(job: Job) -> Job:
    """Return the job with the tests of its first files only."""
    files = list(dict.fromkeys(name.partition("::")[0] for name, _ in job.tests))[:_FIRST_FILES]
    return replace(job, tests=tuple(t for t in job.tests if t[0].partition("::")[0] in files))


def leave_out(survey: Survey, root: Path) -> None:
    """Judge the unchanged program first; a test that fails then is left out, and named.

    Each survey once.  Raises `SystemExit` if that is more than a few of them.
    """
    if survey.settled:
        return
    quick = tuple(sorted(survey.seconds.items(), key=lambda test: test[1]))
    found: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="m-", ignore_cleanup_errors=True) as scratch:
        forks = Forks(workers=1, scratch=Path(scratch))
        control = Job(site=None, tests=quick)
        _judge_warm([control], root, forks, lambda _, outcome: found.append(outcome))
    (told,) = found
    names = told.killer.split("\n") if told.killer else []
    if told.outcome in {"error", "timeout"} or len(names) > len(quick) / 100:
        raise SystemExit(f"the unchanged program: {told.outcome}, {told.killer[:2000]}")
    for name in names:
        print(f"left out, it fails beside others in one process: {name}", file=sys.stderr)
    survey.settle(names)


def _judge_warm(
    jobs: list[Job], root: Path, forks: Forks, tell: Callable[[Job, Outcome], None]
) -> list[Job]:
    """Judge jobs in a fork of this process that imports everything; return what it cannot do."""
    reading, writing = os.pipe()
    numbers = {id(job): number for number, job in enumerate(jobs)}
    process = os.fork()
    if process == 0:
        os.close(reading)

        def say(job: Job, outcome: Outcome | None) -> None:
            row = [numbers[id(job)], asdict(outcome) if outcome else None]
            os.write(writing, json.dumps(row).encode() + b"\n")

        os.dup2(os.open(os.devnull, os.O_RDWR), 1)
        status = pytest.main([*PYTEST, *folders(root)], plugins=[Warm(root, jobs, forks, say)])
        os._exit(int(status))
    os.close(writing)
    left = dict(enumerate(jobs))
    later = []
    try:
        with os.fdopen(reading, encoding="utf-8") as lines:
            for line in lines:
                number, told = json.loads(line)
                job = left.pop(number)
                if told is None:
                    later.append(job)
                else:
                    tell(job, Outcome(**told))
    except BaseException:
        os.kill(process, signal.SIGKILL)
        raise
    finally:
        _, status = os.waitpid(process, 0)
    if left:
        raise SystemExit(f"the test process ended early (status {status}): {len(left)} not judged")
    return later


# --- the report ----------------------------------------------------------------------------------


def argued_ids(every: list[Site]) -> dict[str, str]:
    """Return the reasons by site id; entries that name no site are an error."""
    table = tomllib.loads(ARGUED.read_text(encoding="utf-8")) if ARGUED.exists() else {}
    reasons = {entry["site"]: entry["reason"] for entry in table.get("equivalent", [])}
    gone = sorted(reasons.keys() - {site.id for site in every})
    if gone:
        raise SystemExit(f"{ARGUED.name} names sites that are not there: " + "; ".join(gone))
    return reasons


def report(wanted: list[Site], memory: Memory, reasons: dict[str, str], out: Path) -> int:
    """Write the report; return the exit status."""
    told = {site.id: memory.outcomes[site.id] for site in wanted}
    survived = [site for site in wanted if told[site.id].outcome == "survived"]
    open_ = [site for site in survived if site.id not in reasons]
    stale = [site for site in wanted if site.id in reasons and site not in survived]
    late = sum(outcome.outcome == "timeout" for outcome in told.values())
    rows = [
        {"id": site.id, "line": site.line, **asdict(told[site.id]), "argued": reasons.get(site.id)}
        for site in wanted
    ]
    out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    for site in open_:
        print(f"survived: {site}")
    for site in stale:
        print(f"argued equivalent, but killed by {told[site.id].killer}: {site}")
    print(
        f"{len(wanted)} mutants, {len(wanted) - len(survived)} killed ({late} of them by time), "
        f"{len(open_)} survived, {len(survived) - len(open_)} argued equivalent"
    )
    return 1 if open_ or stale else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="path prefix of the files to change")
    parser.add_argument("--sample", type=int, help="judge only so many, drawn with --seed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--fresh", action="store_true", help="judge again what was judged")
    parser.add_argument("--list", action="store_true", help="print the sites, judge nothing")
    parser.add_argument("--report", type=Path, default=KEPT / "report.json")
    arguments = parser.parse_args()
    os.environ["ATTESTED_VECTORS"] = str(ROOT / "Makefile" / "absent")
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    KEPT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="mutants-") as scratch:
        root = copy_tree(Path(scratch).resolve())
        every = sites(root)
        wanted = [site for site in every if site.path.startswith(arguments.only)]
        if arguments.sample is not None and arguments.sample < len(wanted):
            chance = random.Random(arguments.seed)  # noqa: S311  a draw to be repeated
            wanted = sorted(chance.sample(wanted, arguments.sample), key=lambda s: (s.path, s.line))
        if arguments.list:
            print(*wanted, f"{len(wanted)} mutants", sep="\n")
            return 0
        reasons = argued_ids(every)
        return _work(arguments, root, wanted, reasons)


def _work(
    arguments: argparse.Namespace, root: Path, wanted: list[Site], reasons: dict[str, str]
) -> int:
    os.chdir(root)
    os.environ["PYTHONPATH"] = str(root)
    sys.path.insert(0, str(root))
    sys.dont_write_bytecode = True
    memory = Memory(digest=digest_of(root)[:24])
    memory.load(fresh=arguments.fresh)
    survey = make_survey(root, KEPT, folders(root))
    chooser = Chooser(survey=survey, uses=Uses(root), hints=memory.hints)
    prepare_hypothesis()
    leave_out(survey, root)
    preload()
    judge(wanted, root, chooser, memory, arguments.workers)
    return report(wanted, memory, reasons, arguments.report)


if __name__ == "__main__":
    sys.exit(main())
