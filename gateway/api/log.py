"""GET and HEAD /v1/log/…: checkpoint, tiles, entry bundles and quoted epochs, without a key.

Every answer may be kept, and must be asked about again before it is used (RFC 9111 section
5.2.2.4): what stands under one address never changes while a boot runs, except for the
endorsements beside an epoch, but the next boot's log stands under the same ones.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from fastapi import APIRouter, Request
from fastapi.responses import Response

from attestation.bundle import MEDIA_TYPE
from attestation.encoding.digest import Digest
from attestation.errors import MalformedError
from attestation.merkle.tiles import parse_tile_path
from gateway.api.attestation import evidence_bundle, keyset_header
from gateway.api.errors import not_found

if TYPE_CHECKING:
    from gateway.api.parts import ControlParts
    from gateway.notary.interface import Notary

PREFIX: Final = "/v1/log/"
TEXT: Final = "text/plain; charset=utf-8"
BINARY: Final = "application/octet-stream"
_CHECKPOINT: Final = "checkpoint"
_EPOCH: Final = "epoch/"
_NEWEST: Final = "latest"
# Numbers of epochs are integers below 2^53, in their one decimal form.
_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,15}", re.ASCII)


def log_routes(parts: ControlParts) -> APIRouter:
    """Return the router: what C2SP tlog-tiles names, and each quoted epoch as an audit bundle."""
    router = APIRouter()

    @router.api_route(PREFIX + "{rest:path}", methods=["GET", "HEAD"])
    async def log(request: Request) -> Response:
        path = _spelt(request)
        if path.startswith(_EPOCH):
            data, kind = await _epoch(parts.notary, path.removeprefix(_EPOCH)), MEDIA_TYPE
        else:
            data = await _resource(parts.notary, path)
            kind = TEXT if path == _CHECKPOINT else BINARY
        return _answer(request, data, kind, keyset_header(parts.notary.boot))

    return router


def _spelt(request: Request) -> str:
    """Return the path below the prefix as it was sent: an escaped spelling is another path."""
    raw = request.scope.get("raw_path")
    path: str = request.scope["path"]
    if isinstance(raw, bytes) and raw != path.encode():
        raise not_found()
    return path.removeprefix(PREFIX)


async def _resource(notary: Notary, path: str) -> bytes:
    """Return checkpoint, tile or entry bundle; only the canonical path of one is passed on."""
    if path != _CHECKPOINT:
        try:
            path = parse_tile_path(path).path
        except MalformedError:
            raise not_found() from None
    data = await notary.read_log(path)
    if data is None:
        raise not_found()
    return data


async def _epoch(notary: Notary, name: str) -> bytes:
    if name != _NEWEST and not _NUMBER.fullmatch(name):
        raise not_found()
    found = await notary.epoch(None if name == _NEWEST else int(name))
    if found is None:
        raise not_found()
    return evidence_bundle(notary.boot, epochs=(found,)).encode()


def _answer(request: Request, data: bytes, kind: str, headers: dict[str, str]) -> Response:
    """Return the bytes, or 304 where the caller has them already (RFC 9110 section 13.1.2)."""
    tag = f'"{Digest.of(data).hex}"'
    headers = {"cache-control": "public, no-cache", "etag": tag, **headers}
    known = [item.strip().removeprefix("W/") for item in _listed(request, "if-none-match")]
    if tag in known or known == ["*"]:
        return Response(status_code=304, headers=headers)
    return Response(data, media_type=kind, headers=headers)


def _listed(request: Request, name: str) -> list[str]:
    return ",".join(request.headers.getlist(name)).split(",")
