"""An image starts its engine by its lock, closed, and with nothing inherited."""

from __future__ import annotations

import pytest

from attestation.errors import PolicyError
from attestation.statement.model_lock import LockedEngine
from gateway.upstream.engine_start import ENVIRONMENT, command_of, require_hardened
from gateway.upstream.surface import FORBIDDEN_FLAGS, FORBIDDEN_VARIABLES

CLOSED = (
    "serve",
    "/srv/model",
    "--uds=/run/vllm/engine.sock",
    "--disable-fastapi-docs",
    "--disable-uvicorn-access-log",
    "--enable-force-include-usage",
    "--generation-config=vllm",
    "--load-format",
    "safetensors",
    "--max-model-len=4096",
    "--max-num-seqs=64",
    "--mm-hasher-algorithm=sha256",
    "--no-enable-log-requests",
    "--prefix-caching-hash-algo=sha256",
    "--uvicorn-log-level=warning",
)
LISTENERS = (
    "--host",
    "--log-config-file",
    "--port",
    "--config",
    "--kv-events-config",
    "--kv-transfer-config",
)
NEEDED = [word for word in CLOSED if word.startswith("--") and word != "--load-format"]


def engine(*arguments: str, name: str = "vllm") -> LockedEngine:
    return LockedEngine(name=name, version="0.32.0", arguments=arguments)


def test_closed_engine_is_started_as_the_lock_says() -> None:
    require_hardened(engine(*CLOSED))
    assert command_of(engine(*CLOSED), "/opt/engine/bin/vllm") == ("/opt/engine/bin/vllm", *CLOSED)


@pytest.mark.parametrize("word", NEEDED)
def test_vllm_without_a_flag_that_closes_it_is_refused(word: str) -> None:
    with pytest.raises(PolicyError) as refusal:
        require_hardened(engine(*(one for one in CLOSED if one != word)))
    assert refusal.value.code == "engine_arguments"
    assert word.partition("=")[0] in refusal.value.expected


@pytest.mark.parametrize("flag", [*FORBIDDEN_FLAGS, *LISTENERS])
@pytest.mark.parametrize("name", ["vllm", "other"])
@pytest.mark.parametrize("form", ["{}", "{}=1"])
def test_flag_that_opens_an_engine_is_refused(flag: str, name: str, form: str) -> None:
    with pytest.raises(PolicyError) as refusal:
        require_hardened(engine(*CLOSED, form.format(flag), name=name))
    assert flag in refusal.value.observed


@pytest.mark.parametrize(
    "word",
    [
        "--enable_lora",
        "--trust_remote_code",
        "--enable-lor",
        "--trust-remote",
        "--middle=x",
        "--no-disable-fastapi-docs",
        "--no-disable-uvicorn-access-log",
        "--no-enable-force-include-usage",
        "--generation-conf=auto",
        "--no-disable-fastapi",
        "--no_enable_force=1",
        "--hf-overrides.max_position_embeddings=1",
        "--hf_overrides.architectures+=x",
        "--hf-overrides+=x",
        "--profiler-config.profiler",
        "--prof.profiler=torch",
        "--ud=/tmp/other.sock",
    ],
)
def test_other_spelling_of_a_flag_is_refused(word: str) -> None:
    with pytest.raises(PolicyError, match="what opens it"):
        require_hardened(engine(*CLOSED, word))


@pytest.mark.parametrize(
    "words",
    [
        ("--load-format=pt",),
        ("--load-format", "pt"),
        ("--uds=/tmp/other.sock",),
        ("--uvicorn_log_level=debug",),
        ("--generation-config", "auto"),
    ],
)
def test_second_value_of_a_flag_is_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(PolicyError, match="more open"):
        require_hardened(engine(*CLOSED, *words))


def test_flag_at_the_end_has_no_value() -> None:
    words = [word for word in CLOSED if word not in ("--load-format", "safetensors")]
    with pytest.raises(PolicyError, match="more open"):
        require_hardened(engine(*words, "--load-format"))


def test_other_engines_need_no_flags_of_vllm() -> None:
    require_hardened(engine("--model", "m", name="other"))


def test_environment_sets_nothing_that_opens_vllm() -> None:
    assert not FORBIDDEN_VARIABLES.keys() & ENVIRONMENT.keys()
    assert ENVIRONMENT["VLLM_PLUGINS"] == ""
    assert ENVIRONMENT["VLLM_NO_USAGE_STATS"] == ENVIRONMENT["DO_NOT_TRACK"] == "1"
    assert ENVIRONMENT["HF_HUB_OFFLINE"] == ENVIRONMENT["TRANSFORMERS_OFFLINE"] == "1"
    assert not [name for name in ENVIRONMENT if "PROXY" in name.upper() or name.startswith("LD_")]
