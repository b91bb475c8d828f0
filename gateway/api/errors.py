"""Errors of the control routes, all in OpenAI's form and none quoting what was sent."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from attestation.errors import UnavailableError
from gateway.errors import NotaryUnavailable, UpstreamError, UpstreamFailure

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi import FastAPI, Request

_TYPES: Final = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
_UNAVAILABLE: Final = {
    "busy": "too many questions wait already; try again in some seconds",
    "log_retired": "the log of this receipt is no longer kept",
    "log_tiles_damaged": "the log of an ended boot is damaged; its operator can make it afresh",
    "log_unreadable": "the log cannot be read now; try again in some seconds",
}


class ApiError(Exception):
    """An answer that is an error; `code` is stable, `message` is for people."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.headers = headers


def error_response(error: ApiError) -> JSONResponse:
    """Return `{"error":{"message","type","param","code"}}` with the error's status."""
    kind = _TYPES.get(error.status)
    if kind is None:
        kind = "server_error" if error.status >= 500 else "invalid_request_error"
    content = {
        "error": {
            "message": error.message,
            "type": kind,
            "param": error.param,
            "code": error.code,
        }
    }
    return JSONResponse(content, status_code=error.status, headers=error.headers)


def install_error_handlers(app: FastAPI) -> None:
    """Make every failure of the app's routes an error of this form."""
    app.add_exception_handler(ApiError, _api_error)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(NotaryUnavailable, _notary_unavailable)
    app.add_exception_handler(UnavailableError, _unavailable)
    app.add_exception_handler(UpstreamError, _upstream_error)
    app.add_exception_handler(Exception, _internal_error)


async def _api_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)  # noqa: S101 - registered for this type only
    return error_response(error)


async def _http_exception(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101
    status = error.status_code
    if status == HTTPStatus.NOT_FOUND:
        return error_response(not_found())
    phrase = HTTPStatus(status).phrase
    code = phrase.lower().replace(" ", "_")
    return error_response(ApiError(status, code, phrase, headers=error.headers))


async def _validation_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    # FastAPI's own text quotes the input; only where it was wrong and how is passed on.
    first: dict[str, Any] = error.errors()[0]
    name = str(first["loc"][-1])
    pattern = first.get("ctx", {}).get("pattern")
    wanted = f"; expected the form {pattern}" if pattern else ""
    message = f"the parameter {name} is not accepted ({first['type']}){wanted}"
    return error_response(ApiError(400, "parameter", message, param=name))


async def _notary_unavailable(_request: Request, _error: Exception) -> JSONResponse:
    message = "the notary of this gateway has ended; nothing can be attested until it restarts"
    headers = {"retry-after": "5", "x-should-retry": "false"}
    return error_response(ApiError(503, "notary_unavailable", message, headers=headers))


async def _unavailable(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, UnavailableError)  # noqa: S101
    code = error.code or "unavailable"
    message = _UNAVAILABLE.get(code, "the platform gives no quote now; try again in some seconds")
    return error_response(ApiError(503, code, message, headers={"retry-after": "2"}))


async def _upstream_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, UpstreamError)  # noqa: S101
    if error.kind is UpstreamFailure.UNAVAILABLE:
        headers = {"retry-after": str(error.retry_after or 1)}
        message = "no engine is up; try again later"
        return error_response(ApiError(503, "engines_unavailable", message, headers=headers))
    status = 504 if error.kind.is_timeout else 502
    return error_response(ApiError(status, str(error.kind), "the engine did not answer"))


async def _internal_error(_request: Request, _error: Exception) -> JSONResponse:
    return error_response(ApiError(500, "internal", "the gateway failed; tell its operator"))


def not_found() -> ApiError:
    """Return the one answer to everything that does not exist or is not the caller's."""
    return ApiError(404, "not_found", "there is nothing here for this key; see docs/operating.md")
