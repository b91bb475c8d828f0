"""`python -m enclave_image.launch`: print, or run, the QEMU command line of a TDX host."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path

from attestation.cli.main import describe
from attestation.errors import AttestationError, UnavailableError, UsageError
from enclave_image.launch.qemu import Guest, command_line

_EPILOG = """\
Needs a host with TDX, its quote generation service, and QEMU 10.1 or newer.  The command line is
printed, with a warning for each file that is not on this machine; --run replaces this program by
QEMU, and refuses to without them.  Memory (a number with K, M, G or T), firmware and disk have to
be those of the prediction: attested measure tdx --firmware F --uki U --disk D --memory SIZE.

examples:
  python -m enclave_image.launch --firmware OVMF.inteltdx.fd --disk gateway.raw --memory 64G
  python -m enclave_image.launch --firmware OVMF.inteltdx.fd --disk gateway.raw --memory 64G \\
      --pack engine.raw --pack model.raw --quotes unix:/var/run/tdx-qgs/qgs.socket --run

exit codes: 0 printed, or what QEMU ends with; 2 usage, or --run without a file; 14 QEMU cannot be
started
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
        absent = [path for path in (guest.firmware, guest.disk, *guest.packs) if not path.is_file()]
        if args.run:
            _require_none(absent)
            _become(arguments)
    except AttestationError as error:
        print(describe(error), file=sys.stderr)
        return error.exit_code
    for path in absent:
        print(f"attested: {str(path)!a} is not a file on this machine", file=sys.stderr)
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
    add("--memory", required=True, help="e.g. 64G; a number with K, M, G or T")
    add("--cpus", type=int, default=8, help="1 to 1024 (8)")
    add("--pack", type=Path, action="append", default=[], help="engine or model pack")
    add("--quotes", default="vsock:2:4050", help="the quote generation service (vsock:2:4050)")
    add("--port", type=int, default=8443, help="port of the host for the gateway (8443)")
    add("--cid", type=int, help="the guest's address on vsock (none)")
    add("--qemu", default="qemu-system-x86_64", help="the program (qemu-system-x86_64)")
    add("--run", action="store_true", help="run it")
    return parser


def _require_none(absent: list[Path]) -> None:
    if absent:
        raise UsageError(
            "a file that the guest starts from is not there",
            code="file",
            expected="firmware, image and packs as files",
            observed=f"{str(absent[0])!a}, which is none",
            hint="without --run the command line is only printed, for another machine",
        )


def _become(arguments: list[str]) -> None:
    try:
        os.execvp(arguments[0], arguments)  # noqa: S606
    except (OSError, ValueError) as error:
        raise UnavailableError(
            f"QEMU cannot be started as {arguments[0]!a}",
            code="qemu",
            expected="a program on PATH, or a path to one",
            observed=getattr(error, "strerror", None) or "a name that no program has",
            hint="install QEMU 10.1 or newer, or name it with --qemu",
        ) from error


if __name__ == "__main__":
    sys.exit(main())
