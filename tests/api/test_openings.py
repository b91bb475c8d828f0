"""Openings after the fact: what a caller gets that left before its answer was there."""

from __future__ import annotations

import json

import httpx2
import pytest

from attestation.encoding.digest import Digest
from attestation.receipt.commitments import parse_openings, verify_commitment
from attestation.receipt.signing import parse_receipt
from attestation.receipt.splices import apply_splices
from tests.api.conftest import Running

PATH = "/v1/chat/completions"


async def left_early(running: Running, body: bytes) -> httpx2.Response:
    """Ask, leave after the head of the answer, and fetch the receipt."""
    headers = running.headers() | {"content-type": "application/json"}
    async with running.client.stream("POST", PATH, content=body, headers=headers) as answer:
        jti = answer.headers["x-receipt-id"]
    while True:
        found = await running.get(f"/v1/receipts/{jti}")
        if found.status_code != 202:
            return found


def body_of(**members: object) -> bytes:
    message = {"role": "user", "content": "hello " * 50}
    return json.dumps({"model": "m-one", "messages": [message], "stream": True} | members).encode()


async def test_caller_that_left_early_can_prove_what_was_forwarded(running: Running) -> None:
    body = body_of()
    document = (await left_early(running, body)).json()
    claims = parse_receipt(document["receipt"]).claims
    openings = parse_openings(document["openings"])
    forwarded = apply_splices(body, claims.request.splices, openings.inserted)
    assert forwarded != body
    assert claims.request.forwarded is not None
    digest = Digest.of(forwarded)
    verify_commitment(claims.request.forwarded, openings.keys["fwd"], digest, what="forwarded")


@pytest.mark.parametrize("salt", ["mine", "a" * 32])
async def test_insertion_made_with_the_callers_own_salt_is_not_kept(
    running: Running, salt: str
) -> None:
    body = body_of(cache_salt=salt)
    document = (await left_early(running, body)).json()
    claims = parse_receipt(document["receipt"]).claims
    openings = parse_openings(document["openings"])
    assert openings.inserted == ()
    # The request is provable all the same, and so is where it was changed.
    assert claims.request.commitment is not None
    digest = Digest.of(body)
    verify_commitment(claims.request.commitment, openings.keys["req"], digest, what="received")
    assert [splice.code for splice in claims.request.splices] == ["cache_salt"]
