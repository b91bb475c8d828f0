"""The log and anchored receipts over HTTP, whichever worker answers."""

from __future__ import annotations

import httpx2
import pytest

from attestation.bundle import parse_bundle
from attestation.merkle.checkpoint import parse_checkpoint
from attestation.merkle.note import parse_note
from tests.e2e.conftest import Engines, Serve
from tests.support.serving import Served

pytestmark = pytest.mark.slow
CHAT = "/v1/chat/completions"
BODY = {"model": "stand-in-1", "messages": [{"role": "user", "content": "one log"}]}
TIMES = 12


def fetch(served: Served, path: str) -> httpx2.Response:
    # A connection each, so that the kernel spreads them over the workers.
    headers = {"authorization": f"Bearer {served.key}"}
    return httpx2.get(f"{served.url}{path}", headers=headers, trust_env=False, timeout=60)


@pytest.mark.parametrize("workers", ["0", "2"])
def test_one_log_stands_behind_every_worker_and_receipts_are_anchored_in_it(
    serve: Serve, standin: Engines, workers: str
) -> None:
    served = serve(standin(), "--workers", workers, log={"forced_epoch_seconds": 0.2})
    headers = {"authorization": f"Bearer {served.key}"}
    answer = httpx2.post(f"{served.url}{CHAT}", json=BODY, headers=headers, trust_env=False)
    jti = answer.headers["x-receipt-id"]
    shown = [fetch(served, f"/v1/receipts/{jti}?wait=anchored&format=bundle") for _ in range(TIMES)]
    assert {one.headers["x-receipt-state"] for one in shown} == {"anchored"}
    assert len({one.content for one in shown}) == 1
    (epoch,) = parse_bundle(shown[0].content).epochs
    epochs = [fetch(served, f"/v1/log/epoch/{epoch.statement.epoch}") for _ in range(TIMES)]
    assert len({one.headers["etag"] for one in epochs}) == 1
    assert parse_bundle(epochs[0].content).epochs == (epoch,)
    for _ in range(TIMES):
        note = parse_note(fetch(served, "/v1/log/checkpoint").text)
        checkpoint = parse_checkpoint(note.text)
        assert checkpoint.origin == served.lines["log origin"]
        assert checkpoint.size >= epoch.statement.size
    tile = f"/v1/log/tile/0/000.p/{epoch.statement.size}"
    assert len({fetch(served, tile).content for _ in range(TIMES)}) == 1
    assert fetch(served, "/v1/log/segments/000000.seg").status_code == 404
