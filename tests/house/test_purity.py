"""attestation/ is bytes, policy and an instant in, verdict out; only its commands do I/O."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator

import pytest

from tests.house.conftest import module_trees

ALLOWED = {"attestation", "cryptography", "jwt", "dcap_qvl"}
# Commands, and the runner of vectors beside them, read files and know what time it is.
IMPURE = ("attestation/cli/", "attestation/conformance/")
IMPURE_MODULES = {
    "asyncio", "ftplib", "getpass", "glob", "http", "multiprocessing", "os", "pathlib", "platform",
    "random", "select", "selectors", "shutil", "signal", "socket", "socketserver", "sqlite3", "ssl",
    "subprocess", "tempfile", "threading", "time", "urllib.request",
}  # fmt: skip
IMPURE_CALLS = {"open", "print", "input", "exec", "eval", "breakpoint"}
IMPURE_METHODS = {
    "now", "utcnow", "today", "read_text", "read_bytes", "write_text", "write_bytes", "getenv",
}  # fmt: skip
ALLOWED_CALLS = {("attestation/encoding/making.py", "calls exec()")}
"""Constructors from the names of a class's own fields, at import: what dataclasses does itself."""
RESULT_NOW = "result.now"
"""No clock: the part of a result that says what the verdict is now."""


def imported(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, node.module or ""


def is_impure(node: ast.Attribute) -> bool:
    return node.attr in IMPURE_METHODS and ast.unparse(node) != RESULT_NOW


def impurities(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for line, module in imported(tree):
        if module in IMPURE_MODULES or module.split(".")[0] in IMPURE_MODULES:
            yield line, f"imports {module}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id in IMPURE_CALLS:
                yield node.lineno, f"calls {node.func.id}()"
        elif isinstance(node, ast.Attribute) and is_impure(node):
            yield node.lineno, f"uses .{node.attr}"


def foreign(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for line, module in imported(tree):
        top = module.split(".")[0]
        if top not in ALLOWED and top not in sys.stdlib_module_names:
            yield line, module


def test_attestation_imports_only_its_four_allowed_sources() -> None:
    found = [
        f"{path}:{line}: {module}"
        for path, tree in module_trees("attestation")
        for line, module in foreign(tree)
    ]
    assert found == []


def test_attestation_touches_no_clock_environment_file_or_network_outside_its_commands() -> None:
    found = [
        f"{path}:{line}: {what}"
        for path, tree in module_trees("attestation")
        if not path.startswith(IMPURE)
        for line, what in impurities(tree)
        if (path, what) not in ALLOWED_CALLS
    ]
    assert found == []


@pytest.mark.parametrize(
    "code",
    [
        "import socket",
        "from time import time",
        "import os",
        "from os import environ",
        "import urllib.request",
        "from pathlib import Path",
        "open('x')",
        "x = datetime.now()",
    ],
)
def test_impure_code_is_recognised(code: str) -> None:
    assert list(impurities(ast.parse(code)))


@pytest.mark.parametrize("code", ["import json", "from urllib.parse import quote", "x = y.read()"])
def test_pure_code_is_left_alone(code: str) -> None:
    assert not list(impurities(ast.parse(code)))


@pytest.mark.parametrize("code", ["import gateway", "import httpx2", "from pydantic import Field"])
def test_foreign_imports_are_recognised(code: str) -> None:
    assert list(foreign(ast.parse(code)))
