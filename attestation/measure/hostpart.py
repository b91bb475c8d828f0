"""What only the host can say: its ACPI tables, its boot variables, and who vouches for an image.

They are given (files of what the host will present) or observed (the log of an earlier boot), and
never computed: a host that was trusted with them once is noticed when it changes them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from attestation.errors import MalformedError, UsageError
from attestation.measure.prediction import (
    EV_EFI_VARIABLE_AUTHORITY,
    EV_EFI_VARIABLE_BOOT,
    EV_PLATFORM_CONFIG_FLAGS,
    Derivation,
    PredictedEvent,
    given,
    unknown,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

ACPI_PARTS = {
    "loader": "etc/table-loader",
    "rsdp": "etc/acpi/rsdp",
    "tables": "etc/acpi/tables",
}
"""What QEMU hands over as ACPI, in the order in which OVMF measures it, and what it calls it."""
ACPI_PARTS_WITH_TPM = {
    "loader": ACPI_PARTS["loader"],
    "rsdp": ACPI_PARTS["rsdp"],
    "log": "etc/tpm/log",
    "tables": ACPI_PARTS["tables"],
}
"""The same for a machine with a TPM, whose tables reserve memory for its event log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedEvent:
    """What is taken from an event log: the type, the digest, and what the log says was measured."""

    type: int
    digest: bytes
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPart:
    """The host's events in their order; `authorities` None: nobody has said."""

    acpi: tuple[PredictedEvent, ...]
    boot_variables: tuple[PredictedEvent, ...]
    authorities: tuple[PredictedEvent, ...] | None = None


def host_part(
    *,
    acpi: Mapping[str, bytes],
    variables: Sequence[tuple[str, bytes]],
    observed: Iterable[LoggedEvent] | None,
    parts: Mapping[str, str] = ACPI_PARTS,
) -> HostPart:
    """Return the host's part: what is given, else what was observed, else unknown.

    `acpi` holds contents by the names in `parts`; `variables` the boot variables in the
    order in which they are measured: BootOrder, then Boot#### as it lists them.  Of ACPI parts
    that are given in part, the others are those in their places in the log.  Raises `UsageError`
    for another name, or if such a log has not one ACPI event for each part; `MalformedError` for a
    log that has nothing of the host's registers or keeps a digest to itself: what it does not say
    would be predicted as absent.
    """
    strange = sorted(acpi.keys() - parts.keys())
    if strange:
        raise UsageError(
            "there is no such part of the ACPI tables",
            code="acpi",
            expected=", ".join(parts),
            observed=ascii(strange[0])[:40],
        )
    log = None if observed is None else _usable(tuple(observed))
    return HostPart(
        acpi=_acpi(acpi, log, parts),
        boot_variables=_boot_variables(variables, log),
        authorities=None if log is None else _observed(log, EV_EFI_VARIABLE_AUTHORITY),
    )


def _usable(log: tuple[LoggedEvent, ...]) -> tuple[LoggedEvent, ...]:
    if not log or not all(event.digest for event in log):
        raise MalformedError(
            "the log of an earlier boot does not say what the host presented",
            code="observed",
            expected="events of RTMR0, or of PCR 1 and 7, each with its digest",
            observed="an event without a digest" if log else "no such event",
            hint="take the firmware's log, such as /sys/firmware/acpi/tables/data/CCEL",
        )
    return log


def _acpi(
    acpi: Mapping[str, bytes],
    log: tuple[LoggedEvent, ...] | None,
    parts: Mapping[str, str],
) -> tuple[PredictedEvent, ...]:
    if log is not None and acpi.keys() != parts.keys():
        seen = _observed(log, EV_PLATFORM_CONFIG_FLAGS)
        return _with_given(seen, acpi, parts) if acpi else seen
    return tuple(
        _given_part(part, acpi[part], name)
        if part in acpi
        else unknown(
            EV_PLATFORM_CONFIG_FLAGS,
            f"ACPI {part}",
            f"the host's {name}; give it, or the log of an earlier boot",
        )
        for part, name in parts.items()
    )


def _with_given(
    seen: Sequence[PredictedEvent], acpi: Mapping[str, bytes], parts: Mapping[str, str]
) -> tuple[PredictedEvent, ...]:
    """Put what is given in its place among what was observed; a log does not name the parts."""
    if len(seen) != len(parts):
        raise UsageError(
            "which ACPI event of the earlier boot is which part cannot be said",
            code="acpi",
            expected=f"{len(parts)} such events: {', '.join(parts)}",
            observed=f"{len(seen)} in the log",
            hint="give each part with --acpi, or none of them",
        )
    return tuple(
        _given_part(part, acpi[part], parts[part])
        if part in acpi
        else replace(event, name=f"ACPI {part}")
        for part, event in zip(parts, seen, strict=True)
    )


def _given_part(part: str, data: bytes, name: str) -> PredictedEvent:
    return given(EV_PLATFORM_CONFIG_FLAGS, f"ACPI {part}", data, f"the host's {name}")


def _boot_variables(
    variables: Sequence[tuple[str, bytes]], log: tuple[LoggedEvent, ...] | None
) -> tuple[PredictedEvent, ...]:
    # Given ones are all of them: how many there are the host decides as well.
    if variables:
        return tuple(
            given(EV_EFI_VARIABLE_BOOT, f"variable {name}", data, "the variable's data")
            for name, data in variables
        )
    if log is not None:
        return _observed(log, EV_EFI_VARIABLE_BOOT)
    source = "set by the firmware from the devices it finds; give them, or an earlier boot's log"
    return (
        unknown(EV_EFI_VARIABLE_BOOT, "variable BootOrder", source),
        unknown(EV_EFI_VARIABLE_BOOT, "variables Boot####", source),
    )


_NAMES = {
    EV_PLATFORM_CONFIG_FLAGS: "ACPI",
    EV_EFI_VARIABLE_BOOT: "boot variable",
    EV_EFI_VARIABLE_AUTHORITY: "image authority",
}


def _observed(log: tuple[LoggedEvent, ...], kind: int) -> tuple[PredictedEvent, ...]:
    found = [event for event in log if event.type == kind]
    return tuple(
        PredictedEvent(
            type=kind,
            name=_NAMES[kind] if len(found) == 1 else f"{_NAMES[kind]} {number}",
            digest=event.digest,
            derivation=Derivation.OBSERVED,
            source="event log of an earlier boot",
        )
        for number, event in enumerate(found, 1)
    )
