"""The folder the demo leaves: what an auditor gets, and copies that somebody has tampered with."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attestation.errors import UsageError
from gateway.client.export import BODIES_NAME, BUNDLE_NAME

if TYPE_CHECKING:
    from pathlib import Path

MARK = "This folder was left by `attested demo`."
POLICY_NAME = "policy.toml"
ROOT_NAME = "root.pem"
README_NAME = "README.txt"
TAMPERED_NAME = "tampered"
_FILES = (BUNDLE_NAME, POLICY_NAME, ROOT_NAME, README_NAME)
_FOLDERS = (BODIES_NAME, TAMPERED_NAME)


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoFolder:
    """Paths inside the folder."""

    path: Path

    @property
    def tampered(self) -> Path:
        """Where the tampered copies are."""
        return self.path / TAMPERED_NAME

    @property
    def bodies(self) -> Path:
        """Where the exact requests and answers are."""
        return self.path / BODIES_NAME


def prepare(path: Path) -> DemoFolder:
    """An empty folder: new, or one that an earlier demo left.

    Raises `UsageError` for a folder that holds anything else: nothing of it is touched.
    """
    if path.exists():
        _require_ours(path)
        for name in _FILES:
            (path / name).unlink(missing_ok=True)
        for name in _FOLDERS:
            shutil.rmtree(path / name, ignore_errors=True)
    (path / TAMPERED_NAME).mkdir(mode=0o700, parents=True)
    return DemoFolder(path=path)


def _require_ours(path: Path) -> None:
    readme = path / README_NAME
    is_empty = path.is_dir() and not any(path.iterdir())
    if is_empty or (readme.is_file() and readme.read_text("utf-8").startswith(MARK)):
        return
    raise UsageError(
        f"{path} exists and is not a folder of an earlier demo",
        code="exists",
        expected="a new or empty folder, or one that `attested demo` left",
        hint="name another one with --out",
    )
