"""What the machine does to a served gateway: a notary that stops, a full disk, quotes that hang."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from attestation.receipt.claims import End
from attestation.receipt.signing import parse_receipt
from gateway.engine.scripted import Close, Script
from tests.faults.bench import ONCE, STREAM, STREAMED, Bench, Reply, bench_of, body_of
from tests.outcomes.bench import EVENTS
from tests.support.faults import Fault, Kind, Plan
from tests.support.logs import tokens_of
from tests.support.serving import PATIENCE, wait_until

pytestmark = pytest.mark.slow


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def ask(bench: Bench, *, stream: bool = False) -> Reply:
    talk = bench.talk()
    talk.ask(body_of(stream=stream))
    return talk.reply()


def readiness(bench: Bench) -> tuple[int, list[str], list[str]]:
    answer = bench.get("/readyz")
    return answer.status_code, answer.json()["reasons"], answer.json()["degraded"]


def test_stream_whose_notary_stands_still_meanwhile_is_whole_in_the_end(tmp_path: Path) -> None:
    quick = {"data_dir": str(tmp_path / "data"), "slow_seconds": 0.5}
    with bench_of(tmp_path, notary=quick) as bench:
        held = Plan(down=Fault(kind=Kind.SLOW, size=1 << 16))
        bench.fresh(held, play=STREAM)
        with bench.accounted() as receipts:
            talk = bench.talk()
            talk.ask(body_of(stream=True))
            wait_until(lambda: bench.asked == 1)
            with stopped(bench.served.notary_pid):
                bench.way.step(100)
                # The events come; the frame that ends the stream waits for the receipt.
                read = talk.until(lambda seen: EVENTS[1] in seen)
                wait_until(lambda: readiness(bench)[:2] == (503, ["notary_slow"]))
                refused = ask(bench)
                assert (refused.status, refused.code) == (503, "notary_unavailable")
                assert b"[DONE]" not in read
            reply = talk.reply()
            assert (reply.ended, reply.body) == (True, STREAMED)
            bench.checked(reply, body_of(stream=True))
            wait_until(lambda: readiness(bench)[0] == 200)
        assert [one.end for one in receipts] == [End.COMPLETE]


def test_callers_that_leave_while_the_notary_stands_still_are_accounted_for(
    tmp_path: Path,
) -> None:
    with bench_of(tmp_path) as bench:
        bench.fresh(play=Script(writes=(EVENTS[0],), close=Close.HANG, headers=ONCE))
        with bench.accounted(receipts=5, asked=5) as receipts:
            talks = [bench.talk() for _ in range(5)]
            for talk in talks:
                talk.ask(body_of(stream=True))
            wait_until(lambda: bench.asked == 5)
            for talk in talks:
                talk.until(lambda seen: EVENTS[0] in seen)
            with stopped(bench.served.notary_pid):
                for talk in talks:
                    talk.leave()
                # The engine is left at once, whatever the notary does.
                wait_until(lambda: all(one.over for one in bench.way.passed))
                assert all(one.client_left for one in bench.way.passed)
        assert {one.end for one in receipts} == {End.CLIENT_ABORT}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    options = ["-t", "tmpfs", "-o", "size=3m,mode=0700", "tmpfs"]
    mounted = subprocess.run(["mount", *options, place], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def fill(place: Path, *, leaving: int) -> None:
    """Take all the room of a file system, but so many bytes."""
    (place / "spare").write_bytes(bytes(leaving))
    with contextlib.suppress(OSError), (place / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    (place / "spare").unlink()


def answered_until_refused(bench: Bench) -> int:
    """How many requests are answered while the last page of the log has room for receipts."""
    answered = 0
    # The notary's own next write may find that the disk is full before a request does.
    with contextlib.suppress(ConnectionError):
        while (reply := ask(bench)).status == 200:
            answered += 1
        assert reply.status == 0 or (reply.status, reply.code) in {
            (503, "receipt_unavailable"), (503, "notary_unavailable"),
        }  # fmt: skip
    return answered


def test_full_disk_is_announced_then_ends_the_boot_and_nothing_is_answered_without_receipt(
    tmp_path: Path, small_disk: Path
) -> None:
    notary = {"data_dir": str(small_disk / "data"), "min_free_bytes": 1 << 20}
    with bench_of(tmp_path, notary=notary) as bench:
        bench.fresh()
        (boot,) = (path.parent for path in (small_disk / "data").glob("*/boot.json"))
        fill(small_disk, leaving=256 << 10)
        wait_until(lambda: readiness(bench)[2] == ["disk_low"])
        assert ask(bench).status == 200
        fill(small_disk, leaving=0)
        answered = 1 + answered_until_refused(bench)
        assert bench.served.process.wait(PATIENCE) == 14
        assert bench.asked <= answered + 1
        ends = [parse_receipt(token).claims.response.end for token in tokens_of(boot)]
        assert ends == [End.COMPLETE] * answered
        ended = [event for event in bench.served.events if event["event"] == "boot.ended"]
        assert {event["reason"] for event in ended} <= {"log_failed", "export_failed"}
        assert ended
        assert not [event for event in bench.served.events if event["event"] == "internal_error"]


def test_quotes_that_hang_are_seen_and_hold_up_no_request(tmp_path: Path) -> None:
    evidence = {"provider": "simulated:?hang_rate=1&hang=60", "quote_timeout": 0.5}
    log = {"epoch_seconds": 0.2, "forced_epoch_seconds": 0.2}
    with bench_of(tmp_path, evidence=evidence, log=log) as bench:
        bench.fresh()
        with bench.accounted(receipts=1):
            assert ask(bench).status == 200
        wait_until(lambda: readiness(bench) == (200, [], ["epoch_late"]))
        assert bench.served.metrics()["attested_epoch_age_seconds"] > 0.6
        with bench.accounted(receipts=2, asked=2) as receipts:
            for _ in range(2):
                assert ask(bench).status == 200
        assert {one.end for one in receipts} == {End.COMPLETE}
        challenge = bench.get(f"/v1/attestation?nonce={'00' * 32}")
        assert challenge.status_code == 503
        assert challenge.json()["error"]["code"] in {"quote_timeout", "quote_busy", "quote_pause"}
