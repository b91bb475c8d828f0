"""Text for terminals: nothing in it that a terminal could take for a command."""

from __future__ import annotations


def printable(line: str) -> str:
    """Return `line` with control, format and separator characters spelled out as escapes.

    Names in evidence are anyone's choice; a line feed or an escape sequence among them could
    write a verdict of its own.
    """
    if line.isprintable():
        return line
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
