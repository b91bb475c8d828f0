"""The files that a machine boots from, as the commands below `attested measure` take them."""

from __future__ import annotations

import hashlib
import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from attestation.cli.files import load_bytes, load_parsed, require_one_stdin
from attestation.encoding.counts import counted
from attestation.encoding.digest import Digest
from attestation.errors import MalformedError, UsageError
from attestation.measure.boot import KernelBoot, UkiBoot, require_command_line
from attestation.measure.bzimage import patch_kernel
from attestation.measure.document import parse_measurements
from attestation.measure.explain import require_tdx
from attestation.measure.gpt import HEAD_BYTES
from attestation.measure.pe import MAX_IMAGE_BYTES, parse_pe
from attestation.measure.prediction import Input, described
from attestation.measure.uki import parse_uki
from attestation.tdx.launch import require_launch_order
from attestation.tdx.runtime import MeasuredEvent

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator

    from attestation.measure.boot import Boot
    from attestation.measure.prediction import Prediction

_CHUNK = 1 << 20
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
# As `measurements.json` may have it.
_NAME = re.compile(r"[\x21-\x7e]{1,64}", re.ASCII)
_SHA384 = re.compile(r"[0-9a-f]{96}", re.ASCII)
_SIZE = re.compile(r"([0-9]{1,15})([KMGT]?)", re.ASCII)


@dataclass(slots=True)
class Inputs:
    """The files that were read so far, to be recorded with the prediction."""

    read: list[Input]
    paths: list[str] = field(default_factory=list)

    def load(self, name: str, path: str, limit: int = MAX_IMAGE_BYTES) -> bytes:
        """Return the contents of a file, recorded as `name`."""
        self.paths.append(path)
        require_one_stdin(self.paths)
        data = load_bytes(path, limit=limit)
        self.read.append(described(name, data))
        return data

    def head(self, name: str, path: str) -> bytes:
        """Return the first MiB of a file of any size, all of it recorded as `name`."""
        digest, size, head = hashlib.sha256(), 0, b""
        try:
            with Path(path).open("rb") as file:
                while chunk := file.read(_CHUNK):
                    head = head or chunk[:HEAD_BYTES]
                    digest.update(chunk)
                    size += len(chunk)
        except (OSError, ValueError) as error:
            raise UsageError(
                f"cannot read {path!a}", code="file", expected="a raw disk image"
            ) from error
        self.read.append(Input(name=name, sha256=Digest(digest.digest()), size=size))
        return head


def add_boot_options(parser: argparse.ArgumentParser) -> None:
    """Declare what is booted, and what of the host's part is known."""
    add = parser.add_argument
    add("--uki", metavar="F", help="unified kernel image")
    add("--disk", metavar="F", help="raw disk whose ESP the UKI is on: measures its GPT")
    add("--kernel", metavar="F", help="kernel (bzImage) that QEMU loads, instead of --uki")
    add("--initrd", metavar="F", help="its initrd")
    add("--cmdline", metavar="TEXT", help="its command line")
    add("--as-is", action="store_true", help="QEMU hands the kernel over unchanged (from 10 on)")
    add("--acpi", metavar="PART=F", action="append", default=[], help="ACPI data the host presents")
    add(
        "--boot-variable",
        metavar="NAME=F",
        action="append",
        default=[],
        help="data of BootOrder, then of each Boot#### in its order",
    )
    add("--observed", metavar="LOG", help="event log of an earlier boot, for what is not given")


def load_boot(args: argparse.Namespace, inputs: Inputs, memory: int | None) -> Boot:
    """Return what is booted; raises `UsageError` for none, or for options of both kinds."""
    if (args.uki is None) == (args.kernel is None):
        raise UsageError("what is booted is not clear", code="boot", expected="--uki or --kernel")
    unfit = (
        (args.initrd, args.cmdline, args.as_is or None) if args.uki is not None else (args.disk,)
    )
    if any(one is not None for one in unfit):
        raise UsageError(
            "these options do not go together",
            code="boot",
            expected="--uki with --disk; --kernel with --initrd, --cmdline, --as-is",
        )
    if args.uki is not None:
        uki = parse_uki(inputs.load("UKI", args.uki))
        require_command_line(uki.command_line)
        disk = None if args.disk is None else inputs.head("disk", args.disk)
        return UkiBoot(uki=uki, disk=disk)
    initrd = b"" if args.initrd is None else inputs.load("initrd", args.initrd)
    kernel = inputs.load("kernel", args.kernel)
    # Refused before it is changed: what is wrong is in the file.
    parse_pe(kernel, what="the kernel")
    if not args.as_is:
        if memory is None:
            raise UsageError(
                "where QEMU puts the initrd depends on the memory",
                code="memory",
                expected="--memory",
            )
        kernel = patch_kernel(kernel, len(initrd), memory)
    return KernelBoot(
        kernel=parse_pe(kernel, what="the kernel"),
        initrd=initrd,
        command_line=require_command_line(args.cmdline or ""),
    )


def load_prediction(name: str | None) -> Prediction | None:
    """Return the measurements of a TDX guest in a file; None stays None."""
    return None if name is None else require_tdx(load_parsed(name, parse_measurements))


def settings_of(boot: Boot, memory: int | None) -> dict[str, str]:
    """Return what is recorded of a machine besides its files."""
    told = {} if memory is None else {"memory": str(memory)}
    if isinstance(boot, UkiBoot):
        told |= {"boot": "UKI", "command_line": boot.uki.command_line}
        return told if boot.uki.stub is None else told | {"stub": boot.uki.stub}
    return told | {"boot": "kernel", "command_line": boot.command_line}


def parse_size(text: str) -> int:
    """Return bytes from digits with K, M, G or T behind them, or none; raises `UsageError`."""
    found = _SIZE.fullmatch(text)
    if found is None:
        raise UsageError(
            "the memory has no such size",
            code="memory",
            expected="bytes, or a number with K, M, G or T",
            observed=ascii(text)[:40],
        )
    return int(found[1]) * _UNITS[found[2]]


def add_event_options(parser: argparse.ArgumentParser) -> None:
    """Declare the events of RTMR3; both options fill one list, in the order of the words."""
    for option, metavar, told in (
        ("--event", "NAME=SHA256", "an event of RTMR3"),
        ("--event-file", "NAME=F", "an event of RTMR3 that measures a file"),
    ):
        parser.add_argument(
            option,
            metavar=metavar,
            action="append",
            default=[],
            dest="events",
            type=partial(_Worded, option),
            help=told,
        )


@dataclass(frozen=True, slots=True)
class _Worded:
    """What stands behind an option that others share their list with."""

    option: str
    text: str


def runtime_events(worded: Iterable[_Worded], inputs: Inputs) -> list[MeasuredEvent]:
    """Return the events of RTMR3 from NAME=SHA256 and NAME=FILE, in that order.

    Raises `UsageError` for one that is named twice, or for those of an image in another order.
    """
    events = []
    for one in worded:
        name, value = _pair(one.text)
        if one.option == "--event":
            digest = _sha256(one.text, value)
        else:
            digest = Digest.of(inputs.load(f"event {name}", value))
        with _as_usage():
            events.append(MeasuredEvent(name=name, sha256=digest))
    names = [event.name for event in events]
    if len(set(names)) < len(names):
        raise UsageError("an event is named twice", code="event", expected="each name once")
    with _as_usage():
        require_launch_order(names)
    return events


@contextmanager
def _as_usage() -> Iterator[None]:
    """Refuse words of the command line as such: no file is malformed."""
    try:
        yield
    except MalformedError as error:
        raise UsageError(
            error.message,
            code=error.code,
            expected=error.expected,
            observed=error.observed,
            hint=error.hint,
        ) from None


def _sha256(text: str, value: str) -> Digest:
    try:
        return Digest.from_hex(value)
    except MalformedError as error:
        is_extension = _SHA384.fullmatch(value) is not None
        raise UsageError(
            f"--event {ascii(text)[:80]} names no SHA-256 digest",
            code="event",
            expected=error.expected,
            observed=f"{counted(len(value), 'character')}: {ascii(value)[:40]}",
            hint="that is the SHA-384 by which RTMR3 is extended; measure-runtime shows SHA-256 too"
            if is_extension
            else "of a file: --event-file NAME=F; of an image: measure-runtime boot --dry-run",
        ) from None


def named_files(pairs: Iterable[str], inputs: Inputs) -> list[tuple[str, bytes]]:
    """Return (NAME, contents) of each NAME=FILE."""
    found = [_pair(pair) for pair in pairs]
    if len({name for name, _ in found}) < len(found):
        raise UsageError("a file is named twice", code="pair", expected="each NAME=F once")
    return [(name, inputs.load(name, path)) for name, path in found]


def _pair(text: str) -> tuple[str, str]:
    name, mark, value = text.partition("=")
    if not (_NAME.fullmatch(name) and mark and value):
        raise UsageError(
            f"{ascii(text)[:60]} is not usable",
            code="pair",
            expected="NAME=VALUE, with a name of at most 64 printable ASCII characters",
        )
    return name, value
