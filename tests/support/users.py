"""Processes of other users, where tests run as root, and an interpreter that these may start."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvloop

ROOT = Path(__file__).parents[2]
LIBRARIES = Path(uvloop.__file__).parents[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Users:
    """Three users, the gateway's in the notary's group; without root, one user for all."""

    notary: int
    gateway: int
    stranger: int
    python: str

    @property
    def several(self) -> bool:
        return self.notary != self.gateway

    def need_several(self) -> None:
        if not self.several:
            pytest.skip("not root: processes of other users cannot be started")

    def options(self, user: int) -> dict[str, Any]:
        """What `subprocess` needs to run `python` as this user, and with this source."""
        variables = {
            "PATH": "/usr/bin:/bin",
            "LANG": "C",
            "PYTHONPATH": f"{ROOT}:{LIBRARIES}",
            "PYTHONSAFEPATH": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        # As in the image: the gateway is in the notary's group, which may connect to its socket.
        groups = [self.notary] if user == self.gateway else []
        other = {"user": user, "group": user, "extra_groups": groups} if self.several else {}
        return {"cwd": "/", "env": variables, "stdin": subprocess.DEVNULL, **other}

    def ask(self, user: int, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a few lines of Python as this user."""
        return subprocess.run(
            [self.python, "-c", program, *arguments],
            **self.options(user),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


def find_users() -> Users:
    """Three users; skips where root's own interpreter is the only one."""
    own = os.geteuid()
    if own != 0:
        return Users(notary=own, gateway=own, stranger=own, python=sys.executable)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for python in (sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}"):
        users = Users(notary=61_001, gateway=61_002, stranger=61_003, python=python)
        try:
            done = users.ask(users.stranger, "import uvloop, pydantic, gateway.cli.main")
        except OSError:
            continue
        if done.returncode == 0:
            return users
    pytest.skip("no interpreter and libraries that another user may read")
