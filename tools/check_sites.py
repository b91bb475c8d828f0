"""Every place of the verifier that can refuse or withhold, found in its syntax trees.

A site is one check not made: a statement that refuses, left out; a branch never taken; one operand
of a condition, one member of a comparison, one entry of a table taken away; a bound dropped.  What
is only said to people, and what is only written, is left alone.
"""

from __future__ import annotations

import ast
import copy
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import CodeType

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
    "attestation/policy/table.py",
    "attestation/policy/machines.py",
    "attestation/model/",
    "attestation/checks.py",
    "attestation/result.py",
)
"""What stands between a file and its verdict; the command line, the sealing side, and what makes
bundles and policies do not.
"""

_REFUSING = {"rejected", "not_accepted", "refused", "lacking", "skipped", "contradicted"}
_SAYING = {"passed", "info"}
_BOUNDS = {
    "pattern", "choices", "length", "minimum", "maximum", "max_items", "max_chars", "max_bytes",
}  # fmt: skip
_WRITING = re.compile(r"_?(to_json|encode|render|sign_|canonicalize)|(\w*_)?facts$|__(str|repr)__")
_BITS = re.compile(r"BITS|MASK")


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
class _Around:
    """What a node stands in."""

    path: str
    tree: ast.Module
    function: str = ""
    first: int = 0
    classes: tuple[str, ...] = ()
    answers: bool = False
    lines: frozenset[int] = field(default_factory=frozenset)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Slot:
    """Where a node hangs, so that another can be put there."""

    node: ast.AST
    parent: ast.AST
    name: str
    index: int | None

    def edit(self, new: ast.AST) -> Edit:
        ast.copy_location(new, self.node)
        ast.fix_missing_locations(new)
        return Edit(parent=self.parent, name=self.name, index=self.index, new=new)


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
        around = _Around(path=file.relative_to(root).as_posix(), tree=tree)
        found += _below(tree, around)
    seen: Counter[str] = Counter()
    for site in found:
        seen[site.id] += 1
        site.number = seen[site.id]
    return found


def code_of(site: Site, filename: str) -> CodeType:
    """Return the compiled module with the site's change in place."""
    site.edit.swap()
    try:
        return compile(site.tree, filename, "exec", dont_inherit=True)
    finally:
        site.edit.swap()


# --- walking -------------------------------------------------------------------------------------


def _slots(node: ast.AST) -> Iterator[_Slot]:
    for name, value in ast.iter_fields(node):
        if name in {"annotation", "returns", "decorator_list", "type_comment", "args"} and (
            not isinstance(node, ast.Call)
        ):
            continue
        if isinstance(value, list):
            for index, child in enumerate(value):
                if isinstance(child, ast.AST):
                    yield _Slot(node=child, parent=node, name=name, index=index)
        elif isinstance(value, ast.AST):
            yield _Slot(node=value, parent=node, name=name, index=None)


def _below(node: ast.AST, around: _Around) -> Iterator[Site]:
    for slot in _slots(node):
        child = slot.node
        if _is_prose(child):
            # The statement itself can be left out; what it says to people stays as it is.
            yield from _statement(slot, around)
            continue
        inner = around
        if isinstance(child, ast.stmt):
            inner = replace(around, lines=_lines(child))
        if isinstance(child, ast.FunctionDef):
            if _is_writing(child):
                continue
            inner = _entered(child, inner)
        elif isinstance(child, ast.ClassDef):
            inner = replace(inner, classes=(*inner.classes, child.name))
        if inner.function:
            yield from _statement(slot, inner)
            yield from _expression(slot, inner)
        elif isinstance(child, ast.Assign | ast.AnnAssign):
            yield from _constant(child, inner)
            continue
        yield from _below(child, inner)


def _entered(node: ast.FunctionDef, around: _Around) -> _Around:
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


def _lines(node: ast.stmt) -> frozenset[int]:
    body = getattr(node, "body", None)
    last = body[0].lineno - 1 if isinstance(body, list) and body else node.end_lineno
    return frozenset(range(node.lineno, max(last or node.lineno, node.lineno) + 1))


def _called(node: ast.AST) -> str:
    if not isinstance(node, ast.Call):
        return ""
    return getattr(node.func, "attr", "") or getattr(node.func, "id", "")


def _is_prose(node: ast.AST) -> bool:
    """What is said to people: a result line, an error, a complaint, a formatted text."""
    if isinstance(node, ast.Expr):
        return _called(node.value) in _REFUSING | _SAYING or isinstance(node.value, ast.Constant)
    return isinstance(node, ast.Raise | ast.JoinedStr) or _called(node).endswith(
        ("Error", "Complaint")
    )


# --- what can be taken away ----------------------------------------------------------------------


def _site(slot: _Slot, around: _Around, words: str, new: ast.AST, **more: object) -> Site:
    triggers = more.pop("triggers", around.lines)
    line = getattr(slot.node, "lineno", 0)
    return Site(
        path=around.path,
        line=line,
        change=" ".join(words.split())[:200],
        edit=slot.edit(new),
        tree=around.tree,
        function=around.function,
        first=around.first,
        triggers=frozenset(triggers) if triggers else None,  # type: ignore[call-overload]
        **more,  # type: ignore[arg-type]
    )


def _statement(slot: _Slot, around: _Around) -> Iterator[Site]:
    node = slot.node
    if not isinstance(node, ast.stmt) or not around.function:
        return
    around = replace(around, lines=_lines(node))
    text = ast.unparse(node).splitlines()[0]
    if isinstance(node, ast.Raise):
        yield _site(slot, around, f"not raised: {text}", ast.Pass())
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        if _called(node.value) not in _SAYING:
            yield _site(slot, around, f"not called: {text}", ast.Pass())
    elif isinstance(node, ast.AugAssign):
        if isinstance(node.op, ast.BitOr | ast.Add) and not _is_number(node.value):
            yield _site(slot, around, f"not added: {text}", ast.Pass())
    elif isinstance(node, ast.If):
        yield from _branch(node, around)
    elif isinstance(node, ast.Return) and node.value is not None:
        yield from _answer(slot, node, around)


def _is_number(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, int)


def _branch(node: ast.If, around: _Around) -> Iterator[Site]:
    inside = frozenset().union(*(_lines(one) for one in node.body[:1]))
    place = _Slot(node=node.test, parent=node, name="test", index=None)
    text = ast.unparse(node.test)
    yield _site(place, around, f"never: if {text}", ast.Constant(value=False), triggers=inside)
    if _passes_by(node):
        yield _site(place, around, f"always: if {text}", ast.Constant(value=True))


def _passes_by(node: ast.If) -> bool:
    """Whether a branch that is always taken may keep a later check from being made."""
    if any(_refuses(one) for one in node.body):
        return False
    leaves = isinstance(node.body[-1], ast.Return | ast.Continue | ast.Break)
    return leaves or any(_refuses(one) for one in node.orelse)


def _refuses(node: ast.AST) -> bool:
    return any(
        isinstance(inner, ast.Raise) or _called(inner) in _REFUSING for inner in ast.walk(node)
    )


def _answer(slot: _Slot, node: ast.Return, around: _Around) -> Iterator[Site]:
    value = node.value
    if value is None:
        return
    text = ast.unparse(node)
    if _called(value).endswith("Complaint"):
        yield _site(slot, around, f"no complaint: {text}", ast.Return(ast.Constant(None)))
    if around.answers:
        for answer in (True, False):
            if not (isinstance(value, ast.Constant) and value.value is answer):
                new = ast.Return(ast.Constant(answer))
                yield _site(slot, around, f"always {answer}: {text}", new)


def _expression(slot: _Slot, around: _Around) -> Iterator[Site]:
    node = slot.node
    if isinstance(node, ast.BoolOp):
        yield from _operands(slot, node, around)
    elif isinstance(node, ast.Compare):
        yield from _comparison(slot, node, around)
    elif isinstance(node, ast.comprehension):
        yield from _filters(node, around)
    elif isinstance(node, ast.IfExp):
        yield from _choice(slot, node, around)
    elif isinstance(node, ast.Call):
        yield from _bounds(slot, node, around)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        text = ast.unparse(node)
        for kept, lost in ((node.left, node.right), (node.right, node.left)):
            yield _site(slot, around, f"without {ast.unparse(lost)}: {text}", kept)
    elif isinstance(node, ast.Dict | ast.Set | ast.List):
        yield from _entries(slot, node, around)


def _operands(slot: _Slot, node: ast.BoolOp, around: _Around) -> Iterator[Site]:
    if isinstance(node.op, ast.Or) and _is_default(node.values[-1]):
        return
    triggers = around.lines
    if isinstance(node.op, ast.Or) and isinstance(slot.parent, ast.If):
        triggers = frozenset().union(*(_lines(one) for one in slot.parent.body[:1]))
    for index, lost in enumerate(node.values):
        kept = [value for place, value in enumerate(node.values) if place != index]
        new = kept[0] if len(kept) == 1 else ast.BoolOp(op=node.op, values=kept)
        words = f"without {ast.unparse(lost)}: {ast.unparse(node)}"
        yield _site(slot, around, words, _fresh(new), triggers=triggers)


def _is_default(node: ast.expr) -> bool:
    """The last operand of `x or ""`, which stands for a value that is not there."""
    return isinstance(node, ast.Constant) or (
        isinstance(node, ast.Tuple | ast.List) and not node.elts
    )


def _comparison(slot: _Slot, node: ast.Compare, around: _Around) -> Iterator[Site]:
    text = ast.unparse(node)
    if len(node.ops) > 1:
        for first in (0, 1):
            count = len(node.ops) - 1
            values = [node.left, *node.comparators][first : first + count + 1]
            kept = ast.Compare(
                left=values[0], ops=node.ops[first : first + count], comparators=values[1:]
            )
            yield _site(slot, around, f"only {ast.unparse(kept)}: {text}", kept)
        return
    left, right = node.left, node.comparators[0]
    if isinstance(left, ast.Tuple) and isinstance(right, ast.Tuple):
        for index, lost in enumerate(left.elts):
            kept = ast.Compare(
                left=_less(left, index), ops=node.ops, comparators=[_less(right, index)]
            )
            yield _site(slot, around, f"without {ast.unparse(lost)}: {text}", kept)
    elif isinstance(right, ast.Tuple) and len(right.elts) > 1:
        for index, lost in enumerate(right.elts):
            kept = ast.Compare(left=left, ops=node.ops, comparators=[_less(right, index)])
            yield _site(slot, around, f"without {ast.unparse(lost)}: {text}", kept)


def _filters(node: ast.comprehension, around: _Around) -> Iterator[Site]:
    for index, test in enumerate(node.ifs):
        place = _Slot(node=test, parent=node, name="ifs", index=index)
        for word, answer in (("never", False), ("always", True)):
            words = f"{word}: … if {ast.unparse(test)}"
            yield _site(place, around, words, ast.Constant(answer))


def _choice(slot: _Slot, node: ast.IfExp, around: _Around) -> Iterator[Site]:
    if all(isinstance(arm, ast.Constant | ast.JoinedStr) for arm in (node.body, node.orelse)):
        return
    for word, arm in (("always", node.body), ("never", node.orelse)):
        words = f"{word}: {ast.unparse(node)}"
        yield _site(slot, around, words, _fresh(arm))


def _bounds(slot: _Slot, node: ast.Call, around: _Around) -> Iterator[Site]:
    for index, keyword in enumerate(node.keywords):
        if keyword.arg in _BOUNDS:
            kept = [one for place, one in enumerate(node.keywords) if place != index]
            new = ast.Call(func=node.func, args=node.args, keywords=kept)
            words = f"without {ast.unparse(keyword)}: {ast.unparse(node)}"
            yield _site(slot, around, words, new)


def _entries(slot: _Slot, node: ast.Dict | ast.Set | ast.List, around: _Around) -> Iterator[Site]:
    """Entries of what is compared or collected; a lone one is no choice among several."""
    count = len(node.keys) if isinstance(node, ast.Dict) else len(node.elts)
    if count > 1:
        for name, new in _without_each(node):
            text = ast.unparse(node)
            yield _site(slot, around, f"without {name}: {text}"[:120], new)


def _without_each(node: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(node, ast.Dict):
        for index, (key, value) in enumerate(zip(node.keys, node.values, strict=True)):
            keys, values = list(node.keys), list(node.values)
            del keys[index], values[index]
            yield ast.unparse(key or value), ast.Dict(keys=keys, values=values)
    elif isinstance(node, ast.Set | ast.List | ast.Tuple):
        for index, lost in enumerate(node.elts):
            yield ast.unparse(lost), _less(node, index)


def _less(node: ast.expr, index: int) -> ast.expr:
    if not isinstance(node, ast.Set | ast.List | ast.Tuple):
        raise TypeError(f"expected a display, saw {type(node).__name__}")
    kept = copy.copy(node)
    kept.elts = node.elts[:index] + node.elts[index + 1 :]
    if isinstance(kept, ast.Set) and not kept.elts:
        return ast.Call(func=ast.Name("set", ast.Load()), args=[], keywords=[])
    return kept


def _fresh(node: ast.expr) -> ast.expr:
    """A node of its own, so that giving it a place moves no other."""
    return copy.copy(node)


# --- tables of a module --------------------------------------------------------------------------


def _constant(node: ast.Assign | ast.AnnAssign, around: _Around) -> Iterator[Site]:
    target = node.targets[0] if isinstance(node, ast.Assign) else node.target
    if not isinstance(target, ast.Name) or target.id.startswith("__") or node.value is None:
        return
    name = ".".join((*around.classes, target.id))
    for slot, new, lost in _smaller(node, "value", None, node.value):
        yield Site(
            path=around.path,
            line=getattr(lost, "lineno", node.lineno),
            change=f"without {ast.unparse(lost)}"[:200],
            edit=slot.edit(new),
            tree=around.tree,
            constant=name,
        )
    if _BITS.search(target.id):
        yield from _bits(node, name, around)


def _smaller(
    parent: ast.AST, name: str, index: int | None, node: ast.expr
) -> Iterator[tuple[_Slot, ast.AST, ast.AST]]:
    """Yield the table at a place with each entry left out; a pattern with everything let in."""
    slot = _Slot(node=node, parent=parent, name=name, index=index)
    if isinstance(node, ast.Dict):
        for place, (key, (_, new)) in enumerate(zip(node.keys, _without_each(node), strict=True)):
            yield slot, new, key or node.values[place]
    elif isinstance(node, ast.Set | ast.List | ast.Tuple):
        for place, (_, new) in enumerate(_without_each(node)):
            yield slot, new, node.elts[place]
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        yield slot, _fresh(node.left), node.right
        yield slot, _fresh(node.right), node.left
    elif _called(node) == "frozenset" and isinstance(node, ast.Call) and node.args:
        yield from _smaller(node, "args", 0, node.args[0])
    elif _called(node) == "compile" and isinstance(node, ast.Call):
        first = node.args[0]
        while isinstance(first, ast.BinOp):
            first = first.left
        octets = isinstance(first, ast.Constant) and isinstance(first.value, bytes)
        anything = ast.Constant(b"(?s:.*)" if octets else "(?s:.*)")
        yield slot, ast.Call(func=node.func, args=[anything], keywords=[]), node


def _bits(node: ast.Assign | ast.AnnAssign, name: str, around: _Around) -> Iterator[Site]:
    """Every bit of every mask in a table of bits, let through."""
    for parent in ast.walk(node):
        for slot in _slots(parent):
            value = slot.node.value if isinstance(slot.node, ast.Constant) else None
            if not isinstance(value, int) or isinstance(value, bool):
                continue
            for bit in range(value.bit_length()):
                if value >> bit & 1:
                    yield Site(
                        path=around.path,
                        line=getattr(slot.node, "lineno", node.lineno),
                        change=f"without bit {bit} of {value:#x}",
                        edit=slot.edit(ast.Constant(value & ~(1 << bit))),
                        tree=around.tree,
                        constant=name,
                    )
