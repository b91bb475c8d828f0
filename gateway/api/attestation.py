"""GET /v1/attestation: the boot's evidence, and a quote over the caller's nonce if it asks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse, Response

from attestation.bundle import MEDIA_TYPE, make_bundle
from attestation.encoding import base64url
from attestation.encoding.strict_json import parse_json
from gateway.api.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from attestation.bundle import BootEvidence, Bundle, EpochEvidence
    from gateway.api.parts import ControlParts
    from gateway.notary.interface import Boot, Challenge

SCHEMA = "attested-gateway/attestation/v1"
_NONCE = "^[0-9a-f]{64}$"


def attestation_routes(parts: ControlParts) -> APIRouter:
    """Return the router; it needs no API key, so that a caller can check before sending one."""
    router = APIRouter()

    @router.get("/v1/attestation")
    async def attestation(
        nonce: Annotated[str | None, Query(pattern=_NONCE)] = None,
        form: Annotated[Literal["json", "bundle"], Query(alias="format")] = "json",
    ) -> Response:
        boot = parts.notary.boot
        if form == "bundle":
            if nonce is not None:
                raise ApiError(
                    400,
                    "parameter",
                    "a bundle has no place for a challenge: leave out format or nonce",
                    param="nonce",
                )
            return bundle_response(evidence_bundle(boot), keyset_header(boot))
        challenge = None
        if nonce is not None:
            challenge = await parts.notary.challenge(bytes.fromhex(nonce))
        return JSONResponse(
            evidence_json(boot) | {"challenge": _challenge_json(challenge)},
            headers={"cache-control": "no-store", **keyset_header(boot)},
        )

    return router


def evidence_json(boot: Boot) -> dict[str, Any]:
    """Return what a verifier needs of the boot: the bundle's members, without receipts."""
    sets = [boot.collateral] if boot.collateral is not None else []
    return {
        "boot": boot.evidence.to_json(),
        "collateral": {item.digest.hex: item.to_json() for item in sets},
        "keyset_digest": boot.keyset_digest.hex,
        "log_origin": boot.log_origin,
        "provider": boot.provider,
        "schema": SCHEMA,
    }


def evidence_bundle(boot: Boot, *, epochs: Iterable[EpochEvidence] = ()) -> Bundle:
    """Return an audit bundle of the boot's evidence and these epochs, with their endorsements."""
    sets = [boot.collateral] if boot.collateral is not None else []
    shown = [endorsed_alike(epoch, boot.evidence) for epoch in epochs]
    return make_bundle(boots=[boot.evidence], collateral=sets, epochs=shown)


def endorsed_alike(epoch: EpochEvidence, boot: BootEvidence) -> EpochEvidence:
    """Return an epoch with the endorsements of its boot, which may be newer than its own.

    One platform makes all quotes of a boot, so that one set, the newest, is for all of them.
    """
    return replace(epoch, collateral=boot.collateral)


def bundle_response(bundle: Bundle, headers: Mapping[str, str]) -> Response:
    """Return the answer that carries an audit bundle for one caller."""
    headers = {"cache-control": "no-store", **headers}
    return Response(bundle.encode(), media_type=MEDIA_TYPE, headers=headers)


def keyset_header(boot: Boot) -> dict[str, str]:
    """Return the header that names the keyset of the boot that answers.

    It stands on every answer with one meaning, whatever boot the answer is about: a caller that
    sees it change talks to another boot than before.
    """
    return {"x-keyset-digest": boot.keyset_digest.hex}


def _challenge_json(challenge: Challenge | None) -> dict[str, Any] | None:
    if challenge is None:
        return None
    return {
        "count": challenge.count,
        "index": challenge.index,
        "path": [base64url.encode(node) for node in challenge.path],
        "quote": base64url.encode(challenge.quote),
        "statement": parse_json(challenge.statement),
    }
