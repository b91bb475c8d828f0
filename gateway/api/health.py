"""/healthz: the process answers.  /readyz: requests can be expected to get their receipts.

/readyz names every part and what is wrong with it in codes of a closed set, never in words of
anybody else:

    unready (503)   requests are refused, or no engine could answer them: send them elsewhere
    degraded (200)  requests are answered, each with its receipt, and somebody should look
    ready (200)     nothing is known to be wrong
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from gateway.access.budgets import UNKEPT
from gateway.notary.conditions import (
    CLOCK_JUMPED,
    DISK_LOW,
    DISK_READ_ONLY,
    DISK_UNREAD,
    EPOCH_LATE,
)
from gateway.upstream.breaker import EngineState

if TYPE_CHECKING:
    from gateway.api.parts import ControlParts

OK: Final = "ok"
ENGINE_DOWN: Final = "engine_down"
_PARTS: Final = ("budgets", "clock", "disk", "engines", "epochs", "keys", "notary")
_PART_OF: Final = {
    UNKEPT: "budgets",
    CLOCK_JUMPED: "clock",
    DISK_LOW: "disk",
    DISK_READ_ONLY: "disk",
    DISK_UNREAD: "disk",
    EPOCH_LATE: "epochs",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """What is wrong: codes by part; `reasons` keep requests from being answered, `degraded` not."""

    reasons: dict[str, str]
    degraded: dict[str, str]

    @property
    def status(self) -> str:
        """ready, degraded or unready."""
        if self.reasons:
            return "unready"
        return "degraded" if self.degraded else "ready"

    def to_json(self) -> dict[str, Any]:
        """Return the body of /readyz."""
        parts = dict.fromkeys(_PARTS, OK)
        return {
            "degraded": sorted(self.degraded.values()),
            "parts": parts | self.degraded | self.reasons,
            "reasons": list(self.reasons.values()),
            "status": self.status,
        }


def readiness(parts: ControlParts) -> Readiness:
    """Return what is wrong now, from what is known already: nothing is asked or waited for."""
    reasons: dict[str, str] = {}
    degraded = {_PART_OF[code]: code for code in parts.conditions() if code in _PART_OF}
    if not parts.notary.healthy:
        reasons["notary"] = parts.notary.reason
    elif parts.waits is not None and parts.waits.reason:
        reasons["notary"] = parts.waits.reason
    elif parts.waits is not None and parts.waits.degraded:
        degraded["notary"] = parts.waits.degraded
    if not parts.keys.healthy:
        reasons["keys"] = parts.keys.reason
    if not parts.upstream.healthy:
        reasons["engines"] = parts.upstream.reason
    elif any(engine.state != EngineState.UP for engine in parts.upstream.conditions()):
        degraded["engines"] = ENGINE_DOWN
    return Readiness(reasons=reasons, degraded=degraded)


def health_routes(parts: ControlParts) -> APIRouter:
    """Return the router; reasons are stable codes."""
    router = APIRouter()

    @router.get("/healthz")
    async def healthz() -> JSONResponse:
        return JSONResponse({"status": "ok"})

    @router.get("/readyz")
    async def readyz() -> JSONResponse:
        found = readiness(parts)
        return JSONResponse(found.to_json(), status_code=503 if found.reasons else 200)

    return router
