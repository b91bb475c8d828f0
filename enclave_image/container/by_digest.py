"""Refuse to build on an image that is not named by its digest: tags move."""

from __future__ import annotations

import os
import re
import sys

_BY_DIGEST = re.compile(r"[a-z0-9][a-z0-9._/:-]*@sha256:[0-9a-f]{64}")


def main() -> int:
    """0 if PYTHON_IMAGE ends in a digest and this is the Python that the wheels are for."""
    image = os.environ.get("PYTHON_IMAGE", "")
    if not _BY_DIGEST.fullmatch(image):
        print(f"PYTHON_IMAGE: expected NAME@sha256:<64 hex digits>, seen {image!a}")
        return 1
    seen = sys.version.split()[0]
    if not seen.startswith("3.13."):
        print(f"PYTHON_IMAGE: expected CPython 3.13, seen {seen}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
