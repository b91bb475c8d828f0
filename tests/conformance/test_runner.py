"""The runner reports every case, survives every case and exits as documented."""

from __future__ import annotations

import argparse
import json
import multiprocessing
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from attestation.cli import conformance as command
from attestation.conformance import process, worker
from attestation.conformance.case import Judgement
from attestation.conformance.process import WorkerProcess
from attestation.conformance.runner import run_topic
from attestation.conformance.topics import TOPICS
from attestation.errors import MalformedError, UnavailableError, UsageError
from tests.conformance.conftest import Build, b64, lines
from tests.refusals import refusal

FAULTY = "tests.conformance.faulty_topic"
LONG = 60.0


def actions(folder: Path, *listed: str) -> Path:
    (folder / "actions").write_text("".join(f"{line}\n" for line in listed))
    return folder


def run(root: Path, seconds: float = LONG) -> tuple[int, list[dict[str, object]]]:
    written: list[str] = []
    topics = {"faulty": FAULTY}
    code = run_topic("faulty", root, topics=topics, write_line=written.append, case_seconds=seconds)
    return code, [json.loads(line) for line in written]


def pipe() -> tuple[Connection, Connection]:
    return multiprocessing.Pipe()


def test_run_with_all_cases_ok_exits_with_0(tmp_path: Path) -> None:
    code, written = run(actions(tmp_path, 'good "accept"'))
    assert code == 0
    assert written == [
        {"case": "good", "expected": "accept", "got": "accept", "ok": True},
        {"topic": "faulty", "cases": 1, "passed": 1, "failed": 0},
    ]
    assert list(written[0]) == ["case", "expected", "got", "ok"]


def test_crash_and_exception_cost_one_case_each_and_exit_with_10(tmp_path: Path) -> None:
    root = actions(
        tmp_path,
        'good "accept"',
        'leave "either"',
        'good "accept"',
        'fail "accept"',
        'end "accept"',
        'good "reject"',
    )
    code, written = run(root)
    assert code == 10
    assert [(line["got"], line["ok"]) for line in written[:-1]] == [
        ("accept", True),
        ("crash: the process ended", False),
        ("accept", True),
        ("crash: KeyError", False),
        ("crash: SystemExit", False),
        ("accept", False),
    ]
    assert written[-1] == {"topic": "faulty", "cases": 6, "passed": 2, "failed": 4}


def test_case_that_hangs_is_ended_and_the_next_one_runs(tmp_path: Path) -> None:
    # Only the worker's own start has to fit: a running worker answers "good" in no time at all.
    root = actions(tmp_path, 'hang "accept"', 'good "accept"')
    code, written = run(root, seconds=1.5)
    assert code == 10
    assert written[0]["got"] == "timeout: 1.5 s"
    assert written[1]["ok"] is True


def test_unknown_topic_is_a_usage_error(tmp_path: Path) -> None:
    arguments = {"topics": TOPICS, "write_line": print}
    assert refusal(run_topic, "jsno", tmp_path, error=UsageError, **arguments) == "topic"


def test_missing_directory_is_a_usage_error(tmp_path: Path) -> None:
    assert refusal(run, tmp_path / "absent", error=UsageError) == "directory"


def test_directory_that_is_refused_writes_nothing(tmp_path: Path) -> None:
    root = actions(tmp_path, 'good "accept"', "refuse")
    written: list[str] = []
    arguments = {"topics": {"t": FAULTY}, "write_line": written.append}
    with pytest.raises(MalformedError) as caught:
        run_topic("t", root, **arguments)  # type: ignore[arg-type]
    assert (caught.value.code, caught.value.observed) == ("manifest", "this")
    assert written == []


def test_directory_without_a_case_is_rejected(tmp_path: Path) -> None:
    assert refusal(run, actions(tmp_path)) == "manifest"


def test_worker_that_dies_while_reading_is_reported(tmp_path: Path) -> None:
    assert refusal(run, actions(tmp_path, "vanish"), error=UnavailableError) == "worker"


def test_worker_that_never_lists_its_cases_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "CATALOGUE_SECONDS", 0.0)
    root = actions(tmp_path, 'good "accept"')
    assert refusal(run, root, error=UnavailableError) == "worker"


def test_resources_are_closed_when_the_run_ends(tmp_path: Path) -> None:
    mark = tmp_path / "closed"
    assert run(actions(tmp_path, f"note {mark}", 'good "accept"'))[0] == 0
    assert mark.exists()


def test_worker_that_does_not_end_when_asked_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_STOP_SECONDS", 0.01)
    assert run(actions(tmp_path, "linger", 'good "accept"'))[0] == 0


def test_worker_that_died_meanwhile_can_still_be_stopped(tmp_path: Path) -> None:
    root = actions(tmp_path, 'good "accept"')
    started = WorkerProcess(FAULTY, str(root))
    started._process.kill()
    started._process.join()
    started.stop()
    assert started.lost


def test_case_given_to_a_worker_that_died_meanwhile_is_a_crash(tmp_path: Path) -> None:
    started = WorkerProcess(FAULTY, str(actions(tmp_path, 'good "accept"')))
    started._process.kill()
    started._process.join()
    assert started.judge(0, LONG) == Judgement(got="crash: the process ended", ok=False)
    assert started.lost
    started.stop()


def test_worker_answers_until_told_to_end(tmp_path: Path) -> None:
    ours, theirs = pipe()
    for message in (1, 0, None):
        ours.send(message)
    mark = tmp_path / "closed"
    root = actions(tmp_path, f"note {mark}", 'good "accept"', 'fail "reject"')
    worker.serve(theirs, FAULTY, str(root))
    assert ours.recv() == [("good", "accept"), ("fail", "reject")]
    assert ours.recv() == Judgement(got="crash: KeyError", ok=False)
    assert ours.recv() == Judgement(got="accept", ok=True)
    assert not ours.poll()
    assert mark.exists()


def test_worker_reports_a_refused_directory_and_ends(tmp_path: Path) -> None:
    ours, theirs = pipe()
    worker.serve(theirs, FAULTY, str(actions(tmp_path, "refuse")))
    answer = ours.recv()
    assert type(answer) is MalformedError
    assert (answer.code, answer.observed, str(answer)) == ("manifest", "this", "refused; saw this")


def test_worker_ends_quietly_when_the_runner_is_gone(tmp_path: Path) -> None:
    root = str(actions(tmp_path, 'good "accept"'))
    ours, theirs = pipe()
    ours.close()
    worker.serve(theirs, FAULTY, root)
    ours, theirs = pipe()
    ours.send(0)
    ours.close()
    worker.serve(theirs, FAULTY, root)


def parsed(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.configure(parser)
    return parser.parse_args(arguments)


def test_command_prints_the_lines_and_returns_the_code(
    build: Build, capsys: pytest.CaptureFixture[str]
) -> None:
    case = {"name": "x", "bytes_b64": b64(b"[]"), "expect": "accept"}
    root = build({"a.ndjson": lines(case, case | {"name": "y", "expect": "reject"})})
    assert command.run(parsed("json", str(root), "--json")) == 10
    written = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["ok"] for line in written[:-1]] == [True, False]
    assert written[-1] == {"topic": "json", "cases": 2, "passed": 1, "failed": 1}


def test_command_takes_a_time_limit_and_another_table(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    command.configure(parser, {"faulty": FAULTY})
    root = actions(tmp_path, 'hang "accept"')
    args = parser.parse_args(["faulty", str(root), "--case-seconds", "0.1"])
    assert command.run(args) == 10
    assert parsed("json", "x").case_seconds == 60.0


def test_help_lists_the_topics_and_the_exit_codes() -> None:
    parser = argparse.ArgumentParser()
    command.configure(parser)
    text = parser.format_help()
    assert all(topic in text for topic in TOPICS)
    assert "13" in text
    assert command.HELP
