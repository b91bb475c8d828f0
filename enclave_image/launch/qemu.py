"""The QEMU command line of a TDX host: nothing in it that the image does not expect.

QEMU 10.1 or newer (docs/system/i386/tdx.rst: `-bios`, split irqchip, no SMM); the release of Debian
trixie has none.  Whatever is added here changes ACPI tables or the memory map, hence RTMR0.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attestation.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

MIN_CID = 3
_MEMORY = re.compile(r"[1-9][0-9]{0,11}[KMGT]")
_VSOCK = re.compile(r"vsock:([0-9]{1,9}):([0-9]{1,9})")
_UNIX = re.compile(r"unix:(/[A-Za-z0-9/._-]{1,100})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """A guest to start: `memory` as QEMU writes it ("64G"), which the prediction has to have too.

    `quotes` is where the host's quote generation service listens: "vsock:2:4050", as Intel's
    service does by default, or "unix:/var/run/tdx-qgs/qgs.socket".  `published` is the port of the
    host that leads to the gateway's 8443, `cid` the guest's address on vsock, if it has one.
    """

    firmware: Path
    disk: Path
    memory: str
    cpus: int
    quotes: str
    published: int
    packs: tuple[Path, ...] = ()
    cid: int | None = None


def command_line(guest: Guest, *, qemu: str = "qemu-system-x86_64") -> list[str]:
    """Return the arguments, program first.  Raises `UsageError` for what cannot be in them."""
    _require(guest)
    domain = {
        "qom-type": "tdx-guest",
        "id": "tdx",
        "quote-generation-socket": _socket(guest.quotes),
    }
    arguments = [
        *(qemu, "-nodefaults", "-no-user-config", "-nographic", "-accel", "kvm"),
        *("-object", json.dumps(domain, separators=(",", ":"))),
        *("-machine", "q35,kernel-irqchip=split,confidential-guest-support=tdx,hpet=off,smm=off"),
        *("-cpu", "host,pmu=off", "-smp", str(guest.cpus), "-m", guest.memory),
        *("-bios", str(guest.firmware), "-serial", "stdio", "-monitor", "none"),
        *("-netdev", f"user,id=net,restrict=off,hostfwd=tcp::{guest.published}-:8443"),
        # No option ROM: the firmware would measure it, and no prediction has it.
        *("-device", "virtio-net-pci,netdev=net,romfile="),
        *_disk("image", guest.disk, boot=0),
    ]
    for number, pack in enumerate(guest.packs):
        arguments += _disk(f"pack{number}", pack)
    if guest.cid is not None:
        arguments += ["-device", f"vhost-vsock-pci,guest-cid={guest.cid}"]
    return arguments


def _disk(name: str, path: Path, *, boot: int | None = None) -> list[str]:
    node = {
        "driver": "raw",
        "node-name": name,
        "read-only": True,
        "file": {"driver": "file", "filename": str(path)},
    }
    order = "" if boot is None else f",bootindex={boot}"
    return [
        *("-blockdev", json.dumps(node, separators=(",", ":"))),
        *("-device", f"virtio-blk-pci,drive={name}{order}"),
    ]


def _socket(quotes: str) -> dict[str, str]:
    if found := _VSOCK.fullmatch(quotes):
        return {"type": "vsock", "cid": found[1], "port": found[2]}
    if found := _UNIX.fullmatch(quotes):
        return {"type": "unix", "path": found[1]}
    raise _refused("quotes", "vsock:CID:PORT or unix:/PATH", quotes)


def _require(guest: Guest) -> None:
    if not _MEMORY.fullmatch(guest.memory):
        # Without a letter QEMU counts MiB, and the prediction bytes.
        raise _refused(
            "memory",
            "a number with K, M, G or T behind it, as attested measure tdx had it",
            guest.memory,
        )
    if not 1 <= guest.cpus <= 1024:
        raise _refused("cpus", "1 to 1024", str(guest.cpus))
    if not 1 <= guest.published <= 0xFFFF:
        raise _refused("port", "1 to 65535", str(guest.published))
    if guest.cid is not None and guest.cid < MIN_CID:
        raise _refused("cid", f"{MIN_CID} or more: those below are the host's", str(guest.cid))
    if len(guest.packs) > 2:
        raise _refused("pack", "at most two: an engine and a model", f"{len(guest.packs)}")


def _refused(option: str, expected: str, observed: str) -> UsageError:
    return UsageError(
        f"no guest can be started with this --{option}",
        code="launch",
        expected=expected,
        observed=ascii(observed)[:80],
        hint="python -m enclave_image.launch --help",
    )
