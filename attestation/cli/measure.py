"""`attested measure tdx|tpm|compare`: what an image will measure, before it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attestation.cli import measure_compare, measure_tdx, measure_tpm
from attestation.cli.actions import configure_actions

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from attestation.cli.main import Command

HELP = "predict what an image will measure, and compare event logs with it"

_DESCRIPTION = """\
The registers of a TDX guest are hash chains over what it is made of: firmware, memory map, kernel
image, command line.  `tdx` computes them from those files, event by event, and says of each digest
whether it was computed, given, observed or is unknown; nothing is ever made up.  `tpm` does the
same for the image booted without TDX, and `compare` holds an event log against either.
"""
_EPILOG = """\
examples:
  attested measure tdx --firmware OVMF.inteltdx.ms.fd --uki gateway.efi --disk gateway.raw \\
      --memory 64G --observed ccel.bin -o measurements.json
  attested policy import measurements.json --format attested-gateway > policy.toml
  attested measure compare measurements.json /sys/firmware/acpi/tables/data/CCEL

`attested measure ACTION --help` explains an action, with its exit codes.
"""
_ACTIONS: Mapping[str, Command] = {
    "tdx": measure_tdx,
    "tpm": measure_tpm,
    "compare": measure_compare,
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the actions and their arguments."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    configure_actions(parser, _ACTIONS)


def run(args: argparse.Namespace) -> int:
    """Do what was asked for and return its exit code."""
    code: int = args.act(args)
    return code
