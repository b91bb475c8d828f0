"""Print the test folders that exercise attestation/: one area of the package, one folder.

Those whose name is that of a module or package in attestation/, and `fuzz`, whose targets are its
parsers. Used by the coverage gate and the mutation runs, so that the two agree.
"""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ALSO = ("fuzz",)


def folders(root: Path = ROOT) -> list[str]:
    """Test folders relative to `root`, sorted."""
    areas = {
        entry.stem for entry in (root / "attestation").iterdir() if not entry.name.startswith("_")
    }
    present = (root / "tests").iterdir()
    wanted = areas | set(ALSO)
    return sorted(f"tests/{entry.name}" for entry in present if entry.name in wanted)


if __name__ == "__main__":
    print(*folders())
