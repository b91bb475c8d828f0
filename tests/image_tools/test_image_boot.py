"""What a boot may differ in from its prediction: the host's events, each by name, no others."""

from __future__ import annotations

from typing import Any

import pytest
from image_boot import HOST_EVENTS, refuse_unexplained
from image_files import ImageError

REGISTERS = ("pcr1", "pcr2", "pcr4", "pcr5", "pcr7", "pcr9", "pcr11")


def event(match: str, name: str, derivation: str) -> dict[str, Any]:
    return {"match": match, "name": name, "derivation": derivation}


def comparison() -> dict[str, Any]:
    registers = [
        {"name": name, "events": [event("same", "separator", "computed")]} for name in REGISTERS
    ]
    registers[0]["events"] = [event("filled", name, "unknown") for name in HOST_EVENTS]
    return {
        "exit_code": 12,
        "not_predicted": ["pcr0"],
        "not_logged": [],
        "registers": registers,
    }


def test_host_events_of_pcr_1_and_pcr_0_are_what_may_be_open() -> None:
    refuse_unexplained(comparison())


@pytest.mark.parametrize(
    ("at", "replaced"),
    [
        (0, [event("filled", name, "unknown") for name in HOST_EVENTS[1:]]),
        (0, [event("filled", name, "unknown") for name in (*HOST_EVENTS, HOST_EVENTS[-1])]),
        (0, [event("same", name, "observed") for name in HOST_EVENTS]),
        (1, [event("extra", "EV_IPL", "unknown")]),
        (2, [event("missing", "UKI digest", "computed")]),
        (4, [event("filled", "image authority", "unknown")]),
        (5, [event("same", "initrd", "observed")]),
    ],
)
def test_any_other_event_that_was_not_predicted_is_refused(
    at: int, replaced: list[dict[str, Any]]
) -> None:
    document = comparison()
    document["registers"][at]["events"] = replaced
    with pytest.raises(ImageError, match="of PCR 0 alone no prediction"):
        refuse_unexplained(document)


@pytest.mark.parametrize(
    "change",
    [
        {"exit_code": 0},
        {"exit_code": 10},
        {"not_predicted": ["pcr0", "pcr12"]},
        {"not_predicted": []},
        {"not_logged": ["pcr9"]},
    ],
)
def test_registers_that_nobody_predicted_or_logged_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ImageError, match="exit code"):
        refuse_unexplained(comparison() | change)


@pytest.mark.parametrize("name", ["pcr4", "pcr5", "pcr9", "pcr11"])
def test_register_of_the_image_that_was_not_compared_is_refused(name: str) -> None:
    document = comparison()
    document["registers"] = [one for one in document["registers"] if one["name"] != name]
    with pytest.raises(ImageError, match=name):
        refuse_unexplained(document)
