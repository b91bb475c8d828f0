"""A set of endorsements is as old as the oldest of its parts that are issued every month."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from attestation.tdx.collateral import Collateral, issue_dates, oldest_issue
from gateway.attester.simulated.facts import DAY
from tests.refusals import refusal
from tests.tdx import bench


def issued(**endorsements: int) -> Collateral:
    return bench.changed(bench.platform(), endorsements=endorsements).collateral()


@pytest.mark.parametrize("part", ["tcb_issued", "qe_issued", "crl_issued"])
def test_oldest_part_counts(part: str) -> None:
    assert oldest_issue(issued()) == bench.NOW - 3600
    assert oldest_issue(issued(**{part: -8 * DAY})) == bench.NOW - 8 * DAY


def test_parts_have_numbers_of_their_own() -> None:
    dates = issue_dates(issued(evaluation_number=21, qe_evaluation_number=19, tcb_issued=-60))
    assert (dates.tcb_number, dates.qe_number) == (21, 19)
    assert (dates.tcb_info, dates.qe_identity) == (bench.NOW - 60, bench.NOW - 3600)


def test_list_of_the_root_does_not_count() -> None:
    old = issued(crl_issued=-300 * DAY)
    assert oldest_issue(replace(issued(), root_ca_crl=old.root_ca_crl)) == bench.NOW - 3600


def test_genuine_quote_says_how_old_its_endorsements_are() -> None:
    genuine = bench.verify(bench.changed(bench.platform(), endorsements={"qe_issued": -7 * DAY}))
    assert genuine.collateral_issued == bench.NOW - 7 * DAY


@pytest.mark.parametrize(
    "changes",
    [
        {"pck_crl": b"no list"},
        {"tcb_info": "{}"},
        {"tcb_info": '{"issueDate":1}'},
        {"qe_identity": '{"issueDate":"soon"}'},
        {"qe_identity": '{"issueDate":"2026-01-01T00:00:00","tcbEvaluationDataNumber":1}'},
        {"qe_identity": '{"issueDate":"2026-01-01T00:00:00Z"}'},
        {"tcb_info": '{"issueDate":"2026-01-01T00:00:00Z","tcbEvaluationDataNumber":true}'},
        {"tcb_info": '{"issueDate":"2026-01-01T00:00:00Z","tcbEvaluationDataNumber":"1"}'},
    ],
)
def test_set_that_does_not_say_when_it_was_issued_is_malformed(changes: dict[str, Any]) -> None:
    assert refusal(oldest_issue, replace(bench.collateral(), **changes)) == "collateral"


def test_text_that_is_no_json_is_malformed() -> None:
    assert refusal(oldest_issue, replace(bench.collateral(), tcb_info="x")) == "syntax"
