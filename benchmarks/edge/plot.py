"""A plot as SVG: bars on a logarithmic scale, one panel for each figure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

_SVG: Final = "http://www.w3.org/2000/svg"
_WIDTH: Final = 760
_LEFT: Final = 170
_RIGHT: Final = 90
_BAR: Final = 18
_STEP: Final = 26
_TITLE: Final = 44
_STYLE: Final = (
    "text{font:13px system-ui,sans-serif;fill:#57606a}"
    ".t{font-weight:600;font-size:14px}.g{stroke:#8c959f;stroke-opacity:.35}"
    ".o{fill:#1f6feb}.x{fill:#8c959f}"
    "@media(prefers-color-scheme:dark){text{fill:#adbac7}}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """Bars under a title; those whose names are in `marked` stand out."""

    title: str
    unit: str
    bars: tuple[tuple[str, float], ...]
    marked: frozenset[str]

    @property
    def height(self) -> int:
        """Height in pixels."""
        return _TITLE + _STEP * len(self.bars) + 30


def draw(panels: Sequence[Panel]) -> str:
    """Return an SVG document with the panels below each other; values have to be positive."""
    height = sum(panel.height for panel in panels) + 10
    lines = [
        f'<svg xmlns="{_SVG}" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" role="img">',
        f"<style>{_STYLE}</style>",
    ]
    top = 0
    for panel in panels:
        lines += _panel(panel, top)
        top += panel.height
    return "\n".join((*lines, "</svg>")) + "\n"


def _panel(panel: Panel, top: int) -> list[str]:
    values = [value for _, value in panel.bars]
    low = math.floor(math.log10(min(values)) - 0.2)
    high = math.log10(max(values))
    room = _WIDTH - _LEFT - _RIGHT

    def at(value: float) -> float:
        return _LEFT + room * (math.log10(value) - low) / max(high - low, 1e-9)

    below = top + _TITLE + _STEP * len(panel.bars)
    lines = [f'<text class="t" x="8" y="{top + 26}">{escape(panel.title)}</text>']
    for exponent in range(low, math.floor(high) + 1):
        x = at(10.0**exponent)
        lines.append(f'<line class="g" x1="{x:.1f}" x2="{x:.1f}" y1="{top + 38}" y2="{below}"/>')
        label = f"{10.0**exponent:g}"
        lines.append(f'<text x="{x:.1f}" y="{below + 16}" text-anchor="middle">{label}</text>')
    for row, (name, value) in enumerate(panel.bars):
        y = top + _TITLE + _STEP * row
        width = at(value) - _LEFT
        kind = "o" if name in panel.marked else "x"
        lines += [
            f'<text x="{_LEFT - 8}" y="{y + 13}" text-anchor="end">{escape(name)}</text>',
            f'<rect class="{kind}" x="{_LEFT}" y="{y}" width="{width:.1f}" height="{_BAR}"/>',
            f'<text x="{at(value) + 6:.1f}" y="{y + 13}">{value:,.4g} {escape(panel.unit)}</text>',
        ]
    return lines
