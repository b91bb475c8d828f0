"""A notary process that stands still: 503 after a bound instead of a hang, and back again."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from attestation.receipt.claims import End
from tests.processes.conftest import Fleet, standing_still
from tests.support.serving import wait_until

pytestmark = pytest.mark.slow


def readyz(fleet: Fleet) -> tuple[int, dict[str, Any]]:
    with fleet.client() as client:
        response = client.get("/readyz")
    return response.status_code, response.json()


def is_unready(fleet: Fleet) -> bool:
    return readyz(fleet)[0] == 503


def code_of(response: httpx2.Response) -> str:
    code: str = response.json()["error"]["code"]
    return code


def test_notary_that_stands_still_is_a_503_after_a_bound_and_then_goes_on(
    fleet: Callable[..., Fleet], standin: Callable[..., str], tmp_path: Any
) -> None:
    quick = {"data_dir": str(tmp_path / "data"), "slow_seconds": 0.5, "patience_seconds": 3.0}
    gateway = fleet(standin(), workers=1, notary=quick)
    assert gateway.ask().status_code == 200
    with ThreadPoolExecutor() as pool:
        with standing_still([gateway.notary]):
            waiting = pool.submit(gateway.ask)
            wait_until(lambda: is_unready(gateway))
            assert readyz(gateway)[1]["reasons"] == ["notary_slow"]
            refused = gateway.ask()
            assert (refused.status_code, code_of(refused)) == (503, "notary_unavailable")
            answer = waiting.result(60)
            # Nothing of the engine's answer leaves without its receipt.
            assert (answer.status_code, code_of(answer)) == (503, "receipt_unavailable")
            shown = gateway.served.metrics()
            assert shown["attested_notary_answers"] == 0
            assert shown['attested_requests_shed_total{reason="notary"}'] >= 1
            assert shown["attested_answers_unsealed_total"] == 1
        wait_until(lambda: not is_unready(gateway))
    assert gateway.ask().status_code == 200
    assert gateway.end(answer.headers["x-receipt-id"]) is End.COMPLETE
    wait_until(lambda: gateway.served.metrics()["attested_in_flight"] == 0)
    names = [event["event"] for event in gateway.served.events]
    assert names.index("notary.slow") < names.index("notary.answers")
    assert gateway.served.stop() == 0
