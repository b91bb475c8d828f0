"""GET /v1/receipts/{id}: a receipt and its openings, for the key that made the request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response

from attestation.bundle import BundledReceipt
from attestation.receipt.signing import parse_receipt
from gateway.api.attestation import bundle_response, keyset_header
from gateway.api.errors import not_found
from gateway.api.parts import require_principal
from gateway.notary.interface import ReceiptState

if TYPE_CHECKING:
    from gateway.api.parts import ControlParts
    from gateway.notary.interface import Found

WAIT_SECONDS = 30.0
_RETRY_AFTER = "1"


def receipt_routes(parts: ControlParts) -> APIRouter:
    """Return the router; what belongs to another key does not exist here."""
    router = APIRouter()

    @router.get("/v1/receipts/{receipt_id}")
    async def receipt(
        request: Request,
        receipt_id: str,
        wait: Annotated[Literal["anchored"] | None, Query()] = None,
        form: Annotated[Literal["json", "bundle"], Query(alias="format")] = "json",
    ) -> Response:
        principal = require_principal(parts, request)
        seconds = WAIT_SECONDS if wait else 0.0
        found = await parts.notary.find(receipt_id, principal.sub, wait_seconds=seconds)
        if found is None:
            raise not_found()
        if form == "bundle" and found.token is not None:
            return _bundle(parts, found, found.token)
        return _document(parts, found)

    return router


def _document(parts: ControlParts, found: Found) -> Response:
    running = found.state is ReceiptState.RUNNING
    headers = {
        "cache-control": "no-store",
        "x-receipt-id": found.jti,
        **keyset_header(parts.notary.boot),
    }
    if running:
        headers["retry-after"] = _RETRY_AFTER
    content = {
        "openings": found.openings.to_json() if found.openings else None,
        "proof": found.proof,
        "receipt": found.token,
        "state": str(found.state),
    }
    return JSONResponse(content, status_code=202 if running else 200, headers=headers)


def _bundle(parts: ControlParts, found: Found, token: str) -> Response:
    item = BundledReceipt(receipt=parse_receipt(token), openings=found.openings, proof=found.proof)
    return bundle_response(parts.notary.boot, item)
