"""Receipts that could not come with their answer: fetched afterwards by the same key."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import httpx2

from attestation.encoding.strict_json import parse_json_object
from attestation.errors import EvidenceError, MalformedError, UnavailableError
from attestation.receipt.commitments import parse_openings

if TYPE_CHECKING:
    from gateway.client.call import Call
    from gateway.client.endpoint import Endpoint
    from gateway.client.recorder import Recorder


def collect(client: httpx2.Client, endpoint: Endpoint, recorder: Recorder, api_key: str) -> int:
    """Fetch, check and keep the receipt of every call that has an id and no receipt.

    Returns how many of them have none yet.  Raises `AttestationError` for a receipt that does
    not hold, `EvidenceError` (code "no_receipt") if the gateway denies a call it answered.
    """
    waiting = 0
    for call in recorder.calls:
        if call.receipt is not None or call.receipt_id is None:
            continue
        fetched = _fetch(client, endpoint, call, api_key)
        if fetched is None:
            waiting += 1
        else:
            recorder.replace(call, recorder.check(fetched))
    return waiting


def _fetch(client: httpx2.Client, endpoint: Endpoint, call: Call, api_key: str) -> Call | None:
    try:
        answer = client.get(
            f"{endpoint.origin}/v1/receipts/{call.receipt_id}",
            headers={"authorization": f"Bearer {api_key}", "accept-encoding": "identity"},
        )
    except httpx2.HTTPError as error:
        raise UnavailableError(
            "the gateway cannot be reached", code="unreachable", observed=type(error).__name__
        ) from error
    if answer.status_code == 202:
        return None
    if answer.status_code != 200:
        raise EvidenceError(
            "the gateway has no receipt for a call it answered",
            code="no_receipt",
            expected="status 200 or 202",
            observed=f"status {answer.status_code}",
            hint="is this the API key that made the call?",
        )
    document = parse_json_object(answer.content)
    token = document.get("receipt")
    if not isinstance(token, str):
        raise MalformedError("the gateway's answer holds no receipt", code="receipt")
    openings = document.get("openings")
    return dataclasses.replace(
        call,
        receipt=token,
        openings=parse_openings(openings) if openings is not None else None,
    )
