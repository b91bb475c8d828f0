"""NEAR's gateway and others: a header of the caller's stood for the hash of the request, so that
the receipt said what the caller wished.

Lesson: a receipt commits to what the gateway itself read.  No header of the caller's changes the
commitment, the id, the identity or the place in the log.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.outcomes.bench import PLAIN, QUESTION, running

LIES = (
    "X-Request-Hash", "X-Response-Hash", "X-Content-SHA256", "Digest", "Content-Digest",
    "Repr-Digest", "X-Receipt-Id", "X-Request-Id", "X-Keyset-Digest", "X-Forwarded-For",
    "X-Receipt-Openings",
)  # fmt: skip
VALUE = hashlib.sha256(b"something else").hexdigest()


@pytest.mark.parametrize("name", LIES)
async def test_header_of_the_callers_changes_nothing_in_the_receipt(
    tmp_path: Path, name: str
) -> None:
    async with running(tmp_path, PLAIN) as bench:
        reply = await bench.ask(QUESTION, headers=(f"{name}: {VALUE[:32]}",))
        claims = await bench.checked(reply, QUESTION)
        assert claims.jti != VALUE[:32]
        assert claims.subject == bench.sub
        (request,) = bench.engine.requests
        assert request.body == QUESTION
        assert request.header("x-request-id") == reply.jti
        if name.lower() != "x-request-id":
            assert request.header(name.lower()) is None
        assert VALUE[:32] not in str(sorted(reply.headers.items()))
