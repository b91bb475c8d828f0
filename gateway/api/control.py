"""The control app: one FastAPI application over its parts, without documentation routes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import FastAPI

from gateway.api.attestation import attestation_routes
from gateway.api.errors import install_error_handlers
from gateway.api.health import health_routes
from gateway.api.log import log_routes
from gateway.api.models import model_routes
from gateway.api.receipts import receipt_routes

if TYPE_CHECKING:
    from gateway.api.parts import ControlParts


def build_control_app(parts: ControlParts) -> FastAPI:
    """Return the app.

    No /docs and no /openapi.json: the public surface is exactly the routes of the
    specification, and FastAPI's pages would load scripts from elsewhere.
    """
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    install_error_handlers(app)
    for routes in (
        attestation_routes,
        receipt_routes,
        log_routes,
        model_routes,
        health_routes,
    ):
        app.include_router(routes(parts))
    return app
