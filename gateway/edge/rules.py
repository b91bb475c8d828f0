"""Which request fields are refused, and why: the table that docs/spec/admission.md explains.

Only these are refused; every other field, known or not, goes to the engine unchanged.  A rule
names a top-level member and the values that do no harm.  Those are compared strictly (`0`, `""`
and `"false"` are not `false`), because the engine's own validation would turn many other values
into the harmful one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gateway.edge import routes

_UNSET: Final = (None,)
_OFF: Final = (None, False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Refuse `field` unless its value is one of `harmless`; `reason` completes "refused: …".

    `only` limits the rule to some routes; empty means all of them.
    """

    field: str
    reason: str
    harmless: tuple[object, ...] = _UNSET
    only: tuple[str, ...] = ()

    @property
    def code(self) -> str:
        """The refusal's code, which names the field."""
        return f"refused_{self.field}"

    def applies_to(self, path: str) -> bool:
        """Whether requests to this route fall under the rule."""
        return not self.only or path in self.only

    def allows(self, value: object) -> bool:
        """Whether this value does no harm."""
        return any(value is item for item in self.harmless)


_PEER = "it names peers the engine would exchange its cache with"
_ID = "request ids are the gateway's: the receipt id is the engine's request id"
_MULTIMODAL = "it reconfigures the engine's media processing"
_STATE = "it makes the engine keep state that no key owns"
_PROMPT_LOGPROBS = "it makes the engine score the whole prompt, at many times the cost"

RULES: Final[tuple[Rule, ...]] = (
    Rule(field="kv_transfer_params", reason=_PEER),
    Rule(field="ec_transfer_params", reason=_PEER),
    Rule(field="request_id", reason=_ID),
    Rule(field="session_id", reason="it ties requests of different callers together"),
    Rule(field="priority", reason="it would overtake other callers in the engine's queue"),
    Rule(
        field="cache_salt",
        reason="a salt chosen by a caller could select another caller's cached prefixes",
    ),
    Rule(field="vllm_xargs", reason="it reaches engine plug-ins that nobody has reviewed"),
    Rule(field="prompt_embeds", reason="the engine would unpickle or run raw tensors"),
    Rule(field="mm_processor_kwargs", reason=_MULTIMODAL),
    Rule(field="media_io_kwargs", reason=_MULTIMODAL),
    Rule(field="mm_payload", reason="it makes the engine return processed media tensors"),
    Rule(
        field="return_mm_kwargs",
        reason="it makes the engine return processed media tensors",
        harmless=_OFF,
    ),
    Rule(field="chat_template", reason="a template is a program the engine would run"),
    Rule(field="documents", reason="it reaches the prompt only through the chat template"),
    Rule(
        field="use_beam_search",
        reason="it multiplies the work of one request without bound",
        harmless=_OFF,
    ),
    Rule(field="prompt_logprobs", reason=_PROMPT_LOGPROBS),
    Rule(field="echo", reason=_PROMPT_LOGPROBS, harmless=_OFF),
    Rule(field="store", reason=_STATE, harmless=_OFF, only=(routes.RESPONSES,)),
    Rule(field="background", reason=_STATE, harmless=_OFF, only=(routes.RESPONSES,)),
    Rule(field="previous_response_id", reason=_STATE, only=(routes.RESPONSES,)),
)

FIELDS: Final = frozenset(rule.field for rule in RULES)
"""The members that have a rule."""

GUIDED_PREFIX: Final = "guided_"
"""Members that begin so were the engine's old names for structured outputs; all are refused."""

STRUCTURED_OUTPUTS: Final = ("regex", "grammar", "whitespace_pattern")
"""Members of `structured_outputs` that are refused like their `guided_*` predecessors."""

TEMPLATE_ARGUMENTS: Final = ("chat_template", "tokenize", "documents")
"""Members of `chat_template_kwargs` that would replace the template or how it is applied."""

CHOICES: Final = ("n", "best_of")
"""Members that multiply the work: each must be an integer from 1 to the configured maximum."""

EXAMINED: Final = frozenset(("structured_outputs", "chat_template_kwargs", "tools", *CHOICES))
"""Members whose values are looked into; most requests have none of them."""

TOOL_PREFIXES: Final = (
    "mcp",
    "code_interpreter",
    "code_execution",
    "web_search",
    "web_fetch",
    "container",
    "file_search",
    "image_generation",
)
"""Tool types, by prefix, that the engine itself would run or call out for."""

CONTENT_MEMBERS: Final = ("messages", "input", "system", "instructions", "prompt")
"""Members searched for media, at any depth."""

URL_SUFFIX: Final = "_url"
"""A member of a content part that ends so holds a URL or {"url": …}; only `data:` is taken."""

FORBIDDEN_PART_MEMBERS: Final = (
    "image_embeds",
    "audio_embeds",
    "video_embeds",
    "prompt_embeds",
    "image_pil",
    "uuid",
    "file_id",
)
"""Members of a content part that hand the engine tensors or select what it cached or stored."""
