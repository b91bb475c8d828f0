"""Every place of the verifier that can refuse or withhold, found in its syntax trees.

A site is one check not made: a statement that refuses, left out; a branch never taken; one operand
of a condition, one member of a comparison, one entry of a table taken away; a bound dropped.  What
is only said to people, and what is only written, is left alone; a `TypeAlias` is for mypy.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from check_change import Around, Site, called, lines_of, slots
from check_kinds import REFUSING, SAYING, of_expression, of_statement
from check_tables import of_constant

SCOPE = (
    "attestation/verifier/",
    "attestation/tdx/",
    "attestation/statement/",
    "attestation/log/",
    "attestation/merkle/",
    "attestation/encoding/",
    "attestation/receipt/signing.py",
    "attestation/receipt/commitments.py",
    "attestation/receipt/claims_parser.py",
    "attestation/receipt/text.py",
    "attestation/receipt/block.py",
    "attestation/bundle/parse.py",
    "attestation/bundle/model.py",
    "attestation/bundle/lone.py",
    "attestation/policy/model.py",
    "attestation/policy/parse",
    "attestation/policy/signature.py",
    "attestation/policy/mark.py",
    "attestation/policy/table.py",
    "attestation/policy/machines.py",
    "attestation/model/",
    "attestation/checks.py",
    "attestation/result.py",
)
"""What stands between a file and its verdict; the command line, the sealing side, and what makes
bundles and policies do not.
"""

_WRITING = re.compile(r"_?(to_json|encode|render|sign_|canonicalize)|(\w*_)?facts$|__(str|repr)__")


def files(root: Path, only: str = "") -> list[Path]:
    """Return the files of the scope whose path begins with `only`, in order."""
    found = []
    for file in sorted((root / "attestation").rglob("*.py")):
        path = file.relative_to(root).as_posix()
        if path.startswith(SCOPE) and path.startswith(only):
            found.append(file)
    return found


def sites(root: Path, only: str = "") -> list[Site]:
    """Return every site of the scope, in the order of the source, each with its own id."""
    found: list[Site] = []
    for file in files(root, only):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        around = Around(path=file.relative_to(root).as_posix(), tree=tree)
        found += _below(tree, around)
    seen: Counter[str] = Counter()
    for site in found:
        seen[site.id] += 1
        site.number = seen[site.id]
    return found


def _below(node: ast.AST, around: Around) -> Iterator[Site]:
    for slot in slots(node):
        child = slot.node
        if _is_prose(child):
            # The statement itself can be left out; what it says to people stays as it is.
            yield from of_statement(slot, around)
            continue
        inner = around
        if isinstance(child, ast.stmt):
            inner = replace(around, lines=lines_of(child))
        if isinstance(child, ast.FunctionDef):
            if _is_writing(child):
                continue
            inner = _entered(child, inner)
        elif isinstance(child, ast.ClassDef):
            inner = replace(inner, classes=(*inner.classes, child.name))
        if inner.function:
            yield from of_statement(slot, inner)
            yield from of_expression(slot, inner)
        elif isinstance(child, ast.Assign | ast.AnnAssign):
            yield from of_constant(child, inner)
            continue
        yield from _below(child, inner)


def _entered(node: ast.FunctionDef, around: Around) -> Around:
    answers = isinstance(node.returns, ast.Name) and node.returns.id == "bool"
    if around.function:
        return replace(around, answers=answers)
    first = min([node.lineno, *(item.lineno for item in node.decorator_list)])
    name = ".".join((*around.classes, node.name))
    return replace(around, function=name, first=first, answers=answers)


def _is_writing(node: ast.FunctionDef) -> bool:
    """Whether a function only writes, or only makes words or errors."""
    kind = node.returns.id if isinstance(node.returns, ast.Name) else ""
    if _WRITING.match(node.name) or kind.endswith("Error"):
        return True
    return kind == "str" and not any(isinstance(inner, ast.Raise) for inner in ast.walk(node))


def _is_prose(node: ast.AST) -> bool:
    """What is said to people: a result line, an error, a complaint, a formatted text."""
    if isinstance(node, ast.Expr):
        return called(node.value) in REFUSING | SAYING or isinstance(node.value, ast.Constant)
    return isinstance(node, ast.Raise | ast.JoinedStr) or called(node).endswith(
        ("Error", "Complaint")
    )
