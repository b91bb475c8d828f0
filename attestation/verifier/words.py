"""How results write values: short enough to read, exact enough to compare."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from attestation.tdx.body import TdReport


def short(value: bytes) -> str:
    """Return the first 16 hex digits of `value`; "all zero" for zeroes."""
    if not any(value):
        return "all zero"
    text = value.hex()
    return text if len(text) <= 16 else f"{text[:16]}…"


def shown(value: object) -> str:
    """Return any value of a comparison: bytes by their beginning, "none" for None."""
    if isinstance(value, bytes):
        return short(value)
    return "none" if value is None else str(value)


def attributes(body: TdReport) -> str:
    """Return TDATTRIBUTES as a word, and by their names what of it is unusual."""
    named = ", ".join(body.unusual_attributes)
    return f"{body.td_attributes:#x}" + (f" ({named})" if named else "")


def gaps(numbers: Iterable[int], first: int, last: int) -> list[tuple[int, int]]:
    """Return the spans of `first` to `last`, ends included, that ascending `numbers` leave out."""
    missing: list[tuple[int, int]] = []
    expected = first
    for number in (*numbers, last + 1):
        if number > expected:
            missing.append((expected, number - 1))
        expected = number + 1
    return missing


def named_spans(ends: Sequence[tuple[int, int]], *, most: int = 8) -> str:
    """Return spans of numbers, both ends included, as text; beyond `most` how many more."""
    texts = [f"{first}" if first == last else f"{first}-{last}" for first, last in ends[:most]]
    if len(ends) > most:
        texts.append(f"and {len(ends) - most} more")
    return ", ".join(texts)
