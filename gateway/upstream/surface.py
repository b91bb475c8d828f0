"""What an engine must not offer: routes, flags and variables that open it past the gateway.

One list for `attested doctor`, for the look that a gateway takes before it opens its port, and for
what starts an engine.  Routes and settings are those of vLLM 0.32 (docs/usage/security.md;
vllm/entrypoints/serve; vllm/envs.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gateway.errors import UpstreamError, UpstreamFailure

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gateway.upstream.client import Upstream

REQUEST_ID: Final = "self-check"
_NOT_THERE: Final = 404
GONE: Final = frozenset({UpstreamFailure.CONNECT, UpstreamFailure.TIMEOUT_CONNECT})
"""Failures after which nothing is known of an engine: it was not reached."""

DEVELOPMENT: Final = (
    "/collective_rpc", "/server_info", "/sleep", "/is_sleeping", "/reset_prefix_cache", "/pause",
    "/abort_requests", "/update_weights", "/init_weight_transfer_engine", "/weight_info",
)  # fmt: skip
ADAPTERS: Final = ("/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/adapters")
DOCUMENTATION: Final = ("/docs", "/redoc", "/openapi.json")
BESIDE: Final = ("/invocations", "/metrics", "/load", "/tokenizer_info", "/inference/v1/generate")

FORBIDDEN_ROUTES: Final = (*DEVELOPMENT, *ADAPTERS)
"""Routes that change the model after it was measured, or act on everybody's requests."""

FORBIDDEN_FLAGS: Final = {
    "--enable-log-requests": "parameters of requests are written down, with DEBUG prompts too",
    "--enable-log-outputs": "answers are written down",
    "--log-error-stack": "inputs that fail are written down",
    "--enable-lora": "adapters can change the model after it was measured",
    "--enable-scale-out": "routes that take prompts are open beside the gateway's",
    "--grpc-port": "a second listener takes prompts without a key",
    "--middleware": "code of its own sees every request",
    "--otlp-traces-endpoint": "lengths and parameters of requests leave this machine",
    "--tool-server": "answers are sent to tools",
    "--trust-remote-code": "code from the model's repository runs",
    "--trust-request-chat-template": "callers' templates are run",
}
FORBIDDEN_VARIABLES: Final = {
    "VLLM_SERVER_DEV_MODE": "routes that change the model are open",
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "adapters can change the model after it was measured",
    "VLLM_ALLOW_INSECURE_SERIALIZATION": "what is received can run code",
    "VLLM_DEBUG_LOG_API_SERVER_RESPONSE": "answers are written down",
    "VLLM_TRACE_FUNCTION": "calls are written to files",
    "VLLM_ENABLE_RESPONSES_API_STORE": "answers are kept without an owner",
}


async def routes_there(upstream: Upstream, paths: Iterable[str]) -> tuple[str, ...]:
    """Return which of `paths` the engine has.

    Each is asked with GET, which changes nothing: a route that takes POST only says so (405), and
    one that is not there says 404.  An engine that is not reached has none.
    """
    return tuple([path for path in paths if await _is_there(upstream, path)])


async def _is_there(upstream: Upstream, path: str) -> bool:
    try:
        answer = await upstream.get(path, request_id=REQUEST_ID)
    except UpstreamError as error:
        # Whatever else it says, a page longer than we read among it, something is there.
        return error.kind not in GONE
    return answer.status != _NOT_THERE


def is_set(flag: str, words: Sequence[str]) -> bool:
    """Whether arguments of a command hold `--flag` or `--flag=…`."""
    return any(word == flag or word.startswith(flag + "=") for word in words)
