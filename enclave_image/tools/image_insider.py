"""A program of the host's in the guest: what it takes to get one in, and what it can end.

The image offers nobody a way in, so that the death of the notary cannot be caused from inside.
Here a command line of the host's opens what the image closes (`systemd.import_credentials=`), and
brings a credential that writes files in memory: a program, and a rule of udev's that runs it when
the size of a second disk changes, which is when the host says so. The disk that is booted is the
released one, unchanged; the command line is measured, and a policy refuses such a guest.
"""

from __future__ import annotations

import base64
import time
from pathlib import Path
from typing import Any, Protocol

from image_files import ImageError

MARKER = b"INJECTED-BY-THE-HOST"
CREDENTIAL = "tmpfiles.extra"
_KILLED = MARKER + b" kills the notary"
# What the unit's failure and the kernel say; the journal is behind, so in any order.  The gateway
# is not given the time to say that its notary died.
_ENDED = (b"attested-notary.service: Failed", b"reboot: Power down")
_TRIGGER = 1 << 20
_PATIENCE = 180.0

_PROGRAM = f"""\
import os
open("/dev/kmsg","w").write("{MARKER.decode()} runs")
for p in filter(str.isdigit,os.listdir("/proc")):
 try:
  if b"notary" in open("/proc/"+p+"/cmdline","rb").read():
   open("/dev/kmsg","w").write("{_KILLED.decode()}")
   os.kill(int(p),9)
 except OSError:
  pass
"""
_RULE = 'ACTION=="change",ENV{RESIZE}=="1",RUN+="/usr/bin/python3 /run/x"\n'


class Console(Protocol):
    """What is asked of the machine (`image_machine.Machine`)."""

    def console(self) -> bytes: ...
    def wait_ended(self, seconds: float) -> bool: ...
    def execute(self, command: str, **arguments: Any) -> Any: ...  # noqa: ANN401 - QMP's answer


def tmpfiles() -> str:
    """The credential: lines of tmpfiles.d that write the program and the rule."""
    program = _PROGRAM.replace("\n", "\\n")
    rule = _RULE.replace("\n", "\\n")
    return f"f+ /run/x - - - - {program}\nf+ /run/udev/rules.d/x.rules - - - - {rule}\n"


def opening() -> str:
    """The words on the command line that let the credential in."""
    text = base64.b64encode(tmpfiles().encode()).decode()
    return f"systemd.import_credentials=yes systemd.set_credential_binary={CREDENTIAL}:{text}"


def trigger_disk(folder: Path) -> tuple[str, ...]:
    """Arguments of QEMU: the disk whose size changes."""
    disk = folder / "trigger.raw"
    disk.write_bytes(bytes(_TRIGGER))
    return (
        *("-drive", f"if=none,id=trigger,format=raw,file={disk}"),
        *("-device", "virtio-blk-pci,drive=trigger,id=second"),
    )


def pull(machine: Console, times: int) -> None:
    """Have the guest see another size of the second disk, each time a larger one."""
    size = _TRIGGER * (times + 1)
    machine.execute("block_resize", device="trigger", size=size)


def require_dormant(machine: Console) -> None:
    """Nothing of the host's runs when the trigger is pulled, or `ImageError`."""
    for times in (1, 2):
        pull(machine, times)
        if machine.wait_ended(15.0):
            raise ImageError("expected the gateway to go on, but the machine has ended")
    if MARKER in machine.console():
        raise ImageError("expected nothing of the host's to run, seen its program")


def require_end(machine: Console) -> str:
    """The host's program kills the notary, and the machine powers off, or `ImageError`."""
    end = time.monotonic() + _PATIENCE
    times = 0
    while _KILLED not in machine.console():
        times += 1
        pull(machine, times)
        if machine.wait_ended(10.0):
            break
        if time.monotonic() > end:
            tail = machine.console()[-3000:].decode(errors="replace")
            raise ImageError(f"expected the host's program to run, seen it not; console:\n{tail}")
    if not machine.wait_ended(_PATIENCE):
        raise ImageError("the notary was killed; expected the machine to end, but it runs")
    console = machine.console()
    if _KILLED not in console or any(text not in console for text in _ENDED):
        tail = console[-3000:].decode(errors="replace")
        raise ImageError(f"the machine ended, but not for the notary's sake; console:\n{tail}")
    return "the notary was killed: the boot ended, the unit failed, the machine powered off"
