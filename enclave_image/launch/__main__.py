"""`python -m enclave_image.launch`: print, or run, the QEMU command line of a TDX host."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path

from attestation.cli.main import describe
from attestation.errors import AttestationError, UsageError
from enclave_image.launch.qemu import Guest, command_line

_EPILOG = """\
Needs a host with TDX, its quote generation service, and QEMU 10.1 or newer.  The command line is
printed; --run replaces this program by QEMU.  Memory, firmware and disk have to be those of the
prediction: attested measure tdx --firmware F --uki U --disk D --memory SIZE.

examples:
  python -m enclave_image.launch --firmware OVMF.inteltdx.fd --disk gateway.raw --memory 64G
  python -m enclave_image.launch --firmware OVMF.inteltdx.fd --disk gateway.raw --memory 64G \\
      --pack engine.raw --pack model.raw --quotes unix:/var/run/tdx-qgs/qgs.socket --run
"""


def main(argv: list[str] | None = None) -> int:
    """Print the command line, or become QEMU."""
    args = _parser().parse_args(argv)
    guest = Guest(
        firmware=args.firmware,
        disk=args.disk,
        memory=args.memory,
        cpus=args.cpus,
        quotes=args.quotes,
        published=args.port,
        packs=tuple(args.pack),
        cid=args.cid,
    )
    try:
        arguments = command_line(guest, qemu=args.qemu)
        if args.run:
            _require_files(guest)
            os.execvp(arguments[0], arguments)  # noqa: S606
    except AttestationError as error:
        print(describe(error), file=sys.stderr)
        return error.exit_code
    print(shlex.join(arguments))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m enclave_image.launch",
        description="The QEMU command line that starts the image in a TDX guest.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--firmware", type=Path, required=True, help="OVMF with TDX metadata, one file")
    add("--disk", type=Path, required=True, help="the image")
    add("--memory", required=True, help="e.g. 64G")
    add("--cpus", type=int, default=8)
    add("--pack", type=Path, action="append", default=[], help="engine or model pack")
    add("--quotes", default="vsock:2:4050", help="the quote generation service (vsock:2:4050)")
    add("--port", type=int, default=8443, help="port of the host for the gateway (8443)")
    add("--cid", type=int, help="the guest's address on vsock (none)")
    add("--qemu", default="qemu-system-x86_64")
    add("--run", action="store_true", help="run it")
    return parser


def _require_files(guest: Guest) -> None:
    for path in (guest.firmware, guest.disk, *guest.packs):
        if not path.is_file():
            raise UsageError(f"{str(path)!a} is not a file", code="file")


if __name__ == "__main__":
    sys.exit(main())
