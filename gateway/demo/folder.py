"""The folder the demo leaves: what an auditor gets, and copies that somebody has tampered with."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attestation.errors import UsageError
from gateway.client.export import BODIES_NAME, BUNDLE_NAME, write_private

if TYPE_CHECKING:
    from pathlib import Path

MARK = "This folder was left by `attested demo`."
POLICY_NAME = "policy.toml"
ROOT_NAME = "root.pem"
README_NAME = "README.txt"
CASES_NAME = "policy-cases.toml"
TAMPERED_NAME = "tampered"
ANSWER_NAME = "answer"
_FILES = (BUNDLE_NAME, POLICY_NAME, ROOT_NAME, CASES_NAME, README_NAME)
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

    def explain(self, cases: str, text: str) -> None:
        """Put the case file beside the rest, and the README in the place of `prepare`'s mark."""
        write_private(self.path / CASES_NAME, cases.encode())
        (self.path / README_NAME).unlink()
        write_private(self.path / README_NAME, text.encode())


def prepare(path: Path) -> DemoFolder:
    """An empty folder but for its mark: new, or one that an earlier demo left.

    The mark comes first, so that a demo that fails half-way leaves a folder that the next one
    takes.  Raises `UsageError` for a folder that holds anything else (nothing of it is touched)
    and for one that cannot be written.
    """
    try:
        if path.exists():
            _require_ours(path)
            _clear(path)
        (path / TAMPERED_NAME).mkdir(mode=0o700, parents=True)
        write_private(path / README_NAME, f"{MARK}\n\nThe demo did not get to its end.\n".encode())
    except OSError as error:
        raise UsageError(
            f"the folder {path} cannot be made or emptied",
            code="folder",
            expected="a folder that this user may write to",
            observed=error.strerror or "an I/O error",
            hint="name another one with --out",
        ) from error
    return DemoFolder(path=path)


def _clear(path: Path) -> None:
    for name in _FILES:
        (path / name).unlink(missing_ok=True)
    for name in _FOLDERS:
        shutil.rmtree(path / name, ignore_errors=True)


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
