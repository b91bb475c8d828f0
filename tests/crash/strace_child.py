"""A notary's life in a process of its own, for strace to break: promises go to standard output.

    python -m tests.crash.strace_child FOLDER SEED

The boot seed is given, so that the names of its files are known before it starts.  Exit 0 after
an orderly end, 3 if the start was refused, 4 if the boot ended by itself.
"""

from __future__ import annotations

import base64
import json
import os
import pickle
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from attestation.errors import UnavailableError
from gateway.attester.base import open_provider
from gateway.errors import NotaryUnavailable
from gateway.notary.boot import BootSecrets
from gateway.notary.files import FileLayer
from tests.crash.life import parts_of, without_loop

REFUSED, ENDED = 3, 4


def main() -> int:
    """Live once."""
    folder, seed = Path(sys.argv[1]), bytes.fromhex(sys.argv[2])
    draw = BootSecrets.draw
    BootSecrets.draw = lambda: replace(draw(), bootseed=seed)  # type: ignore[method-assign]
    ended: list[str] = []
    parts = parts_of(folder, FileLayer(), open_provider("simulated:"), on_end=ended.append)
    try:
        without_loop(parts, promise)
    except UnavailableError as error:
        tell({"kind": "refused", "code": error.code})
        return REFUSED
    except NotaryUnavailable:
        pass
    tell({"kind": "end", "reason": ended[0]})
    return 0 if ended == ["closed"] else ENDED


def promise(kind: str, value: Any) -> None:
    """Something was released."""
    tell({"kind": "promise", "data": base64.b64encode(pickle.dumps((kind, value))).decode()})


def tell(document: dict[str, str]) -> None:
    """Tell the parent, in one write: a line that is there was told before what came next."""
    os.write(1, (json.dumps(document) + "\n").encode())


if __name__ == "__main__":
    sys.exit(main())
