"""The admin listener, on loopback only: metrics, and a certificate over the boot's TLS key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import JSONResponse, Response

from attestation.errors import AttestationError
from gateway.api.errors import ApiError, install_error_handlers, not_found
from gateway.settings.places import is_loopback
from gateway.telemetry.metrics import CONTENT_TYPE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    ReadMetrics = Callable[[], Awaitable[bytes]]

CHAIN_TYPE: Final = "application/pem-certificate-chain"
_MAX_CHAIN_BYTES: Final = 1 << 17


class CertifiableTls(Protocol):
    """The TLS key of a boot, as far as certificates over it go."""

    def csr(self) -> bytes:
        """Return a PEM certificate signing request for the boot's key."""

    async def install(self, chain_pem: bytes) -> int:
        """Use this chain from now on; refuses one over another key.

        Returns the number of certificates in it, once every process uses them.
        """


def build_admin_app(read_metrics: ReadMetrics, tls: CertifiableTls | None) -> FastAPI:
    """Return the admin app; without TLS there is no certificate to install.

    `read_metrics` returns Prometheus text; what it raises is answered as on every route.
    """
    app = FastAPI(
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        dependencies=[Depends(_require_loopback_host)],
    )
    install_error_handlers(app)
    app.include_router(_metrics_routes(read_metrics))
    app.include_router(_tls_routes(tls))
    return app


def _require_loopback_host(request: Request) -> None:
    # A page in a browser on this machine can reach loopback under a name of its own choosing.
    host = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    if not is_loopback(host):
        raise ApiError(421, "host", "the admin listener answers to loopback names only")


def _metrics_routes(read_metrics: ReadMetrics) -> APIRouter:
    router = APIRouter()

    @router.get("/metrics")
    async def metrics() -> Response:
        return Response(await read_metrics(), media_type=CONTENT_TYPE)

    return router


def _tls_routes(tls: CertifiableTls | None) -> APIRouter:
    router = APIRouter()

    @router.get("/tls/csr")
    async def csr() -> Response:
        if tls is None:
            raise not_found()
        return Response(tls.csr(), media_type="application/pkcs10")

    @router.post("/tls/certificate")
    async def certificate(request: Request) -> Response:
        if tls is None:
            raise not_found()
        # A type that no form of a foreign page can send without asking first.
        if request.headers.get("content-type") != CHAIN_TYPE:
            raise ApiError(415, "content_type", f"expected {CHAIN_TYPE}")
        chain = await _bounded_body(request)
        try:
            count = await tls.install(chain)
        except AttestationError as error:
            raise ApiError(400, error.code or "certificate", str(error)) from None
        return JSONResponse({"certificates": count})

    return router


async def _bounded_body(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_CHAIN_BYTES:
            raise ApiError(413, "size", f"expected at most {_MAX_CHAIN_BYTES} bytes")
    return body
