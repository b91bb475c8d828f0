"""The injections: what a host slips in, and how each has to end."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from image_changes import (
    Change,
    add_boot_option,
    partitions,
    put_on_esp,
    spoil_settings,
    spoil_superblock,
)
from image_files import ImageError, artefact, host
from image_insider import CREDENTIAL, opening, tmpfiles, trigger_disk

_UKI = "EFI/BOOT/BOOTX64.EFI"
_STUB = "/usr/lib/systemd/boot/efi/addonx64.efi.stub"
_UNIT = "[Unit]\nDescription=INJECTED-BY-THE-HOST\n[Service]\nExecStart=/usr/bin/kmod\n"
_SMBIOS = "type=11,value=io.systemd.stub.kernel-cmdline-extra="
# With a console, so that one sees the kernel start where this takes the place of the image's own.
_OPENED = (
    "console=ttyS0 init=/bin/sh systemd.debug_shell"
    " LD_PRELOAD=/tmp/x.so PYTHONPATH=/tmp SSL_CERT_FILE=/tmp/x"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One injection: QEMU's further arguments, a change to a copy of the disk or the variables.

    `registers` are those of the TPM that must not be as predicted, and no others may differ: none
    where the guest is to take no notice, or to end. `end` says what follows: "measured" (nothing
    more is looked at), "ignored" (the gateway serves as without), "panic" (dm-verity ends the
    machine), "opened" (the gateway serves, and a program of the host's ends it).
    """

    name: str
    end: Literal["measured", "ignored", "panic", "opened"]
    registers: frozenset[str] = frozenset()
    extra: tuple[str, ...] = ()
    change: Change | None = None
    variables: Callable[[bytes], bytes] | None = None


def credential_arguments(folder: Path) -> tuple[str, ...]:
    """A credential by both ways a host has: SMBIOS strings and fw_cfg files."""
    folder.mkdir(parents=True, exist_ok=True)
    words: list[str] = []
    # The first would run a program, see image_insider; the second is a unit. fw_cfg takes names
    # of 55 bytes, 27 of them a prefix.
    for name, text in ((CREDENTIAL, tmpfiles()), ("systemd.extra-unit.x.service", _UNIT)):
        path = folder / name
        path.write_text(text)
        words += ["-fw_cfg", f"name=opt/io.systemd.credentials/{name},file={path}"]
        smbios = folder / f"{name}.smbios"
        smbios.write_text(f"io.systemd.credential:{name}={text}")
        words += ["-smbios", f"type=11,path={smbios}"]
    return tuple(words)


def make_addon(out: Path) -> bytes:
    """An addon to a UKI: a PE file that adds words to its command line."""
    path = out / "injected.addon.efi"
    path.unlink(missing_ok=True)
    done = subprocess.run(
        host("ukify", "build", f"--stub={_STUB}", f"--cmdline={_OPENED}", f"--output={path}"),
        capture_output=True,
        check=False,
    )
    if done.returncode:
        raise ImageError(f"ukify: {done.stderr.decode(errors='replace')[-1000:]}")
    return path.read_bytes()


def cases(profile: str, folder: Path, out: Path) -> tuple[Case, ...]:
    """Every injection and how it has to end."""
    return (*_command_lines(profile, folder), *_beside(out), *_altered(), *_credentials(out))


def _command_lines(profile: str, folder: Path) -> tuple[Case, ...]:
    uki, disk = artefact(folder, profile, "efi"), artefact(folder, profile, "raw")

    def option(store: bytes) -> bytes:
        esp = partitions(disk)["esp"]
        return add_boot_option(store, esp=esp, file=f"/{_UKI}", arguments=_OPENED)

    return (
        Case(
            name="command line by SMBIOS, which systemd-stub adds outside of a TDX guest",
            end="measured",
            registers=frozenset({"pcr9", "pcr12"}),
            extra=("-smbios", f"{_SMBIOS}{_OPENED}"),
        ),
        Case(
            name="command line by the loader: UKI started by QEMU with one of its own",
            end="measured",
            registers=frozenset({"pcr4", "pcr5", "pcr9", "pcr12"}),
            extra=("-kernel", str(uki), "-append", _OPENED),
        ),
        Case(
            name="command line by a boot option: Boot0099 and BootNext in the firmware's variables",
            end="measured",
            registers=frozenset({"pcr9", "pcr12"}),
            variables=option,
        ),
    )


def _beside(out: Path) -> tuple[Case, ...]:
    addon = make_addon(out)
    unit = _UNIT.encode()
    return (
        Case(
            name="credentials on the ESP: beside the UKI, and for every UKI",
            end="measured",
            registers=frozenset({"pcr9", "pcr12"}),
            change=put_on_esp(
                {f"{_UKI}.extra.d/injected.cred": unit, "loader/credentials/injected.cred": unit}
            ),
        ),
        Case(
            name="addon on the ESP beside the UKI",
            end="measured",
            registers=frozenset({"pcr4", "pcr9", "pcr12"}),
            change=put_on_esp({f"{_UKI}.extra.d/injected.addon.efi": addon}),
        ),
        Case(
            name="addon on the ESP for every UKI",
            end="measured",
            registers=frozenset({"pcr4", "pcr9", "pcr12"}),
            change=put_on_esp({"loader/addons/injected.addon.efi": addon}),
        ),
        Case(
            name="extensions of system and settings on the ESP beside the UKI",
            end="measured",
            registers=frozenset({"pcr9", "pcr12", "pcr13"}),
            change=put_on_esp(
                {
                    f"{_UKI}.extra.d/injected.sysext.raw": unit,
                    f"{_UKI}.extra.d/injected.confext.raw": unit,
                }
            ),
        ),
    )


def _altered() -> tuple[Case, ...]:
    return (
        Case(name="one bit of the root's superblock", end="panic", change=spoil_superblock),
        Case(name="one bit of a file that the gateway reads", end="panic", change=spoil_settings),
    )


def _credentials(out: Path) -> tuple[Case, ...]:
    disk = trigger_disk(out)
    return (
        Case(
            name="credentials by SMBIOS and fw_cfg: a program of the host's, and a unit",
            end="ignored",
            extra=(*credential_arguments(out / "credentials"), *disk),
        ),
        Case(
            name="the same program by a command line that opens the image; it kills the notary",
            end="opened",
            registers=frozenset({"pcr9", "pcr12"}),
            extra=("-smbios", f"{_SMBIOS}{opening()}", *disk),
        ),
    )
