"""GET /v1/receipts/{id}: a receipt and its openings, for the key that made the request."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response

from attestation.bundle import BundledReceipt, make_bundle
from attestation.receipt.signing import parse_receipt
from gateway.api.attestation import (
    bundle_response,
    endorsed_alike,
    evidence_bundle,
    keyset_header,
)
from gateway.api.errors import not_found
from gateway.api.parts import require_principal
from gateway.notary.interface import ReceiptState

if TYPE_CHECKING:
    from attestation.bundle import Bundle
    from gateway.api.parts import ControlParts
    from gateway.notary.interface import Boot, Found

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
        found = _with_insertions(parts, found)
        headers = _headers(parts.notary.boot, found)
        if form == "bundle" and found.token is not None:
            return bundle_response(_bundle(parts.notary.boot, found, found.token), headers)
        return _document(found, headers)

    return router


def _with_insertions(parts: ControlParts, found: Found) -> Found:
    """Complete the openings by what the gateway inserted: the notary does not store it."""
    if parts.rewrite is None or found.token is None or found.openings is None or found.earlier:
        return found
    inserted = parts.rewrite.again(parse_receipt(found.token).claims)
    return replace(found, openings=replace(found.openings, inserted=inserted))


def _headers(boot: Boot, found: Found) -> dict[str, str]:
    return {"x-receipt-id": found.jti, "x-receipt-state": str(found.state), **keyset_header(boot)}


def _document(found: Found, headers: dict[str, str]) -> Response:
    content = {
        "openings": found.openings.to_json() if found.openings else None,
        "proof": found.proof,
        "receipt": found.token,
        "state": str(found.state),
    }
    headers = {"cache-control": "no-store", **headers}
    if found.state is ReceiptState.RUNNING:
        return JSONResponse(content, 202, {"retry-after": _RETRY_AFTER, **headers})
    return JSONResponse(content, headers=headers)


def _bundle(boot: Boot, found: Found, token: str) -> Bundle:
    """Return the receipt with the boot that issued it and the one epoch that anchors it."""
    issuer = found.earlier or evidence_bundle(boot)
    item = BundledReceipt(receipt=parse_receipt(token), openings=found.openings, proof=found.proof)
    epochs = () if found.epoch is None else (endorsed_alike(found.epoch, issuer.boots[0]),)
    return make_bundle(
        boots=issuer.boots,
        collateral=issuer.collateral.values(),
        epochs=epochs,
        receipts=(item,),
    )
