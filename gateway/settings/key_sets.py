"""Files of issuers' keys become part of the settings when these are read.

So the keys are measured, not the name of a file, every process has the same ones, and a file
that changes later changes nothing until the gateway starts again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from attestation.errors import AttestationError, UsageError
from gateway.access.key_sets import load_key_set

_FILE: Final = "jwks_file"


def anchor_key_sets(values: dict[str, Any], folder: Path) -> None:
    """Make the file names of issuers in a settings file relative to its folder."""
    for issuer in _issuers(values):
        if isinstance(issuer.get(_FILE), str):
            issuer[_FILE] = str(folder / issuer[_FILE])


def read_key_sets(values: dict[str, Any]) -> None:
    """Put the text of each `jwks_file` into `jwks`.  Raises `UsageError` naming the issuer."""
    for number, issuer in enumerate(_issuers(values)):
        if not isinstance(issuer.get(_FILE), str):
            continue
        if "jwks" in issuer:
            raise UsageError(
                f"access.issuers.{number} has both jwks and jwks_file",
                code="config",
                expected="its keys in one place",
            )
        try:
            issuer["jwks"] = load_key_set(Path(issuer.pop(_FILE)))
        except AttestationError as error:
            raise UsageError(
                f"access.issuers.{number}: {error.message}",
                code="config",
                expected=error.expected,
                observed=error.observed,
                hint=error.hint,
            ) from error


def _issuers(values: dict[str, Any]) -> list[dict[str, Any]]:
    access = values.get("access")
    issuers = access.get("issuers") if isinstance(access, dict) else None
    listed = issuers if isinstance(issuers, (list, tuple)) else ()
    return [issuer for issuer in listed if isinstance(issuer, dict)]
