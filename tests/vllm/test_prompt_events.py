"""Nothing of a stream waits in the gateway for what comes after it."""

from __future__ import annotations

from pathlib import Path

import pytest

from attestation.receipt.claims import End
from tests.support.relay import stepped_relay
from tests.support.serving import PATIENCE, serving
from tests.vllm.audit import audited_one
from tests.vllm.clients import openai_client
from tests.vllm.engine import Engine

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]

TOKENS = 600


def test_every_event_reaches_the_caller_before_the_next_is_passed_to_the_gateway(
    vllm_server: Engine, tmp_path: Path
) -> None:
    health = {"interval": 0.0}
    with (
        stepped_relay(vllm_server.host, vllm_server.port) as relay,
        serving(tmp_path, relay.address, health=health) as served,
    ):
        session = served.connect()
        with openai_client(session, served.key) as client:
            stream = client.chat.completions.create(
                model="tiny",
                messages=[{"role": "user", "content": "one by one"}],
                max_tokens=TOKENS,
                temperature=0,
                extra_body={"ignore_eos": True},
                stream=True,
                timeout=PATIENCE,
            )
            chunks = 0
            for _ in stream:
                chunks += 1
                relay.seen()
        assert audited_one(session, served).response.end is End.COMPLETE
    # Some tokens are no whole character, so there are fewer events.
    assert TOKENS / 2 < chunks == relay.steps
