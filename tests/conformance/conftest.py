"""Tiny directories of vectors, made on the spot."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from attestation.conformance.case import Case, Judgement, judge
from attestation.conformance.files import VectorDirectory
from attestation.conformance.topics import TOPICS

Content = bytes | str | dict[str, Any] | list[Any]
Build = Callable[[dict[str, Content]], Path]


def encoded(content: Content) -> bytes:
    if isinstance(content, bytes):
        return content
    return content.encode() if isinstance(content, str) else json.dumps(content).encode()


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def item(name: str, content: Content) -> dict[str, object]:
    return {"file": name, "sha256": hashlib.sha256(encoded(content)).hexdigest()}


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Write files and a manifest that lists them with their SHA-256."""

    def write(files: dict[str, Content]) -> Path:
        root = tmp_path / "vectors"
        for name, content in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded(content))
        manifest = {"files": [item(name, content) for name, content in files.items()]}
        root.mkdir(exist_ok=True)
        (root / "manifest.json").write_text(json.dumps(manifest))
        return root

    return write


def lines(*objects: dict[str, Any]) -> str:
    return "".join(json.dumps(value) + "\n" for value in objects)


def catalogue(topic: str, root: Path) -> list[Case]:
    with ExitStack() as resources:
        return list(import_module(TOPICS[topic]).cases(VectorDirectory(root), resources))


def judgements(topic: str, root: Path) -> dict[str, Judgement]:
    return {case.name: judge(case) for case in catalogue(topic, root)}
