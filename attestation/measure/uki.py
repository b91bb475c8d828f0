"""Unified kernel images: what systemd-stub measures of them, and what it hands to the kernel.

Sources: UAPI group, Unified Kernel Image; systemd v257, src/boot/stub.c and src/fundamental/uki.c.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attestation.errors import MalformedError
from attestation.measure.cpio import align4, pack_extra
from attestation.measure.pe import PeImage, parse_pe

if TYPE_CHECKING:
    from attestation.measure.pe import PeSection

# In the order in which they are measured; the signature of expected values is not.
MEASURED = (
    ".linux",
    ".osrel",
    ".cmdline",
    ".initrd",
    ".ucode",
    ".splash",
    ".dtb",
    ".uname",
    ".sbat",
    ".pcrpkey",
    ".dtbauto",
    ".hwids",
)
# Sections that become files of the initrd, in the order of their archives.
_EXTRA = {
    ".pcrsig": "tpm2-pcr-signature.json",
    ".pcrpkey": "tpm2-pcr-public-key.pem",
    ".osrel": "os-release",
}
_STUB = re.compile(rb"#### LoaderInfo: (systemd-stub [\x20-\x7e]{1,64}) ####")
# Control characters and blanks: what the stub turns into spaces inside, and strips at the ends.
_BLANK = re.compile(r"[\x01-\x20\x7f]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Uki:
    """A unified kernel image; `stub` is what its boot stub calls itself, None if it does not."""

    image: PeImage
    kernel: PeImage
    stub: str | None

    def content(self, name: str) -> bytes | None:
        """Return a section as it lies in memory, None without one of this name."""
        found = self.image.sections_named(name)
        return found[0].content if found else None

    @property
    def measured(self) -> list[tuple[str, bytes]]:
        """The sections that the stub measures, by name, in its order."""
        found = ((name, self.content(name)) for name in MEASURED)
        return [(name, content) for name, content in found if content is not None]

    @property
    def command_line(self) -> str:
        """The embedded command line as the kernel gets it; empty if there is none."""
        text = (self.content(".cmdline") or b"").split(b"\0", 1)[0].decode("ascii")
        return _BLANK.sub(" ", text).strip(" ")

    @property
    def initrd(self) -> bytes:
        """All of what the kernel gets as initrd: microcode, initrd, and the stub's own archives.

        The archives are of what is in the image; credentials and extensions from beside it on
        the ESP would come in between.
        """
        own = [self.content(".ucode"), self.content(".initrd")]
        extra = [
            pack_extra(name, content)
            for section, name in _EXTRA.items()
            if (content := self.content(section)) is not None
        ]
        parts = [part for part in own if part] + extra
        # A lone initrd is passed on as it is; several are joined, each padded.
        return parts[0] if len(parts) == 1 else b"".join(map(align4, parts))


def parse_uki(data: bytes) -> Uki:
    """Return a unified kernel image.

    1. the file is a PE image with one `.linux` section, itself a PE image, and no other section
       that the stub reads more than once: images of several profiles are refused
    2. the sections that the stub reads are in the file as a whole
    3. its command line is ASCII

    Raises `MalformedError`.
    """
    image = parse_pe(data, what="the UKI")
    for name in (*MEASURED, *_EXTRA):
        _require_whole(image.sections_named(name), name)
    linux = image.sections_named(".linux")
    if not linux:
        raise _refused("a section .linux", "none", "for a plain kernel give --kernel")
    if image.sections_named(".profile"):
        raise _refused("an image of one profile", "a section .profile", "build it without profiles")
    kernel = parse_pe(linux[0].content, what="the UKI's section .linux")
    magic = image.sections_named(".sdmagic")
    found = _STUB.search(magic[0].raw) if magic else None
    uki = Uki(image=image, kernel=kernel, stub=found[1].decode("ascii") if found else None)
    try:
        uki.command_line  # noqa: B018 - read once, so that it can be read at all
    except UnicodeDecodeError:
        raise _refused("a command line in ASCII", "other bytes") from None
    return uki


def _require_whole(sections: list[PeSection], name: str) -> None:
    if len(sections) > 1:
        raise _refused(f"one section {name}", f"{len(sections)}", "build it without profiles")
    for section in sections:
        if section.memory > len(section.raw):
            raise _refused(
                f"a section {name} that is all in the file",
                f"{len(section.raw)} of {section.memory} bytes",
            )


def _refused(expected: str, observed: str, hint: str = "") -> MalformedError:
    return MalformedError(
        "the UKI cannot be measured in advance",
        code="uki",
        expected=expected,
        observed=observed,
        hint=hint,
    )
