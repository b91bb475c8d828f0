"""What is measured from the moment the firmware starts an image until it hands over to Linux.

The same events for TDX and TPM; only the registers differ.  Sources: edk2, BootManagerUiLib and
DxeTpm2MeasureBootLib; systemd v257, src/boot/stub.c; Linux, drivers/firmware/efi/libstub.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from attestation.errors import UsageError
from attestation.measure.gpt import gpt_event
from attestation.measure.prediction import (
    EV_EFI_BOOT_SERVICES_APPLICATION,
    EV_EFI_GPT_EVENT,
    EV_EVENT_TAG,
    EV_IPL,
    action,
    computed,
    digested,
)

if TYPE_CHECKING:
    from attestation.measure.pe import PeImage
    from attestation.measure.prediction import PredictedEvent
    from attestation.measure.uki import Uki

BOOT_ACTION = "Calling EFI Application from Boot Option"
EXIT_ACTIONS = ("Exit Boot Services Invocation", "Exit Boot Services Returned with Success")
# As long as `measurements.json` may have it; kernels take far less.
MAX_COMMAND_LINE = 1 << 16
# What OVMF appends for the initrd that it takes over from QEMU.
DIRECT_SUFFIX = " initrd=initrd"


@dataclass(frozen=True, slots=True, kw_only=True)
class UkiBoot:
    """A boot of a unified kernel image, from the ESP of the disk that begins with `disk`.

    `disk` None: the firmware loads it from elsewhere, and measures no partition table.
    """

    uki: Uki
    disk: bytes | None

    @property
    def partition_table(self) -> tuple[PredictedEvent, ...]:
        """The event of the disk's partition table, if there is a disk."""
        if self.disk is None:
            return ()
        source = "GPT header and entries in use"
        return (computed(EV_EFI_GPT_EVENT, "partition table", gpt_event(self.disk), source),)

    @property
    def before_choice(self) -> tuple[PredictedEvent, ...]:
        """Images measured before the firmware goes through its boot options."""
        return ()

    @property
    def images(self) -> tuple[PredictedEvent, ...]:
        """The images that are loaded: the UKI, then the kernel inside."""
        return (
            _image("UKI digest", self.uki.image, "Authenticode SHA-384 of the UKI"),
            _image("kernel digest", self.uki.kernel, "Authenticode SHA-384 of section .linux"),
        )

    @property
    def sections(self) -> tuple[PredictedEvent, ...]:
        """What the stub measures of the image: each section's name, then its content."""
        return tuple(
            event
            for name, content in self.uki.measured
            for event in (
                computed(EV_IPL, f"name {name}", name.encode() + b"\0", "the section's name"),
                computed(EV_IPL, f"section {name}", content, "the section as loaded"),
            )
        )

    @property
    def kernel_events(self) -> tuple[PredictedEvent, ...]:
        """What the kernel measures of itself: command line, then initrd."""
        line, initrd = self.uki.command_line, self.uki.initrd
        told = "sections .ucode, .initrd and the stub's own archives"
        return (*_load_options(line, "section .cmdline"), *_initrd(initrd, told))


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelBoot:
    """A boot of a kernel, an initrd (maybe empty) and a command line that QEMU hands over."""

    kernel: PeImage
    initrd: bytes
    command_line: str

    @property
    def partition_table(self) -> tuple[PredictedEvent, ...]:
        """No disk is booted from."""
        return ()

    @property
    def before_choice(self) -> tuple[PredictedEvent, ...]:
        """OVMF starts the kernel before it goes through its boot options."""
        return (_image("kernel digest", self.kernel, "Authenticode SHA-384 of the kernel"),)

    @property
    def images(self) -> tuple[PredictedEvent, ...]:
        """Nothing after that."""
        return ()

    @property
    def sections(self) -> tuple[PredictedEvent, ...]:
        """There is no stub that measures sections."""
        return ()

    @property
    def kernel_events(self) -> tuple[PredictedEvent, ...]:
        """What the kernel measures of itself: command line, then initrd."""
        line = self.command_line + (DIRECT_SUFFIX if self.initrd else "")
        return (*_load_options(line, "the command line"), *_initrd(self.initrd, "the initrd"))


Boot = UkiBoot | KernelBoot


def require_command_line(text: str) -> str:
    """Return a command line that can be measured in advance, or raise `UsageError`."""
    if not text.isascii() or "\0" in text or len(text) > MAX_COMMAND_LINE:
        raise UsageError(
            "the command line cannot be predicted",
            code="cmdline",
            expected=f"at most {MAX_COMMAND_LINE} characters of ASCII without NUL",
            hint="firmware and kernel convert other characters each in their own way",
        )
    return text


def exit_actions() -> tuple[PredictedEvent, ...]:
    """Return the two events by which the kernel ends the firmware's services."""
    return tuple(action(text) for text in EXIT_ACTIONS)


def _image(name: str, image: PeImage, source: str) -> PredictedEvent:
    return digested(EV_EFI_BOOT_SERVICES_APPLICATION, name, image.authenticode(), source)


def _load_options(line: str, source: str) -> tuple[PredictedEvent, ...]:
    content = f"{line}\0".encode("utf-16-le")
    return (computed(EV_EVENT_TAG, "command line", content, f"{source}, UTF-16 with NUL"),)


def _initrd(initrd: bytes, source: str) -> tuple[PredictedEvent, ...]:
    return (computed(EV_EVENT_TAG, "initrd", initrd, source),) if initrd else ()
