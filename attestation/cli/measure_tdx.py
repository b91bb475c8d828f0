"""`attested measure tdx`: MRTD and RTMR0..3 of a TDX guest before it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attestation.cli.measure_inputs import (
    Inputs,
    add_boot_options,
    add_event_options,
    load_boot,
    named_files,
    parse_size,
    runtime_events,
    settings_of,
)
from attestation.cli.measure_output import (
    add_output_options,
    deliver,
    require_writable,
    warn_of_another_machine,
)
from attestation.measure.compare import read_tdx_log
from attestation.measure.hostpart import LoggedEvent, host_part
from attestation.measure.tdvf import MAX_FIRMWARE_BYTES, parse_tdvf
from attestation.measure.tdx import TdxMachine, predict_tdx
from attestation.tdx.logfile import MAX_FILE_BYTES

if TYPE_CHECKING:
    import argparse

HELP = "predict MRTD and RTMR0 to RTMR3 of a TDX guest"

_EPILOG = """\
MRTD has two values, one for each order in which hosts add pages; both are right.  RTMR0 also holds
what only the host knows, its ACPI tables and boot variables: give them (--acpi, --boot-variable;
PART is loader, rsdp or tables, QEMU's etc/table-loader, etc/acpi/rsdp, etc/acpi/tables) or take
them from the event log of an earlier boot (--observed), which is trust on first use and marked so.
A log without an event that is computed is another machine's: a warning names each.  With both,
given ACPI parts take their places among those of the log, which must have one event for
each part; given boot variables are all there are.  Without either they are unknown, and RTMR0 has
no value.  Into RTMR3 the gateway measures --event and --event-file in the order in which they are
given here, then its keys, which differ in every boot.  Events of a measured image have to stand in
its order (docs/spec/runtime-events.md); SHA256 is what `attested measure-runtime boot --dry-run`
shows as such.

exit codes: 0 written; 2 usage; 13 a file that is not what its option asks for

examples:
  attested measure tdx --firmware OVMF.fd --uki gw.efi --disk gw.raw --memory 64G -o m.json
  attested measure tdx --firmware OVMF.fd --uki gw.efi --memory 64G --observed ccel.bin \\
      --event-file model.lock=model.lock -o m.json
  attested measure tdx --firmware OVMF.fd --kernel vmlinuz --initrd initrd.img \\
      --cmdline "console=ttyS0" --memory 2G --acpi loader=table-loader.bin \\
      --acpi rsdp=rsdp.bin --acpi tables=tables.bin --boot-variable BootOrder=order.bin
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.epilog = _EPILOG
    add = parser.add_argument
    add("--firmware", metavar="F", required=True, help="the firmware's image (OVMF)")
    add("--memory", metavar="SIZE", required=True, help="size of the memory, such as 64G")
    add_boot_options(parser)
    add_event_options(parser)
    add_output_options(parser)


def run(args: argparse.Namespace) -> int:
    """Predict, write, say what was predicted."""
    require_writable(args)
    inputs, memory = Inputs([]), parse_size(args.memory)
    sections = parse_tdvf(inputs.load("firmware", args.firmware, MAX_FIRMWARE_BYTES))
    boot = load_boot(args, inputs, memory)
    observed = None if args.observed is None else _observed(args.observed, inputs)
    machine = TdxMachine(
        sections=sections,
        memory=memory,
        boot=boot,
        host=host_part(
            acpi=dict(named_files(args.acpi, inputs)),
            variables=named_files(args.boot_variable, inputs),
            observed=None if observed is None else observed["rtmr0"],
        ),
        runtime=tuple(runtime_events(args.events, inputs)),
    )
    prediction = predict_tdx(machine, inputs.read, settings_of(boot, memory))
    warn_of_another_machine(prediction, observed or {})
    deliver(prediction, args)
    return 0


def _observed(path: str, inputs: Inputs) -> dict[str, tuple[LoggedEvent, ...]]:
    """Return the events of RTMR0 in a log: what the host presents is in no other register."""
    log = read_tdx_log(inputs.load("observed log", path, MAX_FILE_BYTES))
    return {"rtmr0": log.get("rtmr0", ())}
