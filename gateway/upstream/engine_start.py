"""How the image starts an engine: the arguments of the model lock, and a closed environment.

What is measured as `engine.args` is what runs, because nothing else is passed on.  The list of what
vLLM needs to hear follows vLLM 0.32 (vllm/entrypoints/openai/cli_args.py, vllm/envs.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from attestation.errors import PolicyError
from gateway.upstream.surface import FORBIDDEN_FLAGS, is_set

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from attestation.statement.model_lock import LockedEngine

VLLM: Final = "vllm"

ENVIRONMENT: Final[Mapping[str, str]] = {
    "DO_NOT_TRACK": "1",
    "HF_HOME": "/run/vllm-cache/huggingface",
    "HF_HUB_OFFLINE": "1",
    "HOME": "/run/vllm-cache",
    "LANG": "C.UTF-8",
    "PATH": "/usr/bin:/bin",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONNOUSERSITE": "1",
    "PYTHONSAFEPATH": "1",
    "TMPDIR": "/tmp",  # noqa: S108 - of the unit's own
    "TORCHINDUCTOR_CACHE_DIR": "/run/vllm-cache/inductor",
    "TRANSFORMERS_OFFLINE": "1",
    "TRITON_CACHE_DIR": "/run/vllm-cache/triton",
    "VLLM_CACHE_ROOT": "/run/vllm-cache/vllm",
    "VLLM_CONFIG_ROOT": "/run/vllm-cache/config",
    "VLLM_LOGGING_LEVEL": "CRITICAL",
    "VLLM_MAX_N_SEQUENCES": "8",
    "VLLM_MEDIA_URL_ALLOW_REDIRECTS": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_PLUGINS": "",
}
"""All of it.  Nothing is inherited: neither the host nor another unit can add a variable.

Set and empty, VLLM_PLUGINS loads none; without it, vLLM loads every plugin it finds.  CRITICAL,
because vLLM writes inputs and model names that it does not know with ERROR.
"""

_NEEDED: Final[Mapping[str, str | None]] = {
    "--disable-fastapi-docs": None,
    "--disable-uvicorn-access-log": None,
    "--enable-force-include-usage": None,
    "--generation-config": "vllm",
    "--load-format": "safetensors",
    "--max-model-len": None,
    "--max-num-seqs": None,
    "--mm-hasher-algorithm": "sha256",
    "--no-enable-log-requests": None,
    "--prefix-caching-hash-algo": "sha256",
    "--uds": "/run/vllm/engine.sock",
    "--uvicorn-log-level": "warning",
}
"""What vLLM has to be told; None: the flag, with or without a value of any kind."""

_REFUSED: Final[Mapping[str, str]] = {
    **FORBIDDEN_FLAGS,
    "--allowed-local-media-path": "requests can read files",
    "--config": "arguments come out of a file that nothing measures",
    "--enable-prompt-embeds": "callers hand over tensors instead of text",
    "--enable-tokenizer-info-endpoint": "a route beside the gateway's",
    "--hf-overrides": "the model's configuration is not that of its files",
    "--host": "it would listen on the network as well",
    "--kv-events-config": "a second listener tells which tokens are in the cache",
    "--kv-transfer-config": "what was computed from prompts leaves this process",
    "--log-config-file": "what is written down is said by a file that nothing measures",
    "--port": "it would listen on the network as well",
    "--profiler-config": "calls are written to files",
    "--trust-request-mm-kwargs": "callers change how media are read",
}


def require_hardened(engine: LockedEngine) -> None:
    """Raise `PolicyError` (code "engine_arguments") unless vLLM is started as closed as it can be.

    Another engine than vLLM has other flags: what it must not have is the same.
    """
    words = [_normal(word) for word in engine.arguments]
    refused = {flag: why for flag, why in _REFUSED.items() if is_set(flag, words)}
    refused |= dict.fromkeys(_odd(words), "it is short for, or takes back, a flag of this list")
    if refused:
        raise PolicyError(
            "the model lock starts the engine with what opens it",
            code="engine_arguments",
            expected="none of these arguments",
            observed="; ".join(f"{flag}: {why}" for flag, why in refused.items()),
            hint="make the lock anew without them (attested model lock --arg …)",
        )
    if engine.name != VLLM:
        return
    missing = [
        flag if value is None else f"{flag}={value}"
        for flag, value in _NEEDED.items()
        if not _says(words, flag, value)
    ]
    if missing:
        raise PolicyError(
            "the model lock leaves vLLM more open than it has to be",
            code="engine_arguments",
            expected=", ".join(missing),
            observed="other arguments, or none",
            hint="make the lock anew with them (attested model lock --arg …)",
        )


def command_of(engine: LockedEngine, executable: str) -> tuple[str, ...]:
    """Return the command: the executable, then every argument of the lock and no other."""
    return (executable, *engine.arguments)


def _normal(word: str) -> str:
    """Return a flag as vLLM reads it: underscores in its name are hyphens, `.KEY` sets a part."""
    if not word.startswith("--"):
        return word
    name, equals, value = word.partition("=")
    return name.partition(".")[0].removesuffix("+").replace("_", "-") + equals + value


def _odd(words: Sequence[str]) -> list[str]:
    """Return flags that argparse takes for others (abbreviations), and negations of needed ones."""
    names = [word.partition("=")[0] for word in words if word.startswith("--") and word != "--"]
    known = {*_REFUSED, *_NEEDED}
    negated = {"--no-" + flag.removeprefix("--") for flag in _NEEDED}
    return [
        name
        for name in names
        if name not in known and any(flag.startswith(name) for flag in known | negated)
    ]


def _says(words: Sequence[str], flag: str, value: str | None) -> bool:
    """Whether the flag stands there, once, with this value (None: with any, or none)."""
    values = []
    for place, word in enumerate(words):
        if word == flag:
            values.append(words[place + 1] if place + 1 < len(words) else "")
        elif word.startswith(flag + "="):
            values.append(word.removeprefix(flag + "="))
    if value is None:
        return bool(values)
    return values == [value]
