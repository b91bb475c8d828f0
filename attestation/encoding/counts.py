"""Numbers of things, as people write them."""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """Return a number of things: "1 receipt", "2 receipts"."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def leaves(count: int) -> str:
    """Return a number of leaves of a log: "1 leaf", "2 leaves"."""
    return f"{count} {'leaf' if count == 1 else 'leaves'}"


def are(count: int) -> str:
    """Return the verb of a number of things."""
    return "is" if count == 1 else "are"


def were(count: int) -> str:
    """Return the verb of a number of things that lies behind."""
    return "was" if count == 1 else "were"
