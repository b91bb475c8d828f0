"""What a site is, and how the source is changed at one: in its syntax tree, and back again."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import CodeType


@dataclass(slots=True, kw_only=True)
class Edit:
    """One change of a tree in place: what stands at a field of a node, or at a place in it."""

    parent: ast.AST
    name: str
    index: int | None
    new: ast.AST

    def swap(self) -> None:
        """Put the other one there; a second call undoes the first."""
        held = getattr(self.parent, self.name)
        if self.index is None:
            setattr(self.parent, self.name, self.new)
            self.new = held
        else:
            held[self.index], self.new = self.new, held[self.index]


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """Where a node hangs, so that another can be put there."""

    node: ast.AST
    parent: ast.AST
    name: str
    index: int | None

    def edit(self, new: ast.AST) -> Edit:
        ast.copy_location(new, self.node)
        ast.fix_missing_locations(new)
        return Edit(parent=self.parent, name=self.name, index=self.index, new=new)


@dataclass(slots=True, kw_only=True)
class Site:
    """One check that can be taken away.

    `function` is the outermost function's qualified name and `first` the line it begins at;
    `constant` is the module-level name instead.  Only tests that run one of `triggers` (lines of
    the file) can notice; None: every test that runs the file may.
    """

    path: str
    line: int
    change: str
    edit: Edit
    tree: ast.Module
    function: str = ""
    first: int = 0
    constant: str = ""
    number: int = 1
    triggers: frozenset[int] | None = None

    @property
    def id(self) -> str:
        """The same for the same code, wherever in its file it stands."""
        place = self.function or self.constant
        return f"{self.path}::{place}::{self.change}" + (
            f"::{self.number}" if self.number > 1 else ""
        )

    def __str__(self) -> str:
        return f"{self.path}:{self.line} {self.function or self.constant}: {self.change}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """What a node stands in."""

    path: str
    tree: ast.Module
    function: str = ""
    first: int = 0
    classes: tuple[str, ...] = ()
    answers: bool = False
    lines: frozenset[int] = field(default_factory=frozenset)


def code_of(site: Site, filename: str) -> CodeType:
    """Return the compiled module with the site's change in place."""
    site.edit.swap()
    try:
        return compile(site.tree, filename, "exec", dont_inherit=True)
    finally:
        site.edit.swap()


def slots(node: ast.AST) -> Iterator[Slot]:
    for name, value in ast.iter_fields(node):
        if name in {"annotation", "returns", "decorator_list", "type_comment", "args"} and (
            not isinstance(node, ast.Call)
        ):
            continue
        if isinstance(value, list):
            for index, child in enumerate(value):
                if isinstance(child, ast.AST):
                    yield Slot(node=child, parent=node, name=name, index=index)
        elif isinstance(value, ast.AST):
            yield Slot(node=value, parent=node, name=name, index=None)


def lines_of(node: ast.stmt) -> frozenset[int]:
    body = getattr(node, "body", None)
    last = body[0].lineno - 1 if isinstance(body, list) and body else node.end_lineno
    return frozenset(range(node.lineno, max(last or node.lineno, node.lineno) + 1))


def called(node: ast.AST) -> str:
    if not isinstance(node, ast.Call):
        return ""
    return getattr(node.func, "attr", "") or getattr(node.func, "id", "")


def without_each(node: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(node, ast.Dict):
        for index, (key, value) in enumerate(zip(node.keys, node.values, strict=True)):
            keys, values = list(node.keys), list(node.values)
            del keys[index], values[index]
            yield ast.unparse(key or value), ast.Dict(keys=keys, values=values)
    elif isinstance(node, ast.Set | ast.List | ast.Tuple):
        for index, lost in enumerate(node.elts):
            yield ast.unparse(lost), less(node, index)


def less(node: ast.expr, index: int) -> ast.expr:
    if not isinstance(node, ast.Set | ast.List | ast.Tuple):
        raise TypeError(f"expected a display, saw {type(node).__name__}")
    kept = copy.copy(node)
    kept.elts = node.elts[:index] + node.elts[index + 1 :]
    if isinstance(kept, ast.Set) and not kept.elts:
        return ast.Call(func=ast.Name("set", ast.Load()), args=[], keywords=[])
    return kept


def fresh(node: ast.expr) -> ast.expr:
    """A node of its own, so that giving it a place moves no other."""
    return copy.copy(node)
