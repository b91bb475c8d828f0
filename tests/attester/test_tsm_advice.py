"""What is told of the kernel where configfs gives no quote."""

from __future__ import annotations

import pytest

from gateway.attester.tsm_advice import _version


@pytest.mark.parametrize(
    ("release", "version"),
    [
        ("6.7.0-amd64", (6, 7)),
        ("6.10-rc1", (6, 10)),
        ("5.4", (5, 4)),
        ("", (0, 0)),
        ("linux", (0, 0)),
        ("6", (0, 0)),
        ("\u0666.\u0667", (0, 0)),
        ("\u00b2.1", (0, 0)),
        ("6." + "9" * 5000, (0, 0)),
    ],
)
def test_release_of_a_kernel_is_read_in_ascii_digits(
    release: str, version: tuple[int, int]
) -> None:
    assert _version(release) == version
