"""MRTD and RTMR0..3 of a TDX guest under QEMU with OVMF, before it runs.

Sources: UEFI 2.10 section 38.4.1 (which register takes what); edk2, OvmfPkg/Tcg/TdTcg2Dxe (the
order of what firmware measures).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attestation.measure.boot import BOOT_ACTION, exit_actions
from attestation.measure.efivars import (
    GLOBAL,
    IMAGE_SECURITY,
    SECURE_BOOT_ENABLE,
    describe_signatures,
    parse_variable_store,
    variable_data,
)
from attestation.measure.hob import make_td_hob
from attestation.measure.mrtd import PageOrder, predict_mrtd
from attestation.measure.prediction import (
    EV_EFI_HANDOFF_TABLES2,
    EV_EFI_PLATFORM_FIRMWARE_BLOB2,
    EV_EFI_VARIABLE_AUTHORITY,
    EV_EFI_VARIABLE_DRIVER_CONFIG,
    Platform,
    PredictedRegister,
    Prediction,
    action,
    computed,
    digested,
    runtime_events,
    separator,
    unknown,
)
from attestation.measure.tdvf import SectionType

if TYPE_CHECKING:
    import uuid
    from collections.abc import Mapping, Sequence

    from attestation.measure.boot import Boot
    from attestation.measure.hostpart import HostPart
    from attestation.measure.prediction import Input, PredictedEvent
    from attestation.measure.tdvf import Section
    from attestation.tdx.runtime import MeasuredEvent

# What firmware measures of its secure boot policy, in this order.
POLICY_VARIABLES = (
    ("PK", GLOBAL),
    ("KEK", GLOBAL),
    ("db", IMAGE_SECURITY),
    ("dbx", IMAGE_SECURITY),
)
_TIMESTAMP_DATABASE = ("dbt", IMAGE_SECURITY)
_ABSENT, _OFF, _ON = b"", b"\0", b"\1"
_SECURE_BOOT = {
    _ABSENT: "absent: no platform key",
    _OFF: "off, with a platform key",
    _ON: "on: it brings a platform key",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TdxMachine:
    """What a TDX guest is made of.

    `memory` is in bytes; `host` is what only the host knows: ACPI tables and boot variables;
    `runtime` is what the gateway measures before its keys, in order.
    """

    sections: tuple[Section, ...]
    memory: int
    boot: Boot
    host: HostPart
    runtime: tuple[MeasuredEvent, ...]


def predict_tdx(
    machine: TdxMachine, inputs: Sequence[Input], settings: Mapping[str, str]
) -> Prediction:
    """Return what `machine` will measure; `inputs` and `settings` are only recorded.

    Raises `MalformedError` for a variable store or partition table that does not parse, and
    `UsageError` for an impossible size of memory.
    """
    return Prediction(
        platform=Platform.TDX,
        inputs=tuple(inputs),
        settings=settings,
        mrtd={order: predict_mrtd(machine.sections, order) for order in PageOrder},
        registers=(
            PredictedRegister(name="rtmr0", events=_rtmr0(machine)),
            PredictedRegister(name="rtmr1", events=_rtmr1(machine.boot)),
            PredictedRegister(
                name="rtmr2", events=(*machine.boot.sections, *machine.boot.kernel_events)
            ),
            PredictedRegister(name="rtmr3", events=runtime_events(machine.runtime), open=True),
        ),
    )


def secure_boot_policy(
    variables: Mapping[tuple[uuid.UUID, str], bytes],
) -> tuple[PredictedEvent, ...]:
    """Return the events of SecureBoot, PK, KEK, db, dbx (and dbt if there), then a separator.

    With a platform key in the store secure boot is on, unless the store says that it is off.
    Without one the variable SecureBoot is absent, as in firmware that is built without it.
    """
    events = [_policy_event("SecureBoot", GLOBAL, _secure_boot(variables))]
    for name, vendor in POLICY_VARIABLES:
        events.append(_policy_event(name, vendor, variables.get((vendor, name), b"")))
    name, vendor = _TIMESTAMP_DATABASE
    if (vendor, name) in variables:
        events.append(_policy_event(name, vendor, variables[vendor, name]))
    return (*events, separator())


def authorities(
    variables: Mapping[tuple[uuid.UUID, str], bytes], host: HostPart
) -> tuple[PredictedEvent, ...]:
    """Return which entry of db vouched for the image: measured only where secure boot is on.

    A log without one, of a boot with secure boot off, says nothing of a boot with it on.
    """
    if host.authorities:
        return host.authorities
    if _secure_boot(variables) != _ON:
        return ()
    return (
        unknown(
            EV_EFI_VARIABLE_AUTHORITY,
            "image authority",
            "the entry of db that vouches for the image; take it from an event log (--observed)",
        ),
    )


def _secure_boot(variables: Mapping[tuple[uuid.UUID, str], bytes]) -> bytes:
    """Return the value of the variable SecureBoot that firmware with this store sets."""
    if not variables.get((GLOBAL, "PK")):
        return _ABSENT
    told = variables.get((SECURE_BOOT_ENABLE, "SecureBootEnable"), _ON)
    return _OFF if told == _OFF else _ON


def _policy_event(name: str, vendor: uuid.UUID, data: bytes) -> PredictedEvent:
    told = _SECURE_BOOT[data] if name == "SecureBoot" else describe_signatures(data)
    return computed(
        EV_EFI_VARIABLE_DRIVER_CONFIG,
        f"variable {name}",
        variable_data(vendor, name, data),
        f"the firmware's variable store: {told}",
    )


def _rtmr0(machine: TdxMachine) -> tuple[PredictedEvent, ...]:
    stores = [one for one in machine.sections if one.type is SectionType.CFV]
    hob = make_td_hob(machine.sections, machine.memory)
    events = [
        computed(EV_EFI_HANDOFF_TABLES2, "TD HOB", hob, "firmware's memory map and memory size")
    ]
    for store in stores:
        digest = hashlib.sha384(store.raw).digest()
        source = "the firmware's variable store (CFV)"
        events.append(digested(EV_EFI_PLATFORM_FIRMWARE_BLOB2, "variable store", digest, source))
    variables = parse_variable_store(stores[0].raw) if stores else {}
    events += secure_boot_policy(variables)
    events += [*machine.host.acpi, *machine.host.boot_variables]
    return (*events, *authorities(variables, machine.host))


def _rtmr1(boot: Boot) -> tuple[PredictedEvent, ...]:
    return (
        *boot.before_choice,
        action(BOOT_ACTION),
        separator(),
        *boot.partition_table,
        *boot.images,
        *exit_actions(),
    )
