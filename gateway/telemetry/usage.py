"""What this process takes of its machine, as counts like all others (Linux's proc(5))."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from gateway.telemetry.edge import Snapshot

Role = Literal["gateway", "notary", "supervisor", "worker"]
_SELF: Final = Path("/proc/self")
_RESIDENT: Final = 1  # the second field of statm, in pages


def usage(role: Role, proc: Path = _SELF) -> Snapshot:
    """Return processor time, resident memory and open descriptors of this process.

    What `proc` does not tell is left out, rather than shown as 0.
    """
    found: Snapshot = {"attested_process_cpu_seconds": [[[role], time.process_time()]]}
    try:
        pages = int((proc / "statm").read_text("ascii").split()[_RESIDENT])
        # The listing itself holds one descriptor, which is not counted.
        descriptors = len(os.listdir(proc / "fd")) - 1  # noqa: PTH208 - no Path per descriptor
    except (OSError, ValueError, IndexError):
        return found
    return found | {
        "attested_process_resident_bytes": [[[role], pages * os.sysconf("SC_PAGE_SIZE")]],
        "attested_process_open_descriptors": [[[role], descriptors]],
    }
