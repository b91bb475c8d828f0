"""Admission: what a request asks for, decided on a strict parse before the engine sees a byte.

1. The body is one JSON object with one meaning (`attestation.encoding.strict_json`).
2. Its model is named in the alphabet receipts can carry, and the caller's grant covers it.
3. No member is one of the dangerous ones of `gateway.edge.rules`.
4. The choices asked for are within the configured maximum.
5. No tool is one that the engine itself would run.
6. No media is fetched: every URL in the content is a `data:` URL.

Nothing is changed here: what is admitted is forwarded byte for byte, but for the cache salt that
`gateway.edge.salt` sets on some routes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from attestation.encoding.making import maker_of
from attestation.encoding.strict_json import parse_json_object, type_name
from attestation.errors import MalformedError
from attestation.receipt.text import CALLER_TEXT
from gateway.edge import rules, salt
from gateway.edge.errors import Refusal

if TYPE_CHECKING:
    from gateway.access.principal import Grant
    from gateway.edge.limits import EdgeLimits

_REMOVE = "remove it"
_UNSALTED: Final = frozenset[str]()
_NESTED: Final = (dict, list)
MAX_CALLER_SALT: Final = 128


class RefusedError(Exception):
    """Carries a refusal to where it is answered; `model` is the model id if it could be read."""

    def __init__(self, refusal: Refusal, model: str | None = None) -> None:
        super().__init__(refusal.code)
        self.refusal = refusal
        self.model = model


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """A body that may be forwarded, and the model it asks for (None: the engine's default).

    `names_salt` says that the body has a member cache_salt, `caller_salt` what it is ("" for
    null); `empty` that the body has no members.
    """

    model: str | None
    names_salt: bool = False
    caller_salt: str = ""
    empty: bool = False


_admission = maker_of(Admission)


def admit(
    path: str,
    body: bytes,
    grant: Grant,
    limits: EdgeLimits,
    salted: frozenset[str] = _UNSALTED,
) -> Admission:
    """Decide on a request to an inference route, or raise `RefusedError`.

    On the routes `salted` the gateway sets the cache salt itself; on others a caller's is refused.
    """
    document = _parse(body, limits)
    model = _model(document)
    try:
        _require_granted(model, grant)
        _require_no_dangerous_member(path, document, salted)
        if not rules.EXAMINED.isdisjoint(document):
            _require_structured_outputs(document)
            _require_template_arguments(document)
            _require_choices(document, limits.max_n)
            _require_tools(document)
        _require_inline_media(document)
    except RefusedError as error:
        error.model = model
        raise
    return _admission(
        model=model,
        names_salt=salt.MEMBER in document,
        caller_salt=document.get(salt.MEMBER) or "",
        empty=not document,
    )


def _parse(body: bytes, limits: EdgeLimits) -> dict[str, Any]:
    try:
        return parse_json_object(body, limits.json)
    except MalformedError as error:
        refusal = Refusal(status=400, code=f"json_{error.code}", message=str(error))
        raise RefusedError(refusal) from None


def _model(document: dict[str, Any]) -> str | None:
    model = document.get("model")
    if model is None:
        return None
    if not isinstance(model, str) or not CALLER_TEXT.fullmatch(model):
        seen = "another character or length" if isinstance(model, str) else type_name(model)
        raise RefusedError(
            Refusal(
                status=400,
                code="model_name",
                message="the model name cannot be recorded: expected 1 to 128 of "
                f"A-Z a-z 0-9 . _ : / @ + -, saw {seen}; use a name from GET /v1/models",
                param="model",
            )
        )
    return model


def _require_granted(model: str | None, grant: Grant) -> None:
    # "" is no model: only a grant for every model allows a request that leaves the choice to the
    # engine.
    if grant.allows_model(model or ""):
        return
    if model is None:
        raise RefusedError(
            Refusal(
                status=400,
                code="model_missing",
                message="the request names no model and this key is granted named models only; "
                "name one from GET /v1/models",
                param="model",
            )
        )
    raise RefusedError(
        Refusal(
            status=404,
            code="model_not_found",
            message="the model does not exist or this key has no grant for it; "
            "see GET /v1/models for the models it may use",
            param="model",
        )
    )


def _require_no_dangerous_member(
    path: str, document: dict[str, Any], salted: frozenset[str]
) -> None:
    ruled = () if rules.FIELDS.isdisjoint(document) else rules.RULES
    for rule in ruled:
        if rule.field not in document or not rule.applies_to(path):
            continue
        if rule.field == salt.MEMBER and path in salted:
            _require_salt(document[salt.MEMBER])
        elif not rule.allows(document[rule.field]):
            raise _refused(rule.code, rule.field, rule.reason)
    for name, value in document.items():
        if value is not None and name.startswith(rules.GUIDED_PREFIX):
            raise _refused(
                "refused_guided",
                "guided_*",
                "these fields are out of use and some burn the engine's processor",
                "use response_format or structured_outputs",
            )


def _require_salt(value: object) -> None:
    """The gateway mixes a caller's salt into its own, so any text of sane length will do."""
    if value is None or (type(value) is str and 1 <= len(value) <= MAX_CALLER_SALT):
        return
    seen = f"{len(value)} characters" if type(value) is str else type_name(value)
    raise _refused(
        f"refused_{salt.MEMBER}",
        salt.MEMBER,
        f"expected a string of 1 to {MAX_CALLER_SALT} characters, saw {seen}",
        "remove it: requests of one key share no cached prefixes with others",
    )


def _require_structured_outputs(document: dict[str, Any]) -> None:
    value = document.get("structured_outputs")
    if not isinstance(value, dict):
        return
    for name in rules.STRUCTURED_OUTPUTS:
        if value.get(name) is not None:
            raise _refused(
                "refused_structured_outputs",
                f"structured_outputs.{name}",
                "a pattern or grammar can burn the engine's processor",
                "use a JSON schema or a choice",
            )


def _require_template_arguments(document: dict[str, Any]) -> None:
    value = document.get("chat_template_kwargs")
    if not isinstance(value, dict):
        return
    for name in rules.TEMPLATE_ARGUMENTS:
        if value.get(name) is not None:
            raise _refused(
                "refused_chat_template_kwargs",
                f"chat_template_kwargs.{name}",
                "it would replace the chat template or how it is applied",
            )


def _require_choices(document: dict[str, Any], maximum: int) -> None:
    for name in rules.CHOICES:
        value = document.get(name)
        if value is None:
            continue
        # The engine reads 1e5, "100000" and true as integers too, so only an integer counts.
        if type(value) is not int or not 1 <= value <= maximum:
            seen = str(value) if type(value) is int else type_name(value)
            raise _refused(
                f"refused_{name}",
                name,
                f"expected an integer from 1 to {maximum}, saw {seen}",
                "ask for fewer choices or send several requests",
            )


def _require_tools(document: dict[str, Any]) -> None:
    tools = document.get("tools")
    if not isinstance(tools, list):
        return
    for tool in tools:
        kind = tool.get("type") if isinstance(tool, dict) else None
        if isinstance(kind, str) and kind.startswith(rules.TOOL_PREFIXES):
            raise _refused(
                "refused_tool",
                "tools",
                "the engine itself would run this type of tool or call out for it",
                "declare a function tool and run it yourself",
            )


def _require_inline_media(document: dict[str, Any]) -> None:
    pending = [document[name] for name in rules.CONTENT_MEMBERS if name in document]
    while pending:
        item = pending.pop()
        if type(item) is dict:
            _require_inline_part(item)
            # A tool call's input is data for the caller's own tools; the engine fetches none of it.
            is_tool_call = item.get("type") == "tool_use"
            for name, value in item.items():
                if type(value) in _NESTED and not (is_tool_call and name == "input"):
                    pending.append(value)
        elif type(item) is list:
            pending += [value for value in item if type(value) in _NESTED]


def _require_inline_part(part: dict[str, Any]) -> None:
    for name, value in part.items():
        if value is None:
            continue
        if name in rules.FORBIDDEN_PART_MEMBERS:
            raise _refused(
                f"refused_part_{name}",
                name,
                "it hands the engine tensors, or selects what it cached or stored for others",
                "send the media itself as a data: URL",
            )
        if name.endswith(rules.URL_SUFFIX) or (name == "source" and type(value) is dict):
            _require_data_url(value)


def _require_data_url(value: object) -> None:
    url = value.get("url") if isinstance(value, dict) else value
    if url is None or (isinstance(url, str) and url.startswith("data:")):
        return
    raise _refused(
        "refused_remote_media",
        "url",
        "the engine must not fetch anything: expected a data: URL, saw another one",
        "send the media inline as data:<type>;base64,…",
    )


def _refused(code: str, field: str, reason: str, hint: str = _REMOVE) -> RefusedError:
    return RefusedError(
        Refusal(status=400, code=code, message=f"{field} is refused: {reason}; {hint}", param=field)
    )
