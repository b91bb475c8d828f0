"""/healthz: the process answers.  /readyz: requests can be expected to get their receipts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter
from fastapi.responses import JSONResponse

if TYPE_CHECKING:
    from gateway.api.parts import ControlParts


def health_routes(parts: ControlParts) -> APIRouter:
    """Return the router; reasons are stable codes."""
    router = APIRouter()

    @router.get("/healthz")
    async def healthz() -> JSONResponse:
        return JSONResponse({"status": "ok"})

    @router.get("/readyz")
    async def readyz() -> JSONResponse:
        reasons = [part.reason for part in (parts.notary, parts.keys) if not part.healthy]
        if reasons:
            return JSONResponse({"reasons": reasons, "status": "unready"}, status_code=503)
        return JSONResponse({"reasons": [], "status": "ready"})

    return router
