"""The folder that the commands are called on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.support import Folder


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)
