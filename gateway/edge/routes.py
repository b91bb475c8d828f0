"""The inference routes (SPEC section 9): exact paths, no patterns, nothing else is proxied."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

CHAT: Final = "/v1/chat/completions"
COMPLETIONS: Final = "/v1/completions"
EMBEDDINGS: Final = "/v1/embeddings"
RESPONSES: Final = "/v1/responses"
MESSAGES: Final = "/v1/messages"
COUNT_TOKENS: Final = "/v1/messages/count_tokens"
TOKENIZE: Final = "/tokenize"
DETOKENIZE: Final = "/detokenize"

PATHS: Final = frozenset(
    (CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES, MESSAGES, COUNT_TOKENS, TOKENIZE, DETOKENIZE)
)

_BY_SPELLING: Final = {path.encode("ascii"): path for path in PATHS}


def inference_path(scope: Mapping[str, Any]) -> str | None:
    """Return the inference route this request names, spelt exactly as SPEC spells it, or None.

    The undecoded path decides: `%2f`, `..` and other spellings of a path are other paths.
    """
    raw = scope.get("raw_path")
    path = raw.decode("ascii", "replace") if isinstance(raw, bytes) else scope["path"]
    return path if path in PATHS else None


def inference_target(url: bytes) -> tuple[str, bytes] | None:
    """Return route and query of a request target that names an inference route, or None."""
    raw, _, query = url.partition(b"?")
    path = _BY_SPELLING.get(raw)
    return None if path is None else (path, query)
