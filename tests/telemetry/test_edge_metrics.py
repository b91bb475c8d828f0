"""Counts of processes that serve callers: closed labels, honest sums, nothing that goes back."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from attestation.errors import MalformedError
from attestation.receipt.claims import End
from gateway.access import quotas
from gateway.edge import bounded, crowd, door, salt
from gateway.edge.routes import PATHS
from gateway.errors import UpstreamFailure
from gateway.processes.counting import ProcessCounts
from gateway.telemetry import edge
from gateway.telemetry.edge import ENGINE_STATES, EdgeMetrics
from gateway.telemetry.families import FAMILIES, Sums, parse_snapshot
from gateway.telemetry.usage import usage
from gateway.upstream.breaker import EngineState

ROOT = Path(__file__).parents[2]
CHAT = "/v1/chat/completions"
CANARY = "a prompt with spaces"


def shown(*snapshots: Any) -> dict[str, float]:
    """What an operator sees of these processes, by name and labels."""
    sums = Sums()
    for snapshot in snapshots:
        sums.add(parse_snapshot(json.loads(json.dumps(snapshot))))
    return samples(sums.render())


def samples(text: bytes) -> dict[str, float]:
    return {
        sample.name + "".join(f",{value}" for _, value in sorted(sample.labels.items())): (
            sample.value
        )
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def busy() -> EdgeMetrics:
    metrics = EdgeMetrics(("one", "two"))
    metrics.began(CHAT)
    metrics.first_byte(CHAT, 0.03)
    metrics.ended(CHAT, End.COMPLETE, 200, 0.3)
    metrics.began(CHAT)
    metrics.attempt("one", "ok", 0.02)
    metrics.attempt("two", UpstreamFailure.CONNECT, 0.001)
    metrics.engine_state("two", "open")
    metrics.connection(1)
    metrics.connection(1)
    metrics.connection(-1)
    metrics.shed("concurrency")
    metrics.quota_refused("tokens")
    metrics.rewritten("cache_salt")
    metrics.connection_refused("header_time")
    metrics.slow_client()
    metrics.sealed(0.004)
    metrics.unsealed()
    return metrics


def test_everything_counted_is_shown_under_its_name() -> None:
    found = shown(busy().snapshot())
    assert found[f"attested_requests_begun_total,{CHAT}"] == 2
    assert found[f"attested_requests_ended_total,complete,{CHAT},2xx"] == 1
    assert found[f"attested_requests_running,{CHAT}"] == 1
    assert found[f"attested_request_seconds_bucket,0.25,{CHAT}"] == 0
    assert found[f"attested_request_seconds_bucket,0.5,{CHAT}"] == 1
    assert found[f"attested_request_seconds_sum,{CHAT}"] == 0.3
    assert found[f"attested_request_first_byte_seconds_count,{CHAT}"] == 1
    assert found["attested_engine_attempts_total,one,ok"] == 1
    assert found["attested_engine_attempts_total,two,connect"] == 1
    assert found["attested_engine_state,two,open"] == 1
    assert found["attested_engine_state,two,up"] == 0
    assert found["attested_connections_open"] == 1
    assert found["attested_connections_accepted_total"] == 2
    assert found["attested_requests_shed_total,concurrency"] == 1
    assert found["attested_quota_refused_total,tokens"] == 1
    assert found["attested_bodies_rewritten_total,cache_salt"] == 1
    assert found["attested_connections_refused_total,header_time"] == 1
    assert found["attested_slow_clients_total"] == 1
    assert found["attested_seal_seconds_bucket,0.005"] == 1
    assert found["attested_answers_unsealed_total"] == 1


def test_two_processes_are_added_up_and_the_longest_wait_is_the_longest() -> None:
    waits = (
        {"attested_seal_waiting_seconds": [[[], 3.0]]},
        {"attested_seal_waiting_seconds": [[[], 2.0]]},
    )
    found = shown(busy().snapshot() | waits[0], busy().snapshot() | waits[1])
    assert found[f"attested_requests_begun_total,{CHAT}"] == 4
    assert found["attested_connections_open"] == 2
    assert found[f"attested_request_seconds_count,{CHAT}"] == 2
    assert found["attested_engine_state,two,open"] == 2
    assert found["attested_seal_waiting_seconds"] == 3.0


@given(st.text(min_size=1), st.integers(0, 999))
def test_no_text_from_outside_becomes_a_label(text: str, status: int) -> None:
    said = "not one of them " + text
    metrics = EdgeMetrics(("one",))
    metrics.began(said)
    metrics.first_byte(said, 1.0)
    metrics.ended(said, said, status, 1.0)
    metrics.ended(CHAT, said, status, 1.0)
    metrics.attempt(said, said, 1.0)
    metrics.attempt("one", said, 1.0)
    metrics.engine_state(said, said)
    metrics.engine_state("one", said)
    for count in (
        metrics.shed,
        metrics.connection_refused,
        metrics.quota_refused,
        metrics.rewritten,
    ):
        count(said)
    assert "not one of them" not in json.dumps(metrics.snapshot())


def test_every_call_is_counted_even_under_names_nobody_knows() -> None:
    metrics = EdgeMetrics(("one",))
    metrics.began(CANARY)
    metrics.ended(CANARY, CANARY, 777, 1.0)
    metrics.attempt(CANARY, "ok", 1.0)
    found = shown(metrics.snapshot())
    assert found["attested_requests_ended_total,other,other,5xx"] == 1
    assert found["attested_engine_attempts_total,other,ok"] == 1


def test_snapshot_of_a_process_that_did_nothing_has_every_engine_and_route() -> None:
    found = shown(EdgeMetrics(("one", "two")).snapshot())
    assert {f"attested_requests_running,{path}" for path in PATHS} < found.keys()
    assert {
        f"attested_engine_state,{name},{state}"
        for name in ("one", "two")
        for state in ENGINE_STATES
    } < found.keys()


def test_snapshot_has_exactly_declared_families() -> None:
    names = EdgeMetrics().snapshot().keys() | usage("worker").keys()
    assert names <= FAMILIES.keys()
    # Added by the process that has waits, and by the one that keeps budgets.
    added = {"attested_seal_waiting_seconds", "attested_budgets_unkept"}
    assert FAMILIES.keys() - names == added


def test_usage_without_proc_leaves_out_what_it_does_not_know(tmp_path: Path) -> None:
    assert usage("worker", tmp_path).keys() == {"attested_process_cpu_seconds"}
    found = shown(usage("worker"))
    assert found["attested_process_resident_bytes,worker"] > 1 << 20
    assert found["attested_process_open_descriptors,worker"] > 2


GOOD: Any = {
    "attested_requests_shed": [[["lag"], 1]],
    "attested_seal_seconds": [[[], [0] * 12, 0.5]],
}


@pytest.mark.parametrize(
    "snapshot",
    [
        None,
        [],
        {"unknown": []},
        {"attested_requests_shed": {}},
        {"attested_requests_shed": [[]]},
        {"attested_requests_shed": [["lag", 1]]},
        {"attested_requests_shed": [[[], 1]]},
        {"attested_requests_shed": [[["lag", "lag"], 1]]},
        {"attested_requests_shed": [[[CANARY], 1]]},
        {"attested_requests_shed": [[['a"} 1\nx{b="'], 1]]},
        {"attested_requests_shed": [[[7], 1]]},
        {"attested_requests_shed": [[["lag"]]]},
        {"attested_requests_shed": [[["lag"], -1]]},
        {"attested_requests_shed": [[["lag"], True]]},
        {"attested_requests_shed": [[["lag"], "1"]]},
        {"attested_requests_shed": [[["lag"], float("nan")]]},
        {"attested_requests_shed": [[["lag"], 1, 2]]},
        {"attested_requests_shed": [[["lag"], 1]] * 4097},
        {"attested_seal_seconds": [[[], [0] * 11, 0.5]]},
        {"attested_seal_seconds": [[[], 0.5]]},
    ],
)
def test_snapshot_of_another_form_is_refused_and_changes_nothing(snapshot: Any) -> None:
    assert parse_snapshot(GOOD) == GOOD
    with pytest.raises(MalformedError):
        parse_snapshot(snapshot)
    counts = ProcessCounts()
    counts.note("0", {"snapshot": GOOD})
    counts.note("0", {"snapshot": snapshot})
    assert samples(counts.sums().render())["attested_requests_shed_total,lag"] == 1


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(sorted(FAMILIES)), inner)
    ),
)


@given(json_values)
def test_snapshot_of_any_form_is_taken_or_refused(value: object) -> None:
    try:
        snapshot = parse_snapshot(value)
    except MalformedError:
        return
    shown(snapshot)


def test_counters_of_a_process_that_is_gone_stay_and_its_gauges_go() -> None:
    counts = ProcessCounts()
    counts.note("0", {"snapshot": busy().snapshot()})
    counts.note("1", {"snapshot": busy().snapshot()})
    before = samples(counts.sums().render())
    counts.gone("0")
    after = samples(counts.sums().render())
    assert after[f"attested_requests_begun_total,{CHAT}"] == 4
    assert (
        after[f"attested_request_seconds_sum,{CHAT}"]
        == before[f"attested_request_seconds_sum,{CHAT}"]
    )
    assert after["attested_connections_open"] == 1
    counts.note("0", {"snapshot": EdgeMetrics().snapshot()})
    counts.gone("0")
    counts.gone("0")
    again = samples(counts.sums().render())
    assert again[f"attested_requests_begun_total,{CHAT}"] == 4


def said_to(method: str) -> set[str]:
    """The words that the gateway's source hands to a method of the metrics."""
    found = set()
    for path in (ROOT / "gateway").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            word = node.args[0] if node.func.attr == method and node.args else None
            if isinstance(word, ast.Constant) and isinstance(word.value, str):
                found.add(word.value)
    return found


def test_closed_sets_are_the_words_that_the_gateway_uses() -> None:
    assert said_to("shed") == edge.SHED
    assert {
        crowd.TOO_MANY,
        crowd.TOO_MANY_OF_ADDRESS,
        door.HANDSHAKE_TIME,
        *bounded._REASONS.values(),
    } == edge.CONNECTION_REFUSALS
    assert {quotas.REQUESTS, quotas.TOKENS, quotas.BUDGET, "table"} == edge.QUOTA_KINDS
    assert tuple(EngineState) == edge.ENGINE_STATES
    assert {salt.MEMBER} == edge.REWRITES
