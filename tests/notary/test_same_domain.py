"""Every quote of a boot shows the trust domain and the platform of its boot quote."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from attestation.errors import UnavailableError
from attestation.tdx.quote import Quote, canonical_quote, parse_quote
from gateway.attester.simulated.facts import Domain, Machine
from gateway.attester.simulated.platform import SimulatedPlatform
from gateway.notary.boot import require_same_domain

NOW = 1_763_668_800
HOME = SimulatedPlatform(now=NOW, seed=bytes(32))


def quote(platform: SimulatedPlatform, report_data: bytes = bytes(64)) -> Quote:
    return parse_quote(canonical_quote(platform.quote(report_data)))


def other_registers(index: int) -> dict[str, Any]:
    registers = list(Domain().rtmrs)
    registers[index] = b"\x01" * 48
    return {"rtmrs": tuple(registers)}


def test_quote_over_other_report_data_is_of_the_same_domain() -> None:
    require_same_domain(quote(HOME, b"\x01" * 64), quote(HOME))


@pytest.mark.parametrize(
    "change",
    [
        {"mrtd": b"\x01" * 48},
        *(other_registers(index) for index in range(4)),
        {"td_attributes": Domain().td_attributes | 1 << 63},
        {"xfam": Domain().xfam ^ 0x200},
        {"mr_config_id": b"\x01" * 48},
        {"mr_owner": b"\x01" * 48},
        {"mr_owner_config": b"\x01" * 48},
    ],
)
def test_quote_of_another_domain_ends_the_boot(change: dict[str, Any]) -> None:
    elsewhere = HOME.but(domain=replace(Domain(), **change))
    with pytest.raises(UnavailableError) as refusal:
        require_same_domain(quote(elsewhere), quote(HOME))
    assert refusal.value.code == "td_changed"


@pytest.mark.parametrize("change", [{"ppid": b"\x01" * 16}, {"piid": b"\x01" * 16}])
def test_quote_of_another_platform_ends_the_boot(change: dict[str, Any]) -> None:
    moved = HOME.but(machine=replace(Machine(), **change))
    with pytest.raises(UnavailableError) as refusal:
        require_same_domain(quote(moved), quote(HOME))
    assert refusal.value.code == "td_changed"
