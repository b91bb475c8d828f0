"""The admin listener shows the counts of all processes, whatever becomes of one of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.processes.conftest import Fleet, kill, standing_still
from tests.support.serving import add_key, wait_until

pytestmark = pytest.mark.slow
BEGUN = 'attested_requests_begun_total{route="/v1/chat/completions"}'
ENDED = 'attested_requests_ended_total{end="complete",route="/v1/chat/completions",status="2xx"}'
CPU = 'attested_process_cpu_seconds_total{role="worker"}'


def ask_each_worker(fleet: Fleet) -> None:
    for worker in fleet.workers:
        with standing_still(pid for pid in fleet.workers if pid != worker):
            assert fleet.ask().status_code == 200


def test_requests_of_all_workers_are_added_up(
    fleet: Callable[..., Fleet], standin: Callable[..., str]
) -> None:
    gateway = fleet(standin())
    ask_each_worker(gateway)
    ask_each_worker(gateway)
    found = gateway.served.metrics()
    workers = len(gateway.workers)
    assert (found[BEGUN], found[ENDED]) == (2 * workers, 2 * workers)
    assert found["attested_workers_silent"] == 0
    assert found["attested_notary_answers"] == 1
    assert found["attested_seal_seconds_count"] == 2 * workers
    for role in ("worker", "notary", "supervisor"):
        assert found[f'attested_process_cpu_seconds_total{{role="{role}"}}'] > 0
        assert found[f'attested_process_open_descriptors{{role="{role}"}}'] > 3


def test_counters_do_not_go_back_when_a_worker_is_killed(
    fleet: Callable[..., Fleet], standin: Callable[..., str]
) -> None:
    gateway = fleet(standin())
    ask_each_worker(gateway)
    before = gateway.served.metrics()
    victim = gateway.workers[0]
    kill(victim)
    wait_until(lambda: victim not in gateway.workers and len(gateway.workers) == 2)
    wait_until(lambda: "worker.started" in gateway.served.stderr)
    after = gateway.served.metrics()
    fallen = [
        name
        for name, value in before.items()
        if name.partition("{")[0].endswith(("_total", "_count", "_sum", "_bucket"))
        and after.get(name, 0) < value
    ]
    assert fallen == []
    assert after[BEGUN] == before[BEGUN] == 2
    assert gateway.ask().status_code == 200
    assert gateway.served.metrics()[BEGUN] == 3


def test_worker_that_stands_still_is_shown_as_it_was(
    fleet: Callable[..., Fleet], standin: Callable[..., str]
) -> None:
    gateway = fleet(standin())
    ask_each_worker(gateway)
    before = gateway.served.metrics()
    with standing_still(gateway.workers[:1]):
        during = gateway.served.metrics()
    assert during["attested_workers_silent"] == 1
    assert during[BEGUN] == before[BEGUN]
    assert during[CPU] >= before[CPU]


def test_metrics_are_there_while_the_notary_stands_still(
    fleet: Callable[..., Fleet], standin: Callable[..., str]
) -> None:
    gateway = fleet(standin())
    assert gateway.ask().status_code == 200
    with standing_still([gateway.notary]):
        during = gateway.served.metrics()
    assert during["attested_notary_answers"] == 0
    assert "attested_notary_healthy" not in during
    assert during[BEGUN] == 1
    wait_until(lambda: gateway.served.metrics()["attested_notary_answers"] == 1)


def test_budgets_that_the_supervisor_cannot_keep_are_told_by_every_worker(
    fleet: Callable[..., Fleet], standin: Callable[..., str]
) -> None:
    gateway = fleet(standin())
    folder = gateway.served.folder
    (folder / "data" / "budgets.json.lock").mkdir()
    gateway.served.key = add_key(folder, "--token-budget", "100000")
    wait_until(lambda: gateway.ask().status_code == 200)

    def told(pid: int) -> bool:
        others = (other for other in gateway.workers if other != pid)
        with standing_still(others), gateway.client() as client:
            found = client.get("/readyz").json()
        return bool(found["degraded"] == ["budgets_unkept"])

    for worker in gateway.workers:
        wait_until(lambda worker=worker: told(worker))  # type: ignore[misc]
    assert gateway.served.metrics()["attested_budgets_unkept"] == 1
