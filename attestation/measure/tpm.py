"""The PCRs of a TPM for a boot of the same image without TDX, before it runs.

Sources: TCG PC Client Platform Firmware Profile, section 3.3.4 (which PCR takes what); edk2,
SecurityPkg/Tcg/Tcg2Dxe (the order).  Digests are those of the bank for SHA-384, so that every one
of them is the same as in the corresponding RTMR of a TDX guest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from attestation.measure.boot import BOOT_ACTION, exit_actions
from attestation.measure.prediction import (
    Platform,
    PredictedRegister,
    Prediction,
    action,
    separator,
)
from attestation.measure.tdx import authorities, secure_boot_policy

if TYPE_CHECKING:
    import uuid
    from collections.abc import Mapping, Sequence

    from attestation.measure.boot import Boot
    from attestation.measure.hostpart import HostPart
    from attestation.measure.prediction import Input, PredictedEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class TpmMachine:
    """What a machine with OVMF and a TPM boots; `variables` are those of its variable store."""

    variables: Mapping[tuple[uuid.UUID, str], bytes]
    boot: Boot
    host: HostPart


def predict_tpm(
    machine: TpmMachine, inputs: Sequence[Input], settings: Mapping[str, str]
) -> Prediction:
    """Return what `machine` will measure; `inputs` and `settings` are only recorded.

    PCR 0, the firmware itself, is left out: its volumes are measured as they lie in memory.
    Raises `MalformedError` for a partition table that does not parse.
    """
    boot, host = machine.boot, machine.host
    events: dict[int, tuple[PredictedEvent, ...]] = {
        1: (*host.acpi, *host.boot_variables, separator()),
        2: (separator(),),
        3: (separator(),),
        4: (*boot.before_choice, action(BOOT_ACTION), separator(), *boot.images),
        5: (separator(), *boot.partition_table, *exit_actions()),
        6: (separator(),),
        7: (
            *secure_boot_policy(machine.variables),
            *authorities(machine.variables, host),
        ),
        9: boot.kernel_events,
        11: boot.sections,
    }
    return Prediction(
        platform=Platform.TPM,
        inputs=tuple(inputs),
        settings=settings,
        mrtd={},
        registers=tuple(
            PredictedRegister(name=f"pcr{number}", events=found) for number, found in events.items()
        ),
    )
