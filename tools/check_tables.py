"""What can be taken away of a module's constants: entries of tables, bits of masks, patterns."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from check_change import Around, Site, Slot, called, fresh, slots, without_each

_BITS = re.compile(r"BITS|MASK")


def of_constant(node: ast.Assign | ast.AnnAssign, around: Around) -> Iterator[Site]:
    target = node.targets[0] if isinstance(node, ast.Assign) else node.target
    if not isinstance(target, ast.Name) or target.id.startswith("__") or node.value is None:
        return
    if isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation) == "TypeAlias":
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
) -> Iterator[tuple[Slot, ast.AST, ast.AST]]:
    """Yield the table at a place with each entry left out; a pattern with everything let in."""
    slot = Slot(node=node, parent=parent, name=name, index=index)
    if isinstance(node, ast.Dict):
        for place, (key, (_, new)) in enumerate(zip(node.keys, without_each(node), strict=True)):
            yield slot, new, key or node.values[place]
    elif isinstance(node, ast.Set | ast.List | ast.Tuple):
        for place, (_, new) in enumerate(without_each(node)):
            yield slot, new, node.elts[place]
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        yield slot, fresh(node.left), node.right
        yield slot, fresh(node.right), node.left
    elif called(node) == "frozenset" and isinstance(node, ast.Call) and node.args:
        yield from _smaller(node, "args", 0, node.args[0])
    elif called(node) == "compile" and isinstance(node, ast.Call):
        first = node.args[0]
        while isinstance(first, ast.BinOp):
            first = first.left
        octets = isinstance(first, ast.Constant) and isinstance(first.value, bytes)
        anything = ast.Constant(b"(?s:.*)" if octets else "(?s:.*)")
        yield slot, ast.Call(func=node.func, args=[anything], keywords=[]), node


def _bits(node: ast.Assign | ast.AnnAssign, name: str, around: Around) -> Iterator[Site]:
    """Every bit of every mask in a table of bits, let through."""
    for parent in ast.walk(node):
        for slot in slots(parent):
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
