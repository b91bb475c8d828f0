"""The example of docs/spec/model.md, made by the product's own code."""

from __future__ import annotations

from attestation.encoding.digest import Digest
from attestation.statement.model_lock import (
    LockedEngine,
    LockedFile,
    ModelLock,
    ModelSource,
    Role,
)

FILES = {
    "chat_template.jinja": (Role.CHAT_TEMPLATE, b"{{ messages[0].content }}"),
    "config.json": (Role.CONFIG, b"{}"),
    "generation_config.json": (Role.GENERATION_CONFIG, b"{}"),
    "model.safetensors": (Role.WEIGHTS, b"weights"),
    "tokenizer.json": (Role.TOKENIZER, b"{}"),
}


def documented_lock() -> ModelLock:
    return ModelLock(
        model="org/tiny",
        files=tuple(
            LockedFile(path=path, role=role, sha256=Digest.of(data), size=len(data))
            for path, (role, data) in FILES.items()
        ),
        source=ModelSource(
            repository="org/tiny", revision="0123456789abcdef0123456789abcdef01234567"
        ),
        engine=LockedEngine(
            name="vllm",
            version="0.32.0",
            arguments=("--max-model-len=4096", "--dtype=bfloat16"),
        ),
    )
