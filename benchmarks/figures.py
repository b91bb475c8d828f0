"""Figures as they are kept and shown: JSON in `benchmarks/results`, a table on standard output."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def latencies(seconds: Sequence[float]) -> dict[str, float]:
    """Return median, 99th percentile and maximum in milliseconds."""
    ordered = sorted(seconds)

    def at(share: float) -> float:
        return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000, 3)

    return {"p50_ms": at(0.5), "p99_ms": at(0.99), "max_ms": at(1.0)}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return rows with the same members as aligned columns under their names."""
    names = list(rows[0])
    cells = [names, *([f"{row[name]}" for name in names] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(names))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in cells
    )


def publish(document: dict[str, Any], rows: Sequence[dict[str, Any]], out: Path | None) -> None:
    """Print the document and its table; keep the document in the file `out`, if one is named."""
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    print(text)
    print(table(rows))
    if out is not None:
        out.write_text(text, encoding="utf-8")
