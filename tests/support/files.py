"""Files of a process that is running."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def contents(folder: Path) -> dict[Path, bytes]:
    """Every file below `folder` with its bytes, but those that were renamed before they were read.

    A notary writes a file beside the one that it takes the place of: what is gone under one name
    is there under the other, which is listed after it or read anew by the next look.
    """
    found = {}
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            if path.is_file():
                found[path] = path.read_bytes()
    return found
