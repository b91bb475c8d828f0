"""The auditor: the verifier in a process of its own, which sees files and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attestation.errors import UnavailableError

if TYPE_CHECKING:
    from pathlib import Path

_SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What one run of `attested verify` said, as of the instant `at` (Unix seconds).

    `command` is what to type in the demo's folder; `failing` are lines about failed checks.
    """

    command: str
    at: int
    exit_code: int
    verdict: str
    passed: int
    failing: tuple[str, ...]
    not_proved: tuple[str, ...]


def audit(folder: Path, *arguments: str) -> Audit:
    """Run `attested verify` with these arguments inside `folder`."""
    process = subprocess.run(  # noqa: S603 - this very interpreter, our own module
        [sys.executable, "-P", "-m", "attestation.cli.main", "verify", *arguments, "--json"],
        cwd=folder,
        capture_output=True,
        timeout=_SECONDS,
        check=False,
    )
    try:
        document = json.loads(process.stdout)
    except ValueError:
        raise UnavailableError(
            "the verifier's process gave no result",
            code="demo",
            observed=f"exit code {process.returncode}",
            hint="run the command by hand: attested verify " + " ".join(arguments),
        ) from None
    checks = document["checks"]
    return Audit(
        command="attested verify " + " ".join(arguments),
        at=document["at"],
        exit_code=process.returncode,
        verdict=document["verdict"],
        passed=sum(check["status"] == "pass" for check in checks),
        failing=tuple(_failure(check) for check in checks if check["status"] == "fail"),
        not_proved=tuple(document["not_proved"]),
    )


def _failure(check: dict[str, str]) -> str:
    return f"{check['id']}: {check['reason']}"
