"""The simulated platform fails and hangs as often as it is told, and the same way each time."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import UnavailableError
from attestation.tdx.quote import parse_quote
from gateway.attester.simulated.faults import Fault, FaultPlan
from gateway.attester.simulated.options import parse_options
from gateway.attester.simulated.platform import SimulatedPlatform
from gateway.attester.simulated.provider import SimulatedProvider
from tests.refusals import refusal

NOW = 1_760_000_000
SEED = "0f" * 16


def provider(plan: FaultPlan, slept: list[float]) -> SimulatedProvider:
    platform = SimulatedPlatform(now=NOW, seed=b"faults")
    return SimulatedProvider(
        platform, latency=0.25, faults=plan, sleep=slept.append, clock=lambda: NOW
    )


def drawn(plan: FaultPlan, count: int) -> list[Fault]:
    return [plan.fault(number) for number in range(count)]


def test_first_quote_is_exempt_and_every_later_one_fails() -> None:
    one = provider(FaultPlan(failure_rate=1.0), [])
    assert parse_quote(one.quote(bytes(64))).body.report_data == bytes(64)
    for _ in range(3):
        assert refusal(one.quote, bytes(64), error=UnavailableError) == "simulated_failure"


def test_first_quote_fails_too_when_asked_for() -> None:
    one = provider(FaultPlan(failure_rate=1.0, exempt=0), [])
    assert refusal(one.quote, bytes(64), error=UnavailableError) == "simulated_failure"


def test_hanging_quote_takes_its_time_and_is_a_quote_all_the_same() -> None:
    slept: list[float] = []
    one = provider(FaultPlan(hang_rate=1.0, hang=30.0), slept)
    one.quote(bytes(64))
    assert parse_quote(one.quote(bytes(64))).body.report_data == bytes(64)
    assert slept == [0.25, 30.25]


def test_register_can_be_read_while_a_quote_hangs() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def hang(_seconds: float) -> None:
        begun.set()
        assert go_on.wait(60)

    platform = SimulatedPlatform(now=NOW, seed=b"faults")
    one = SimulatedProvider(platform, latency=1.0, sleep=hang, clock=lambda: NOW)
    thread = threading.Thread(target=one.quote, args=(bytes(64),))
    thread.start()
    assert begun.wait(60)
    assert one.read_rtmr3() == bytes(48)
    go_on.set()
    thread.join()


@given(st.binary(max_size=32), st.floats(0, 1), st.floats(0, 1))
def test_faults_follow_from_the_seed_alone(seed: bytes, failing: float, hanging: float) -> None:
    plan = FaultPlan(seed=seed, failure_rate=failing / 2, hang_rate=hanging / 2)
    first = drawn(plan, 40)
    assert first == drawn(replace(plan), 40)
    assert first[0] is Fault.NONE


@pytest.mark.parametrize(("failing", "hanging"), [(0.3, 0.1), (0.0, 0.5), (1.0, 0.0)])
def test_rates_are_met_over_many_quotes(failing: float, hanging: float) -> None:
    faults = drawn(FaultPlan(failure_rate=failing, hang_rate=hanging, exempt=0, seed=b"x"), 4000)
    assert abs(faults.count(Fault.FAILURE) / 4000 - failing) < 0.03
    assert abs(faults.count(Fault.HANG) / 4000 - hanging) < 0.03


def test_another_seed_hits_other_quotes() -> None:
    rates = {"failure_rate": 0.5, "exempt": 0}
    assert drawn(FaultPlan(seed=b"a", **rates), 64) != drawn(FaultPlan(seed=b"b", **rates), 64)  # type: ignore[arg-type]


def test_options_become_a_plan() -> None:
    asked = {"failure_rate": "0.25", "hang_rate": "0.5", "hang": "7.5", "seed": SEED}
    assert parse_options("", asked).faults == FaultPlan(
        failure_rate=0.25, hang_rate=0.5, hang=7.5, exempt=1, seed=bytes.fromhex(SEED)
    )
    assert parse_options("", {**asked, "faults": "all"}).faults.exempt == 0


def test_without_options_nothing_fails() -> None:
    plan = parse_options("", {}).faults
    assert set(drawn(plan, 100)) == {Fault.NONE}


def test_faults_without_a_seed_differ_from_run_to_run() -> None:
    assert parse_options("", {}).faults.seed != parse_options("", {}).faults.seed
