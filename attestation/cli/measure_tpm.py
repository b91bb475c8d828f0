"""`attested measure tpm`: the PCRs of the same image booted without TDX."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attestation.cli.measure_inputs import (
    Inputs,
    add_boot_options,
    load_boot,
    named_files,
    parse_size,
    settings_of,
)
from attestation.cli.measure_output import (
    add_output_options,
    deliver,
    require_writable,
    warn_of_another_machine,
)
from attestation.measure.compare import read_tpm_log
from attestation.measure.efivars import parse_variable_store
from attestation.measure.hostpart import ACPI_PARTS_WITH_TPM, LoggedEvent, host_part
from attestation.measure.tdvf import MAX_FIRMWARE_BYTES
from attestation.measure.tpm import TpmMachine, predict_tpm
from attestation.tdx.tcglog import MAX_LOG_BYTES

if TYPE_CHECKING:
    import argparse

HELP = "predict the PCRs of a TPM for the image booted without TDX"

_EPILOG = """\
The image measures the same into a TPM as into a TDX guest's registers: what RTMR1 holds is in PCR
4 and 5, what RTMR2 holds in PCR 9 and 11, by the same SHA-384 digests.  So a boot under QEMU with
OVMF and a software TPM, without TDX, tests the prediction event by event.  PCR 0 is not predicted,
so that comparing a whole log ends in 12 (incomplete).  ACPI and boot variables: `measure tdx -h`.
--variables is the variable store of the firmware (OVMF_VARS.fd) as it is before the first boot.

exit codes: 0 written; 2 usage; 13 a file that is not what its option asks for

examples:
  attested measure tpm --uki gw.efi --disk gw.raw --variables OVMF_VARS_4M.fd -o tpm.json
  attested measure compare tpm.json /sys/kernel/security/tpm0/binary_bios_measurements
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.epilog = _EPILOG
    add = parser.add_argument
    add("--variables", metavar="F", required=True, help="the firmware's variable store")
    add("--memory", metavar="SIZE", help="size of the memory; only --kernel needs it")
    add_boot_options(parser)
    add_output_options(parser)


def run(args: argparse.Namespace) -> int:
    """Predict, write, say what was predicted."""
    require_writable(args)
    inputs = Inputs([])
    memory = None if args.memory is None else parse_size(args.memory)
    variables = inputs.load("variable store", args.variables, MAX_FIRMWARE_BYTES)
    boot = load_boot(args, inputs, memory)
    observed = None if args.observed is None else _observed(args.observed, inputs)
    machine = TpmMachine(
        variables=parse_variable_store(variables),
        boot=boot,
        host=host_part(
            acpi=dict(named_files(args.acpi, inputs)),
            variables=named_files(args.boot_variable, inputs),
            observed=None if observed is None else (*observed["pcr1"], *observed["pcr7"]),
            parts=ACPI_PARTS_WITH_TPM,
        ),
    )
    prediction = predict_tpm(machine, inputs.read, settings_of(boot, memory))
    warn_of_another_machine(prediction, observed or {})
    deliver(prediction, args)
    return 0


def _observed(path: str, inputs: Inputs) -> dict[str, tuple[LoggedEvent, ...]]:
    """Return the events of PCR 1 and 7 in a log: what the host presents is in no other."""
    log = read_tpm_log(inputs.load("observed log", path, MAX_LOG_BYTES))
    return {name: log.get(name, ()) for name in ("pcr1", "pcr7")}
