"""What paths and hosts in settings have to be."""

from __future__ import annotations

import ipaddress
from pathlib import Path


def is_loopback(host: str) -> bool:
    """Whether connections to this host name or address never leave the machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def require_absolute(path: Path | None) -> Path | None:
    """Refuse a path that would depend on the working directory."""
    if path is not None and not path.is_absolute():
        raise ValueError("expected an absolute path")
    return path
