"""GET /v1/models: the engine's list, without the models that the key's grant does not name."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from attestation.encoding.strict_json import parse_json_object
from attestation.errors import MalformedError
from gateway.api.attestation import keyset_header
from gateway.api.errors import ApiError
from gateway.api.parts import require_principal

if TYPE_CHECKING:
    from gateway.access.principal import Grant
    from gateway.api.parts import ControlParts

PATH = "/v1/models"


def model_routes(parts: ControlParts) -> APIRouter:
    """Return the router; the call is passed through and gets no receipt."""
    router = APIRouter()

    @router.get(PATH)
    async def models(request: Request) -> Response:
        principal = require_principal(parts, request)
        answer = await parts.upstream.get(PATH, request_id=secrets.token_hex(16))
        if answer.status != 200:
            raise ApiError(502, "engine_status", "the engine did not list its models")
        body = _granted(answer.body, principal.grant)
        headers = keyset_header(parts.notary.boot)
        return Response(body, media_type="application/json", headers=headers)

    return router


def _granted(body: bytes, grant: Grant) -> bytes:
    """Return the list without what is not granted; all other members stay as they are."""
    try:
        document: dict[str, Any] = parse_json_object(body)
    except MalformedError:
        raise ApiError(502, "engine_answer", "the engine's list of models is not JSON") from None
    listed = document.get("data")
    if not isinstance(listed, list):
        raise ApiError(502, "engine_answer", "the engine's list of models has another form")
    kept = [item for item in listed if _allowed(item, grant)]
    if len(kept) == len(listed):
        return body
    return json.dumps(document | {"data": kept}, separators=(",", ":")).encode()


def _allowed(item: Any, grant: Grant) -> bool:  # noqa: ANN401 - whatever the engine listed
    name = item.get("id") if isinstance(item, dict) else None
    return isinstance(name, str) and grant.allows_model(name)
