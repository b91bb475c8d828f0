"""The GPU image on a machine that has no GPU: it has to end, and its port must never open."""

from __future__ import annotations

import re
import socket
import time
from typing import Protocol

from image_files import ImageError

# What may end this machine, as the console says it; each of them is before engine and gateway.
REFUSED = (
    b"nvidia-persistenced.service: Failed with result",
    b"attested-gpu-evidence.service: Failed with result",
    b"attested-gpu.service: Failed with result",
)
OPEN = (b"Started attested-gateway.service", b"Started vllm.service")
_TOLD = ("nvrm", "nvidia", "judge-gpus", "attested-gpu")
_COLOURS = re.compile(r"\x1b\[[0-9;:]*m")
_EVERY = 2.0  # seconds between two looks at the port


class Guest(Protocol):
    """What of a machine is looked at here."""

    def console(self) -> bytes: ...

    def wait_ended(self, seconds: float) -> bool: ...

    @property
    def port(self) -> int: ...


def answers(port: int) -> bool:
    """Whether the guest answers: QEMU itself takes every connection, and then closes it."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.settimeout(2)
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return bool(connection.recv(1))
    except OSError:
        return False


def require_closed(machine: Guest, seconds: float) -> str:
    """The machine powers itself off within `seconds`, and until then answers nobody.

    Returns what the console says of it; `ImageError` if it went otherwise.
    """
    begun = time.monotonic()
    while not machine.wait_ended(_EVERY):
        if answers(machine.port):
            raise ImageError("expected a closed port where there is no GPU, but something answers")
        if time.monotonic() - begun > seconds:
            tail = machine.console()[-3000:].decode(errors="replace")
            raise ImageError(f"expected the machine to end, but it runs; console:\n{tail}")
    return require_refused(machine.console())


def require_refused(console: bytes) -> str:
    """What the console of a machine that ended says of its GPU; `ImageError` if nothing."""
    opened = [text.decode() for text in OPEN if text in console]
    failed = [text for text in REFUSED if text in console]
    if opened or not failed:
        tail = console[-3000:].decode(errors="replace")
        raise ImageError(
            f"expected a unit of the GPU's to fail and no engine or gateway, seen {opened}; "
            f"console:\n{tail}"
        )
    lines = _COLOURS.sub("", console.decode(errors="replace")).splitlines()
    told = [line.strip() for line in lines if any(name in line.lower() for name in _TOLD)]
    unit = failed[0].partition(b":")[0].decode()
    return "\n".join((*told, f"no GPU: {unit} failed, the machine ended, its port never answered"))
