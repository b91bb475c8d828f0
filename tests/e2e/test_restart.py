"""A gateway that was started again: what its earlier boot issued, and what a session gets of it."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import httpx2
import pytest

from attestation.bundle import parse_bundle
from attestation.errors import PolicyError
from attestation.result import Verdict
from gateway.client.session import Session
from tests.e2e.conftest import Engines, Serve
from tests.support.gateways import closed_port
from tests.support.serving import Served, wait_until

pytestmark = pytest.mark.slow
CHAT = "/v1/chat/completions"
BODY = {"model": "stand-in-1", "messages": [{"role": "user", "content": "before the restart"}]}
# After the first leaf nothing is quoted but what the end of the boot asks for.
RARELY = {"epoch_seconds": 3600, "forced_epoch_seconds": 3600}


def ask(session: Session, key: str) -> str:
    with session.http_client(base_url=session.origin) as client:
        answer = client.post(CHAT, json=BODY, headers={"authorization": f"Bearer {key}"})
    return answer.headers["x-receipt-id"]


def fetch(served: Served, path: str, key: str) -> httpx2.Response:
    headers = {"authorization": f"Bearer {key}"}
    return httpx2.get(f"{served.url}{path}", headers=headers, trust_env=False, timeout=60)


def test_receipts_of_a_boot_that_ended_in_order_are_anchored_and_found_by_the_next(
    serve: Serve, standin: Engines, tmp_path: Path
) -> None:
    port = {"port": closed_port()}
    first = serve(standin(), folder=tmp_path, listen=port, log=RARELY)
    session = first.connect()
    ids = [ask(session, first.key) for _ in range(2)]
    origin = first.lines["log origin"]
    assert first.stop() == 0
    after = serve(standin(), folder=tmp_path, listen=port, log=RARELY)
    report = session.anchor()
    assert dict(report.left) == {}
    assert [call.verdict for call in session.calls] == [Verdict.SIMULATED] * 2
    assert all(call.anchored and call.openings for call in session.calls)
    found = fetch(after, f"/v1/receipts/{ids[1]}", first.key)
    assert found.json()["state"] == found.headers["x-receipt-state"] == "anchored"
    assert found.json()["openings"] is None
    assert found.headers["x-keyset-digest"] == after.lines["keyset digest"]
    assert fetch(after, f"/v1/receipts/{ids[1]}", after.key).status_code == 404
    bundle = parse_bundle(fetch(after, f"/v1/receipts/{ids[1]}?format=bundle", first.key).content)
    assert [boot.statement.log_origin for boot in bundle.boots] == [origin]
    assert len(bundle.epochs) == 1
    with pytest.raises(PolicyError, match=r"evidence of boot .* is not in the file"):
        ask(session, first.key)


def test_a_receipt_that_the_power_cut_caught_before_the_next_quote_is_unanchored_for_ever(
    serve: Serve, standin: Engines, tmp_path: Path
) -> None:
    port = {"port": closed_port()}
    first = serve(standin(), folder=tmp_path, listen=port, log=RARELY)
    session = first.connect()
    ids = [ask(session, first.key)]
    assert session.anchor().complete
    ids.append(ask(session, first.key))
    os.kill(first.notary_pid, signal.SIGKILL)
    wait_until(lambda: first.process.poll() is not None)
    after = serve(standin(), folder=tmp_path, listen=port, log=RARELY)
    report = session.anchor()
    assert report.anchored == 1
    (reason,) = report.left.values()
    assert "never be anchored" in reason
    states = {
        jti: fetch(after, f"/v1/receipts/{jti}?wait=anchored", first.key).json()["state"]
        for jti in ids
    }
    assert states == {ids[0]: "anchored", ids[1]: "unanchored-final"}
    written = session.export(tmp_path / "run")
    assert len(json.loads(written.read_bytes())["receipts"]) == 2
