"""GET /v1/models: the engines' lists, without the models that the key's grant does not name.

The list of a single engine is passed through as it is.  Those of several are put together from
the engines that are up and answer: each adds what it is configured to serve, and of models with
one name the first engine's entry is shown.  Callers that ask at the same time share one look at
the engines: this route has no slots, and must not open as many connections as somebody likes.
"""

from __future__ import annotations

import asyncio
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
from gateway.errors import UpstreamError

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.access.principal import Grant
    from gateway.api.parts import ControlParts
    from gateway.upstream import Answer, Engines, Upstream

    Found = list[tuple[Upstream, Answer | UpstreamError]]

PATH = "/v1/models"
_OK = 200


def model_routes(parts: ControlParts) -> APIRouter:
    """Return the router; the call is passed through and gets no receipt."""
    router = APIRouter()
    look = SharedLook(lambda: parts.upstream)

    @router.get(PATH)
    async def models(request: Request) -> Response:
        principal = require_principal(parts, request)
        body = _together(await look.found(), principal.grant)
        headers = keyset_header(parts.notary.boot)
        return Response(body, media_type="application/json", headers=headers)

    return router


class SharedLook:
    """What the engines list: asked for once at a time, whoever wants to know it meanwhile."""

    def __init__(self, engines: Callable[[], Engines]) -> None:
        self._engines = engines
        self._looking: asyncio.Task[Found] | None = None

    async def found(self) -> Found:
        """Return each engine's answer to a look that is under way, or to one that begins."""
        if self._looking is None:
            self._looking = asyncio.create_task(self._look())
            # If everybody leaves, nobody hears of a failure.
            self._looking.add_done_callback(lambda look: look.cancelled() or look.exception())
        # Shielded: a caller who leaves takes the answer from nobody else.
        return await asyncio.shield(self._looking)

    async def _look(self) -> Found:
        try:
            return await self._engines().get_each(PATH, request_id=secrets.token_hex(16))
        finally:
            self._looking = None


def _together(found: Found, grant: Grant) -> bytes:
    """Return one list of all; raises what went wrong with the first engine if none has one."""
    lists: list[tuple[bytes, dict[str, Any]]] = []
    failure: UpstreamError | ApiError | None = None
    kept: list[dict[str, Any]] = []
    for engine, answer in found:
        try:
            body, document = _listed(answer)
        except (UpstreamError, ApiError) as error:
            failure = failure or error
            continue
        lists.append((body, document))
        kept += [item for item in document["data"] if _allowed(item, grant, engine.models)]
    if not lists:
        raise failure or ApiError(502, "engine_status", "no engine listed its models")
    body, document = lists[0]
    if len(lists) == 1 and len(kept) == len(document["data"]):
        return body
    if len(lists) > 1:
        kept = _first_of_each(kept)
    return json.dumps(document | {"data": kept}, separators=(",", ":")).encode()


def _first_of_each(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for item in items:
        found.setdefault(item["id"], item)
    return list(found.values())


def _listed(answer: Answer | UpstreamError) -> tuple[bytes, dict[str, Any]]:
    if isinstance(answer, UpstreamError):
        raise answer
    if answer.status != _OK:
        raise ApiError(502, "engine_status", "the engine did not list its models")
    try:
        document: dict[str, Any] = parse_json_object(answer.body)
    except MalformedError:
        raise ApiError(502, "engine_answer", "the engine's list of models is not JSON") from None
    if not isinstance(document.get("data"), list):
        raise ApiError(502, "engine_answer", "the engine's list of models has another form")
    return answer.body, document


def _allowed(item: Any, grant: Grant, served: frozenset[str]) -> bool:  # noqa: ANN401 - whatever
    name = item.get("id") if isinstance(item, dict) else None
    return isinstance(name, str) and grant.allows_model(name) and (not served or name in served)
