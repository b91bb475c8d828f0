"""Sizes and names, as the architecture asks for them."""

from __future__ import annotations

import ast
import re
import statistics
from collections.abc import Iterator

import pytest

from tests.house.conftest import module_trees, python_files

PRODUCT = ("attestation", "gateway")
FILE_LINES, FUNCTION_LINES, FUNCTION_P95 = 500, 80, 40
# "Valid" and "trusted" say neither what was checked nor against what.
BANNED = {"valid", "trusted"}
WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(tree: ast.Module) -> Iterator[Function]:
    yield from (node for node in ast.walk(tree) if isinstance(node, Function))


def length(function: Function) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


def defined_names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Names this module gives to something: functions, classes, parameters, variables, fields."""
    for node in ast.walk(tree):
        if isinstance(node, Function | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id if isinstance(node, ast.Name) else node.attr


def banned_words(name: str) -> set[str]:
    return {word.lower() for word in WORD.findall(name)} & BANNED


def test_no_product_file_is_longer_than_the_limit() -> None:
    sizes = {name: len(text.splitlines()) for name, text in python_files(*PRODUCT)}
    assert {name: size for name, size in sizes.items() if size > FILE_LINES} == {}


def test_no_product_function_is_longer_than_the_limit() -> None:
    long = {
        f"{name}:{function.lineno} {function.name}": length(function)
        for name, tree in module_trees(*PRODUCT)
        for function in functions(tree)
        if length(function) > FUNCTION_LINES
    }
    assert long == {}


@pytest.mark.parametrize("package", PRODUCT)
def test_nineteen_of_twenty_functions_fit_on_a_screen(package: str) -> None:
    lengths = [length(found) for _, tree in module_trees(package) for found in functions(tree)]
    assert statistics.quantiles(lengths, n=20)[-1] <= FUNCTION_P95


def test_no_product_name_says_valid_or_trusted() -> None:
    found = [
        f"{path}:{line}: {name}"
        for path, tree in module_trees(*PRODUCT)
        for line, name in defined_names(tree)
        if banned_words(name)
    ]
    assert found == []


@pytest.mark.parametrize("name", ["is_valid", "trustedRoot", "TrustedRoot", "VALID", "valid"])
def test_banned_word_is_seen_inside_a_name(name: str) -> None:
    assert banned_words(name)


@pytest.mark.parametrize("name", ["invalid", "validate", "validity", "untrusted", "collateral"])
def test_other_words_are_left_alone(name: str) -> None:
    assert not banned_words(name)


def test_defined_names_cover_functions_parameters_and_assignments() -> None:
    tree = ast.parse("def f(valid_a, *, b): self.c = 1\nclass D:\n    e: int = 2\n")
    assert {name for _, name in defined_names(tree)} == {"f", "valid_a", "b", "c", "D", "e"}
