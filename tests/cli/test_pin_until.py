"""`attested pin --until`: an end that no policy could write down."""

from __future__ import annotations

from pathlib import Path

import pytest

from attestation.cli.main import main
from tests.cli.test_pin import BEHIND, on, saved


@pytest.mark.parametrize("end", ["253402300800", "999999999999", "9999-12-31T23:59:59-14:00"])
def test_exceptions_end_before_the_year_10000(
    end: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*saved(tmp_path, on(endorsements=BEHIND)), "--accept-status", "OutOfDate"]
    assert main([*arguments, "--until", end]) == 2
    assert "1970 to 9999" in capsys.readouterr().err
