"""What can be taken away in a function: refusals, branches, operands, members, bounds, entries."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import replace

from check_change import Around, Site, Slot, called, fresh, less, lines_of, without_each

REFUSING = {"rejected", "not_accepted", "refused", "lacking", "skipped", "contradicted"}
SAYING = {"passed", "info"}
_BOUNDS = {
    "pattern", "choices", "length", "minimum", "maximum", "max_items", "max_chars", "max_bytes",
}  # fmt: skip


def _site(slot: Slot, around: Around, words: str, new: ast.AST, **more: object) -> Site:
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


def of_statement(slot: Slot, around: Around) -> Iterator[Site]:
    node = slot.node
    if not isinstance(node, ast.stmt) or not around.function:
        return
    around = replace(around, lines=lines_of(node))
    text = ast.unparse(node).splitlines()[0]
    if isinstance(node, ast.Raise):
        yield _site(slot, around, f"not raised: {text}", ast.Pass())
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        if called(node.value) not in SAYING:
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


def _branch(node: ast.If, around: Around) -> Iterator[Site]:
    inside = frozenset().union(*(lines_of(one) for one in node.body[:1]))
    place = Slot(node=node.test, parent=node, name="test", index=None)
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
        isinstance(inner, ast.Raise) or called(inner) in REFUSING for inner in ast.walk(node)
    )


def _answer(slot: Slot, node: ast.Return, around: Around) -> Iterator[Site]:
    value = node.value
    if value is None:
        return
    text = ast.unparse(node)
    if called(value).endswith("Complaint"):
        yield _site(slot, around, f"no complaint: {text}", ast.Return(ast.Constant(None)))
    if around.answers:
        for answer in (True, False):
            if not (isinstance(value, ast.Constant) and value.value is answer):
                new = ast.Return(ast.Constant(answer))
                yield _site(slot, around, f"always {answer}: {text}", new)


def of_expression(slot: Slot, around: Around) -> Iterator[Site]:
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


def _operands(slot: Slot, node: ast.BoolOp, around: Around) -> Iterator[Site]:
    if isinstance(node.op, ast.Or) and _is_default(node.values[-1]):
        return
    triggers = around.lines
    if isinstance(node.op, ast.Or) and isinstance(slot.parent, ast.If):
        triggers = frozenset().union(*(lines_of(one) for one in slot.parent.body[:1]))
    for index, lost in enumerate(node.values):
        kept = [value for place, value in enumerate(node.values) if place != index]
        new = kept[0] if len(kept) == 1 else ast.BoolOp(op=node.op, values=kept)
        words = f"without {ast.unparse(lost)}: {ast.unparse(node)}"
        yield _site(slot, around, words, fresh(new), triggers=triggers)


def _is_default(node: ast.expr) -> bool:
    """The last operand of `x or ""`, which stands for a value that is not there."""
    return isinstance(node, ast.Constant) or (
        isinstance(node, ast.Tuple | ast.List) and not node.elts
    )


def _comparison(slot: Slot, node: ast.Compare, around: Around) -> Iterator[Site]:
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
                left=less(left, index), ops=node.ops, comparators=[less(right, index)]
            )
            yield _site(slot, around, f"without {ast.unparse(lost)}: {text}", kept)
    elif isinstance(right, ast.Tuple) and len(right.elts) > 1:
        for index, lost in enumerate(right.elts):
            kept = ast.Compare(left=left, ops=node.ops, comparators=[less(right, index)])
            yield _site(slot, around, f"without {ast.unparse(lost)}: {text}", kept)


def _filters(node: ast.comprehension, around: Around) -> Iterator[Site]:
    for index, test in enumerate(node.ifs):
        place = Slot(node=test, parent=node, name="ifs", index=index)
        for word, answer in (("never", False), ("always", True)):
            words = f"{word}: … if {ast.unparse(test)}"
            yield _site(place, around, words, ast.Constant(answer))


def _choice(slot: Slot, node: ast.IfExp, around: Around) -> Iterator[Site]:
    if all(isinstance(arm, ast.Constant | ast.JoinedStr) for arm in (node.body, node.orelse)):
        return
    for word, arm in (("always", node.body), ("never", node.orelse)):
        words = f"{word}: {ast.unparse(node)}"
        yield _site(slot, around, words, fresh(arm))


def _bounds(slot: Slot, node: ast.Call, around: Around) -> Iterator[Site]:
    for index, keyword in enumerate(node.keywords):
        if keyword.arg in _BOUNDS:
            kept = [one for place, one in enumerate(node.keywords) if place != index]
            new = ast.Call(func=node.func, args=node.args, keywords=kept)
            words = f"without {ast.unparse(keyword)}: {ast.unparse(node)}"
            yield _site(slot, around, words, new)


def _entries(slot: Slot, node: ast.Dict | ast.Set | ast.List, around: Around) -> Iterator[Site]:
    """Entries of what is compared or collected; a lone one is no choice among several."""
    count = len(node.keys) if isinstance(node, ast.Dict) else len(node.elts)
    if count > 1:
        for name, new in without_each(node):
            text = ast.unparse(node)
            yield _site(slot, around, f"without {name}: {text}"[:120], new)
