"""Choosing a quote provider by URI, and the rule that simulation never shadows hardware."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from attestation.errors import UnavailableError, UsageError
from attestation.tdx.dcap import verify_quote
from attestation.tdx.quote import parse_quote
from gateway.attester.base import QuoteProvider, open_provider
from gateway.attester.simulated.provider import RealDevices, SimulatedProvider, open_simulated
from tests.refusals import refusal

NOW = 1_760_000_000
SEED = "00" * 16


def clock() -> float:
    return NOW + 0.5


def devices(folder: Path, *nodes: str) -> RealDevices:
    return RealDevices(
        nodes=tuple(folder / node for node in nodes),
        tsm_reports=folder / "report",
        cpu=folder / "cpuinfo",
    )


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., SimulatedProvider]:
    """Open `simulated:` with options on a machine without a device."""

    def build(address: str = "", **options: str) -> SimulatedProvider:
        return open_simulated(address, options, clock, devices=devices(tmp_path, "tdx_guest"))

    return build


@pytest.fixture
def no_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let `open_provider` look for devices in an empty folder, wherever the tests run."""
    module = "gateway.attester.simulated.provider.RealDevices"
    monkeypatch.setattr(module, lambda: devices(tmp_path))


@pytest.mark.usefixtures("no_device")
def test_simulated_uri_opens_the_simulator_with_its_options() -> None:
    provider: QuoteProvider = open_provider("simulated:?version=5&rtmr3=off", clock=clock)
    assert provider.name == "simulated"
    assert provider.can_extend_rtmr3 is False
    assert parse_quote(provider.quote(bytes(64))).version == 5


@pytest.mark.usefixtures("no_device")
def test_quote_of_an_opened_provider_verifies_under_its_own_root_and_collateral() -> None:
    provider = open_provider("simulated:", clock=clock)
    anchor, collateral = provider.anchor(), provider.collateral()
    assert anchor is not None
    assert collateral is not None
    genuine = verify_quote(parse_quote(provider.quote(bytes(64))), collateral, NOW, anchor)
    assert (genuine.tcb_status, genuine.trust_domain) == ("UpToDate", "simulated")


@pytest.mark.parametrize(
    "uri", ["", "simulated", "Simulated:", "tdx:", "configfs-tsm", ":simulated", "file:/etc/passwd"]
)
def test_unknown_scheme_is_a_usage_error(uri: str) -> None:
    assert refusal(open_provider, uri, error=UsageError) == "provider"


@pytest.mark.parametrize("scheme", ["configfs-tsm", "vsock-qgs"])
def test_option_that_a_real_provider_does_not_know_is_a_usage_error(scheme: str) -> None:
    assert refusal(open_provider, f"{scheme}:?x=y", error=UsageError) == "provider"


def test_configfs_provider_on_a_machine_without_it_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError) as caught:
        open_provider(f"configfs-tsm:{tmp_path}/config/tsm/report")
    assert caught.value.code == "tsm_missing"
    assert f"no {tmp_path}/config" in caught.value.observed
    assert "modprobe configfs" in caught.value.hint


def test_vsock_provider_on_a_machine_without_a_device_says_so(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError) as caught:
        open_provider(f"vsock-qgs:?device={tmp_path}/tdx_guest")
    assert caught.value.code == "tdx_device"
    assert "ENOENT" in caught.value.observed
    assert "modprobe tdx_guest" in caught.value.hint


def test_option_given_twice_is_a_usage_error() -> None:
    code = refusal(open_provider, "simulated:?version=4&version=5", error=UsageError)
    assert code == "provider"


@pytest.mark.parametrize(
    "options",
    [
        {"colour": "red"},
        {"version": "3"},
        {"version": ""},
        {"rtmr3": "yes"},
        {"latency": "-1"},
        {"latency": "nan"},
        {"latency": "60.001"},
        {"latency": "1e1"},
        {"failure_rate": "1.01"},
        {"failure_rate": "-0.1"},
        {"failure_rate": "half"},
        {"hang_rate": ""},
        {"failure_rate": "0.6", "hang_rate": "0.5"},
        {"hang": "3601"},
        {"hang": "inf"},
        {"faults": "none"},
        {"seed": "00" * 15},
        {"seed": "0" * 33},
        {"seed": "00" * 65},
        {"seed": "XX" * 16},
        {"tcb_status": "Revoked"},
        {"tcb_status": ""},
    ],
)
def test_option_out_of_bounds_is_a_usage_error(
    opened: Callable[..., SimulatedProvider], options: dict[str, str]
) -> None:
    assert refusal(opened, error=UsageError, **options) == "provider"


def test_address_is_a_usage_error(opened: Callable[..., SimulatedProvider]) -> None:
    assert refusal(opened, "somewhere", error=UsageError) == "provider"


def test_seed_is_not_repeated_in_a_message(opened: Callable[..., SimulatedProvider]) -> None:
    with pytest.raises(UsageError) as caught:
        opened(seed="c0ffee" * 5 + "x")
    assert "c0ffee" not in str(caught.value)


def test_seed_makes_two_providers_equal(opened: Callable[..., SimulatedProvider]) -> None:
    first, second = opened(seed=SEED), opened(seed=SEED)
    assert first.quote(bytes(64)) == second.quote(bytes(64))
    assert first.collateral() == second.collateral()
    assert opened().quote(bytes(64)) != opened().quote(bytes(64))
    assert opened(seed="01" * 16).anchor() != first.anchor()


@pytest.mark.parametrize("status", ["OutOfDate", "SWHardeningNeeded"])
def test_status_of_the_platform_can_be_chosen(
    opened: Callable[..., SimulatedProvider], status: str
) -> None:
    provider = opened(tcb_status=status)
    quote = parse_quote(provider.quote(bytes(64)))
    genuine = verify_quote(quote, provider.collateral(), NOW, provider.anchor())
    assert genuine.tcb_status == status


@pytest.mark.parametrize("node", ["tdx_guest", "tdx-guest"])
def test_simulation_refuses_to_start_beside_a_device_node(tmp_path: Path, node: str) -> None:
    (tmp_path / node).touch()
    found = devices(tmp_path, "tdx_guest", "tdx-guest")
    with pytest.raises(UnavailableError) as caught:
        open_simulated("", {}, clock, devices=found)
    assert caught.value.code == "real_device"
    assert caught.value.observed == str(tmp_path / node)
    assert "configfs-tsm:" in caught.value.hint


@pytest.mark.parametrize(("provider", "real"), [("tdx_guest\n", True), ("sev_guest\n", False)])
def test_simulation_refuses_to_start_beside_a_tsm_report_of_tdx(
    tmp_path: Path, provider: str, real: bool
) -> None:
    (tmp_path / "report" / "one").mkdir(parents=True)
    (tmp_path / "report" / "one" / "provider").write_text(provider)
    found = devices(tmp_path).found()
    assert (found is not None) is real


@pytest.mark.parametrize(
    ("flags", "real"),
    [("fpu sse2 tdx_guest hypervisor", True), ("fpu sse2 xtdx_guest tdx_guestx", False)],
)
def test_simulation_refuses_to_start_on_a_processor_in_tdx_mode_without_a_driver(
    tmp_path: Path, flags: str, real: bool
) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\n")
    assert (devices(tmp_path).found() is not None) is real


def test_report_entry_that_goes_away_while_devices_are_looked_for_is_no_fault(
    tmp_path: Path,
) -> None:
    (tmp_path / "report" / "one").mkdir(parents=True)
    (tmp_path / "report" / "one" / "provider").symlink_to(tmp_path / "gone")
    assert devices(tmp_path).found() is None


def test_real_devices_are_where_linux_shows_them() -> None:
    real = RealDevices()
    assert [str(node) for node in real.nodes] == [
        "/dev/tdx_guest", "/dev/tdx-guest", "/sys/class/misc/tdx_guest",
    ]  # fmt: skip
    assert str(real.cpu) == "/proc/cpuinfo"
    assert str(real.tsm_reports) == "/sys/kernel/config/tsm/report"
