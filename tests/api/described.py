"""The control routes as an OpenAPI document: what the app declares, and what documents promise.

Paths and parameters are FastAPI's own, from the code; answers are those of `docs/spec/http.md`.
"""

from __future__ import annotations

import copy
import warnings
from typing import Any, cast

from gateway.api.control import build_control_app

_HEX64 = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_JSON, _BUNDLE = "application/json", "application/vnd.attested-gateway.bundle+json"


def _object(**members: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": members,
        "required": sorted(members),
        "additionalProperties": False,
    }


def _text(*values: str) -> dict[str, Any]:
    return {"enum": list(values)} if values else {"type": "string"}


def _maybe(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


_ANY: dict[str, Any] = {"type": "object"}
_ERROR = _object(
    error=_object(message=_text(), type=_text(), code=_text(), param=_maybe(_text())),
)
_ATTESTATION = _object(
    boot=_ANY, challenge=_maybe(_ANY), collateral=_ANY, keyset_digest=_HEX64, log_origin=_text(),
    provider=_text(), schema=_text("attested-gateway/attestation/v1"),
)  # fmt: skip
_RECEIPT = _object(
    openings=_maybe(_ANY), proof=_maybe(_text()), receipt=_maybe(_text()),
    state=_text("running", "sealed", "anchored", "unanchored-final"),
)  # fmt: skip
_CODES = {"type": "array", "items": _text()}
_READY = _object(
    status=_text("ready", "degraded"), reasons=_CODES, degraded=_CODES,
    parts={"type": "object", "additionalProperties": _text()},
)  # fmt: skip
_MODELS = {
    "type": "object",
    "properties": {"object": _text("list"), "data": {"type": "array", "items": _ANY}},
    "required": ["data", "object"],
}
_LOG = {"text/plain": {}, "application/octet-stream": {}, _BUNDLE: {"schema": _ANY}}


def _answers(*errors: int, ok: dict[str, Any], accepted: bool = False) -> dict[str, Any]:
    found: dict[str, Any] = {"200": {"description": "", "content": ok}}
    if accepted:
        found["202"] = {"description": "", "content": {_JSON: {"schema": _RECEIPT}}}
    for status in errors:
        content = {_JSON: {"schema": _ERROR}}
        found[str(status)] = {"description": "", "content": content}
    return found


def _json(schema: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {_JSON: {"schema": schema}, **more}


_BUNDLED: dict[str, Any] = {_BUNDLE: {"schema": _ANY}}
_ANSWERS: dict[str, dict[str, Any]] = {
    "/v1/attestation": _answers(400, ok=_json(_ATTESTATION) | _BUNDLED),
    "/v1/receipts/{receipt_id}": _answers(
        400, 401, 404, ok=_json(_RECEIPT) | _BUNDLED, accepted=True
    ),
    "/v1/log/{rest}": _answers(404, ok=_LOG),
    "/v1/models": _answers(401, ok=_json(_MODELS)),
    "/healthz": _answers(ok=_json(_object(status=_text("ok")))),
    "/readyz": _answers(ok=_json(_READY)),
}
# An escaped slash is another path to the log, so its parts are parameters of their own here.
_LOG_PATHS: dict[str, tuple[str, ...]] = {
    "/v1/log/{rest}": ("checkpoint",),
    "/v1/log/tile/{level}/{number}": ("0", "1", "entries", "000", "x001", "00"),
    "/v1/log/tile/{level}/{number}.p/{width}": ("0", "entries", "000", "1", "2", "256"),
    "/v1/log/epoch/{number}": ("latest", "0", "1", "00", "9007199254740993"),
}


def described(receipt_ids: list[str]) -> dict[str, Any]:
    """Return the document; `receipt_ids` are some that exist."""
    with warnings.catch_warnings():
        # GET and HEAD of the log are one function, and FastAPI says so.
        warnings.simplefilter("ignore", UserWarning)
        # Building the app looks at none of its parts.
        document: dict[str, Any] = build_control_app(cast("Any", None)).openapi()
    paths = document["paths"]
    assert set(paths) == set(_ANSWERS), "a control route is new or gone: describe its answers"
    for path, methods in paths.items():
        for method, operation in methods.items():
            answers = copy.deepcopy(_ANSWERS[path])
            if method == "head":
                answers = {status: {"description": ""} for status in answers}
            operation["responses"] = answers
    receipts = paths["/v1/receipts/{receipt_id}"]["get"]["parameters"][0]
    receipts["schema"] = _known(*receipt_ids)
    log = paths.pop("/v1/log/{rest}")
    for path, known in _LOG_PATHS.items():
        paths[path] = copy.deepcopy(log)
        names = [part.partition("}")[0] for part in path.split("{")[1:]]
        for method, operation in paths[path].items():
            operation["operationId"] = f"{method} {path}"
            operation["parameters"] = [
                {"name": name, "in": "path", "required": True, "schema": _known(*known)}
                for name in names
            ]
    return document


def _known(*values: str) -> dict[str, Any]:
    return {"anyOf": [{"enum": list(values)}, {"type": "string", "minLength": 1}]}
