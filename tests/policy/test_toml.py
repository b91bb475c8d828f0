"""Writing TOML: every value reads back as it was."""

from __future__ import annotations

import datetime as dt
import tomllib

import pytest

from attestation.errors import UsageError
from attestation.policy.toml import toml_pair


def test_instant_reads_back_in_utc() -> None:
    moment = dt.datetime(2026, 12, 31, 23, 30, tzinfo=dt.timezone(dt.timedelta(hours=-2)))
    text = toml_pair("until", [{"at": moment}])
    assert text == "until = [{at = 2027-01-01T01:30:00Z}]"
    assert tomllib.loads(text) == {"until": [{"at": moment}]}


def test_instant_without_an_offset_has_no_form() -> None:
    with pytest.raises(UsageError):
        toml_pair("until", dt.datetime(2026, 12, 31))  # noqa: DTZ001 - what is refused
