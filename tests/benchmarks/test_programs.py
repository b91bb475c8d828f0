"""The benchmark programs run, and what they print has the members their readers expect.

How fast anything is, is not looked at here: machines that run tests have other work.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from benchmarks import million, receipts, sealing, verifying
from benchmarks.disk import PacedLayer, measure_disk
from benchmarks.figures import latencies, publish, table
from benchmarks.load import requests
from benchmarks.machine import describe_machine


def left_in(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def test_load_is_the_same_for_the_same_seed() -> None:
    one, again, other = requests(1), requests(1), requests(2)
    first = [next(one) for _ in range(3)]
    assert first == [next(again) for _ in range(3)]
    assert first != [next(other) for _ in range(3)]


def test_machine_is_described_without_its_name(tmp_path: Path) -> None:
    described = describe_machine(tmp_path)
    assert described["cpus"] >= 1
    assert described["memory_gib"] >= 1
    assert str(tmp_path) not in json.dumps(described)


def test_latencies_are_read_off_the_sorted_times() -> None:
    assert latencies([0.003, 0.001, 0.002]) == {"p50_ms": 2.0, "p99_ms": 3.0, "max_ms": 3.0}


def test_bare_loop_counts_syncs(tmp_path: Path) -> None:
    bare = measure_disk(tmp_path, seconds=0.1, layer=PacedLayer(0.01))
    assert bare["syncs_per_second"] <= 100
    assert bare["p50_ms"] >= 10
    assert list(tmp_path.iterdir()) == []


def test_table_has_a_line_for_each_row() -> None:
    assert table([{"a": 1, "long": "x"}, {"a": 22, "long": "y"}]) == " a  long\n 1     x\n22     y"


def test_every_step_of_a_receipt_is_measured(tmp_path: Path) -> None:
    document, rows = sealing.run(count=3, rounds=1, folder=tmp_path)
    assert rows[0] == {"step": "bare Ed25519 signature", "us": rows[0]["us"], "signatures": 1.0}
    assert all(row["us"] > 0 and row["signatures"] > 0 for row in rows)
    assert document["steps"] == rows


@pytest.mark.slow
async def test_receipts_are_measured_on_both_disks(tmp_path: Path) -> None:
    arguments = argparse.Namespace(folder=tmp_path, seconds=1.0, in_flight=(1, 4), out=None)
    document, rows = await receipts.run(arguments)
    assert [row["in_flight"] for row in rows] == [1, 4, 1, 4]
    assert all(row["receipts_per_second"] > 0 and row["notary_cpu_us"] >= 0 for row in rows)
    assert document["disk_as_it_is"]["bare_write_fdatasync"]["syncs_per_second"] > 0
    slowed = document["disk_slowed_to_150"]
    assert slowed["bare_write_fdatasync"]["syncs_per_second"] <= receipts.SLOW_SYNCS
    assert document["where_time_goes_percent"]


@pytest.mark.slow
async def test_long_boot_is_measured_restarted_and_found_again(tmp_path: Path) -> None:
    arguments = argparse.Namespace(folder=tmp_path, receipts=60)
    document, rows = await million.run(arguments)
    for part in (document, document["restart"], document["restart_without_index"]):
        proved = part["found_with_proof"]
        assert proved["looked_up"] == proved["anchored"] == 60
    assert set(document["log"]["notary_resident_mib"]) == {"0", "6", "30", "60"}
    assert left_in(tmp_path) == []
    out = tmp_path / "figures.json"
    publish(document, rows, out)
    assert json.loads(out.read_text(encoding="utf-8")) == document
    assert str(tmp_path) not in out.read_text(encoding="utf-8")


def test_verifier_is_measured_with_its_memory(tmp_path: Path) -> None:
    document = verifying.run(receipts=3, quotes=1, rounds=1, long=5, folder=tmp_path)
    assert [row["times_bare"] for row in (document["receipts"][0], document["quotes"][0])] == [1, 1]
    assert len(document["receipts"]) == 5
    assert all(row["per_second"] > 0 for row in [*document["receipts"], *document["quotes"]])
    assert document["long_run"]["receipts"] == 5


def test_long_run_takes_one_file_after_the_other() -> None:
    long = verifying.long_run(5, 2)
    assert [one["receipts"] for one in long["memory"]] == [2, 4]
    assert all(one["rss_mib"] > 0 for one in long["memory"])


@pytest.mark.slow
def test_verifier_that_keeps_something_of_every_file_is_not_flat() -> None:
    grown = verifying.long_run(120, 1, program="tests.benchmarks.leaking")["growth"]
    assert grown["ratio"] > verifying.FLAT
    assert grown["flat"] is False


def _memory(values: list[float]) -> list[dict[str, float]]:
    return [{"receipts": at, "rss_mib": value} for at, value in enumerate(values)]


def test_memory_that_settles_is_flat_and_memory_that_creeps_is_not() -> None:
    settled = verifying.growth(_memory([40.0] * 10 + [100.0, 108.0, 101.0] * 30))
    assert settled is not None
    assert settled["flat"] is True
    crept = verifying.growth(_memory([100.0 + at / 5 for at in range(100)]))
    assert crept is not None
    assert crept["after_the_first_tenth_mib"] == pytest.approx(102.9)
    assert crept["in_the_last_tenth_mib"] == pytest.approx(118.9)
    assert crept["flat"] is False


def test_short_run_says_nothing_of_growth() -> None:
    assert verifying.growth(_memory([50.0] * 19)) is None
