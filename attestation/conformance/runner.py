"""Running every case of a directory and reporting one JSON line for each."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from attestation.conformance.process import WorkerProcess
from attestation.errors import MalformedError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from attestation.conformance.case import Judgement
    from attestation.encoding.strict_json import JsonValue

CASE_SECONDS = 60.0
ALL_OK = 0
SOME_NOT_OK = 10


def run_topic(
    topic: str,
    directory: Path,
    *,
    topics: Mapping[str, str],
    write_line: Callable[[str], object],
    case_seconds: float = CASE_SECONDS,
) -> int:
    """Run all cases of `directory` and return the exit code: 0 if all are ok, otherwise 10.

    Writes `{"case","expected","got","ok"}` for each case, in the order of the manifest, and then
    `{"topic","cases","passed","failed"}`.  A case that crashes its process or takes longer than
    `case_seconds` is not ok, whatever was expected.  Raises `UsageError` for an unknown topic or
    a missing directory, `MalformedError` for a directory that is not what its manifest says or
    holds no case; in these cases nothing has been written.
    """
    if topic not in topics:
        raise UsageError(
            "there is no such conformance topic",
            code="topic",
            expected="one of " + ", ".join(sorted(topics)),
            observed=topic,
        )
    total = passed = 0
    for name, expected, judgement in _judgements(topics[topic], str(directory), case_seconds):
        total += 1
        passed += judgement.ok
        line = {"case": name, "expected": expected, "got": judgement.got, "ok": judgement.ok}
        write_line(json.dumps(line))
    summary = {"topic": topic, "cases": total, "passed": passed, "failed": total - passed}
    write_line(json.dumps(summary))
    return ALL_OK if passed == total else SOME_NOT_OK


def _judgements(
    module: str, directory: str, case_seconds: float
) -> Iterator[tuple[str, JsonValue, Judgement]]:
    worker = WorkerProcess(module, directory)
    try:
        for index, (name, expected) in enumerate(_require_cases(worker.catalogue)):
            if worker.lost:
                worker.stop()
                worker = WorkerProcess(module, directory)
            yield name, expected, worker.judge(index, case_seconds)
    finally:
        worker.stop()


def _require_cases(catalogue: list[tuple[str, JsonValue]]) -> list[tuple[str, JsonValue]]:
    if not catalogue:
        raise MalformedError(
            "the directory of test vectors holds no case",
            code="manifest",
            expected="at least one case",
        )
    return catalogue
