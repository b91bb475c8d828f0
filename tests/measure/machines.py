"""Machines to predict, and event logs that they would write."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from attestation.encoding.digest import Digest
from attestation.measure.boot import Boot, KernelBoot, UkiBoot
from attestation.measure.efivars import GLOBAL, IMAGE_SECURITY, parse_variable_store
from attestation.measure.hostpart import HostPart, host_part
from attestation.measure.pe import parse_pe
from attestation.measure.prediction import Prediction, described
from attestation.measure.tdvf import parse_tdvf
from attestation.measure.tdx import TdxMachine, predict_tdx
from attestation.measure.tpm import TpmMachine, predict_tpm
from attestation.measure.uki import parse_uki
from attestation.tdx.runtime import MeasuredEvent
from tests.measure import builders
from tests.tdx.test_ccel import header, record

ENROLLED = {
    (GLOBAL, "PK"): builders.signatures(builders.X509, [b"platform key"]),
    (GLOBAL, "KEK"): builders.signatures(builders.X509, [b"exchange key"]),
    (IMAGE_SECURITY, "db"): builders.signatures(builders.X509, [b"authority"]),
    (IMAGE_SECURITY, "dbx"): builders.signatures(builders.SHA256, [bytes(32)]),
    (IMAGE_SECURITY, "dbt"): b"timestamps",
}
ACPI = {"loader": b"commands", "rsdp": b"RSD PTR ", "tables": b"DSDT"}
VARIABLES = [("BootOrder", b"\0\0\1\0"), ("Boot0000", b"menu"), ("Boot0001", b"disk")]
RUNTIME = (
    MeasuredEvent(name="gateway.config", sha256=Digest.of(b"config")),
    MeasuredEvent(name="model.lock", sha256=Digest.of(b"lock")),
)
MEMORY = 4 << 30
GIVEN = host_part(acpi=ACPI, variables=VARIABLES, observed=None)
NOTHING = host_part(acpi={}, variables=[], observed=None)


def uki_boot(disk: bytes | None = None) -> UkiBoot:
    return UkiBoot(uki=parse_uki(builders.uki()), disk=builders.gpt() if disk is None else disk)


def kernel_boot(initrd: bytes = b"an initrd") -> KernelBoot:
    return KernelBoot(kernel=parse_pe(builders.KERNEL), initrd=initrd, command_line="quiet")


def tdx(
    boot: Boot | None = None, host: HostPart = GIVEN, firmware: bytes | None = None
) -> Prediction:
    machine = TdxMachine(
        sections=parse_tdvf(builders.firmware() if firmware is None else firmware),
        memory=MEMORY,
        boot=boot or uki_boot(),
        host=host,
        runtime=RUNTIME,
    )
    return predict_tdx(machine, [described("UKI", builders.uki())], {"memory": str(MEMORY)})


def tpm(boot: Boot | None = None, host: HostPart = GIVEN, store: bytes | None = None) -> Prediction:
    variables = parse_variable_store(builders.variable_store({}) if store is None else store)
    machine = TpmMachine(variables=variables, boot=boot or uki_boot(), host=host)
    return predict_tpm(machine, [], {})


Logged = tuple[int, int, bytes]


def logged(prediction: Prediction) -> list[Logged]:
    """(register's index in a log, type, digest) of every predicted event."""
    found = []
    for register in prediction.registers:
        at = int(register.name.lstrip("rtmpc"))
        index = at + 1 if register.name.startswith("rtmr") else at
        found += [(index, event.type, event.digest) for event in register.events]
    return found


def log(events: Sequence[Logged]) -> bytes:
    """A log in the TCG's format; what was measured is not said."""
    records = (
        record(index, b"", kind=kind, digests=((0x0C, digest),)) for index, kind, digest in events
    )
    return header() + b"".join(records)


def u32(value: int) -> bytes:
    return struct.pack("<I", value)
