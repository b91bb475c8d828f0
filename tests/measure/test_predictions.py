"""Registers out of machines: every event in its place, every digest with its origin."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from attestation.errors import UsageError
from attestation.measure.efivars import GLOBAL, IMAGE_SECURITY, SECURE_BOOT_ENABLE
from attestation.measure.hostpart import ACPI_PARTS_WITH_TPM, LoggedEvent, host_part
from attestation.measure.prediction import Derivation, Prediction, unknown
from tests.measure import builders, independent, machines
from tests.measure.independent import chain, sha384


def digests(prediction: Prediction, name: str) -> list[bytes]:
    register = prediction.register(name)
    assert register is not None
    return [event.digest for event in register.events]


def wide(text: str) -> bytes:
    return b"".join(bytes([ord(letter), 0]) for letter in text) + b"\0\0"


ACTION = sha384(b"Calling EFI Application from Boot Option")
ZERO = sha384(bytes(4))
EXITS = [
    sha384(b"Exit Boot Services Invocation"),
    sha384(b"Exit Boot Services Returned with Success"),
]


def secure_boot(variables: dict[tuple[str, str], bytes]) -> list[bytes]:
    g, s = str(GLOBAL), str(IMAGE_SECURITY)
    names = [(g, "SecureBoot"), (g, "PK"), (g, "KEK"), (s, "db"), (s, "dbx")]
    if (s, "dbt") in variables:
        names.append((s, "dbt"))
    return [
        sha384(independent.variable(vendor, name, variables.get((vendor, name), b"")))
        for vendor, name in names
    ] + [ZERO]


def test_tdx_guest_with_a_uki_is_that_of_a_second_computation() -> None:
    prediction = machines.tdx()
    firmware, uki, disk = builders.firmware(), builders.uki(), builders.gpt()
    host = [sha384(data) for data in machines.ACPI.values()]
    host += [sha384(data) for _, data in machines.VARIABLES]
    rtmr0 = [
        sha384(independent.td_hob(firmware, machines.MEMORY)),
        sha384(firmware[: builders.STORE_BYTES]),
        *secure_boot({}),
        *host,
    ]
    rtmr1 = [
        ACTION,
        ZERO,
        sha384(independent.gpt_event(disk)),
        independent.authenticode(uki),
        independent.authenticode(builders.KERNEL),
        *EXITS,
    ]
    contents = dict(builders.SECTIONS)
    rtmr2 = [
        sha384(data)
        for name in (".linux", ".osrel", ".cmdline", ".initrd", ".uname", ".sbat")
        for data in (name.encode() + b"\0", contents[name])
    ]
    osrel = independent.newc(
        [(".extra", 0o40555, b""), (".extra/os-release", 0o100444, b"ID=debian\n")]
    )
    rtmr2 += [sha384(wide("root=/dev/x quiet")), sha384(contents[".initrd"] + osrel)]
    for name, expected in (("rtmr0", rtmr0), ("rtmr1", rtmr1), ("rtmr2", rtmr2)):
        assert digests(prediction, name) == expected
        register = prediction.register(name)
        assert register is not None
        assert register.value == chain(expected)
    assert list(prediction.mrtd.values()) == [
        independent.mrtd(firmware, two_pass=False),
        independent.mrtd(firmware, two_pass=True),
    ]


def test_runtime_events_come_in_the_order_given_and_leave_rtmr3_open() -> None:
    register = machines.tdx().register("rtmr3")
    assert register is not None
    assert [event.name for event in register.events] == ["gateway.config", "model.lock"]
    content = b'{"event":"model.lock","sha256":"%s"}' % hashlib.sha256(b"lock").hexdigest().encode()
    assert register.events[1].digest == sha384(content)
    assert (register.open, register.value) == (True, None)


def test_kernel_that_qemu_loads_is_measured_before_the_boot_options() -> None:
    prediction = machines.tdx(machines.kernel_boot())
    assert digests(prediction, "rtmr1") == [
        independent.authenticode(builders.KERNEL),
        ACTION,
        ZERO,
        *EXITS,
    ]
    assert digests(prediction, "rtmr2") == [
        sha384(wide("quiet initrd=initrd")),
        sha384(b"an initrd"),
    ]


def test_kernel_without_initrd_gets_its_command_line_as_it_is() -> None:
    assert digests(machines.tdx(machines.kernel_boot(b"")), "rtmr2") == [sha384(wide("quiet"))]


def test_uki_from_elsewhere_than_a_disk_measures_no_partition_table() -> None:
    boot = replace(machines.uki_boot(), disk=None)
    assert len(digests(machines.tdx(boot), "rtmr1")) == 6


def test_enrolled_keys_turn_secure_boot_on_and_leave_the_authority_open() -> None:
    store = builders.variable_store(machines.ENROLLED)
    prediction = machines.tdx(firmware=builders.firmware(store=store))
    told = {(str(vendor), name): data for (vendor, name), data in machines.ENROLLED.items()}
    told[str(GLOBAL), "SecureBoot"] = b"\1"
    assert digests(prediction, "rtmr0")[2:9] == secure_boot(told)
    register = prediction.register("rtmr0")
    assert register is not None
    assert register.events[-1].name == "image authority"
    assert register.events[-1].derivation is Derivation.UNKNOWN
    assert register.value is None
    assert "1 X.509" in register.events[3].source


def test_log_of_a_boot_with_secure_boot_off_leaves_the_authority_open() -> None:
    firmware = builders.firmware(store=builders.variable_store(machines.ENROLLED))
    observed = replace(machines.GIVEN, authorities=())
    last = machines.tdx(host=observed, firmware=firmware).registers[0].events[-1]
    assert (last.name, last.derivation) == ("image authority", Derivation.UNKNOWN)
    assert machines.tdx(host=observed).registers[0] == machines.tdx().registers[0]


def test_secure_boot_that_the_store_switches_off_asks_nobody_for_the_image() -> None:
    off = {(SECURE_BOOT_ENABLE, "SecureBootEnable"): b"\0"}
    store = builders.variable_store(machines.ENROLLED | off)
    register = machines.tdx(firmware=builders.firmware(store=store)).register("rtmr0")
    assert register is not None
    assert register.value is not None
    expected = independent.variable(str(GLOBAL), "SecureBoot", b"\0")
    assert register.events[2].digest == sha384(expected)


def test_firmware_without_variable_store_measures_none() -> None:
    rows = tuple(row for row in builders.ROWS if row[4] != builders.CFV)
    prediction = machines.tdx(firmware=builders.firmware(rows))
    assert len(digests(prediction, "rtmr0")) == len(digests(machines.tdx(), "rtmr0")) - 1


def test_what_only_the_host_knows_is_unknown_unless_somebody_says() -> None:
    prediction = machines.tdx(host=machines.NOTHING)
    register = prediction.register("rtmr0")
    assert register is not None
    assert [one.name for one in register.events if one.derivation is Derivation.UNKNOWN] == [
        "ACPI loader",
        "ACPI rsdp",
        "ACPI tables",
        "variable BootOrder",
        "variables Boot####",
    ]
    assert register.value is None
    assert all(one.digest == b"" for one in register.events[-5:])


def test_given_and_observed_digests_are_called_that_and_never_computed() -> None:
    observed = [
        LoggedEvent(type=0xA, digest=b"\1" * 48, data=b"ACPI DATA"),
        LoggedEvent(type=0xA, digest=b"\2" * 48, data=b"ACPI DATA"),
        LoggedEvent(type=0x80000002, digest=b"\3" * 48, data=b""),
        LoggedEvent(type=0x800000E0, digest=b"\4" * 48, data=b""),
    ]
    log_only = host_part(acpi={}, variables=[], observed=observed)
    told = [*log_only.acpi, *log_only.boot_variables, *(log_only.authorities or ())]
    assert {one.derivation for one in told} == {Derivation.OBSERVED}
    assert [one.name for one in told] == ["ACPI 1", "ACPI 2", "boot variable", "image authority"]
    assert [one.digest[0] for one in told] == [1, 2, 3, 4]
    mixed = host_part(acpi=machines.ACPI, variables=machines.VARIABLES, observed=observed)
    assert {one.derivation for one in (*mixed.acpi, *mixed.boot_variables)} == {Derivation.GIVEN}
    prediction = machines.tdx(host=log_only)
    register = prediction.register("rtmr0")
    assert register is not None
    assert register.value is not None
    assert register.events[-1].digest == b"\4" * 48


def test_part_of_acpi_that_nobody_knows_is_refused() -> None:
    with pytest.raises(UsageError, match="loader, rsdp, tables"):
        host_part(acpi={"dsdt": b""}, variables=[], observed=None)


def test_part_of_acpi_that_is_not_given_stays_unknown() -> None:
    host = host_part(acpi={"log": b"x"}, variables=[], observed=None, parts=ACPI_PARTS_WITH_TPM)
    told = [(one.name, one.derivation.value) for one in host.acpi]
    assert told == [
        ("ACPI loader", "unknown"),
        ("ACPI rsdp", "unknown"),
        ("ACPI log", "given"),
        ("ACPI tables", "unknown"),
    ]


def test_tpm_has_the_digests_of_the_guest_in_other_registers() -> None:
    guest, tpm = machines.tdx(), machines.tpm()
    pcr = {name: digests(tpm, f"pcr{name}") for name in (1, 2, 3, 4, 5, 6, 7, 9, 11)}
    assert pcr[4] + pcr[5][1:] == (
        digests(guest, "rtmr1")[:2]
        + digests(guest, "rtmr1")[3:5]
        + digests(guest, "rtmr1")[2:3]
        + EXITS
    )
    assert pcr[11] + pcr[9] == digests(guest, "rtmr2")
    assert pcr[7] == secure_boot({})
    assert pcr[1] == [*digests(guest, "rtmr0")[-6:], ZERO]
    assert pcr[2] == pcr[3] == pcr[6] == [ZERO]
    assert pcr[5][0] == ZERO
    assert tpm.register("pcr0") is None


def test_tpm_with_enrolled_keys_leaves_the_authority_open() -> None:
    store = builders.variable_store(machines.ENROLLED)
    register = machines.tpm(store=store).register("pcr7")
    assert register is not None
    assert register.value is None


def test_unknown_event_has_no_digest() -> None:
    assert unknown(4, "x", "y").digest == b""


# Digests in the event log of a real guest (edk2 without secure boot, 2 GiB, one boot option), as
# far as they depend on nothing but the format.
REAL = {
    "variable SecureBoot": "9dc3a1f80bcec915",
    "variable PK": "6f2e3cbc14f9def8",
    "variable KEK": "d607c0efb41c0d75",
    "variable db": "08a74f8963b337ac",
    "variable dbx": "18cc6e01f0c6ea99",
    "separator": "394341b7182cd227",
    "Calling EFI Application from Boot Option": "77a0dab2312b4e1e",
    "Exit Boot Services Invocation": "214b0bef13797560",
    "Exit Boot Services Returned with Success": "0a2e01c85deae718",
}


def test_events_of_the_format_alone_are_those_of_a_real_guest() -> None:
    prediction = machines.tdx()
    told = {
        event.name: event.digest.hex()[:16]
        for register in prediction.registers
        for event in register.events
    }
    assert {name: told[name] for name in REAL} == REAL
