"""What a process that is a service of its own tells systemd (sd_notify(3), without the library)."""

from __future__ import annotations

import os
import socket
from typing import Final

_VARIABLE: Final = "NOTIFY_SOCKET"


def tell_ready() -> None:
    """Say that whoever is ordered behind this service may start; nothing where nobody asks.

    A manager that does not take the message ends the service for its silence, so that is not
    told here a second time.
    """
    address = os.environ.get(_VARIABLE, "")
    if not address.startswith(("/", "@")):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        try:
            sock.sendto(b"READY=1", "\0" + address[1:] if address[0] == "@" else address)
        except OSError:
            return
