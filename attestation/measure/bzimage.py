"""What QEMU writes into the setup header of a kernel that it loads itself, before hashing it.

Sources: Linux, Documentation/arch/x86/boot.rst (the header); QEMU, hw/i386/x86-common.c,
x86_load_linux (the values).  From version 10 QEMU also hands over the kernel as it is, for
firmware that asks for it.
"""

from __future__ import annotations

import struct

from attestation.measure.hob import low_memory
from attestation.measure.window import Window

_MAGIC_AT, _MAGIC = 0x202, b"HdrS"
_PROTOCOL = struct.Struct("<H")
_U32 = struct.Struct("<I")
_OLDEST = 0x20C
_REAL_MODE, _COMMAND_LINE = 0x10000, 0x20000
# What a q35 machine keeps free below the end of low memory for its ACPI tables.
_ACPI_BYTES = 0x28000
_ABOVE_4G = 2
_HIGHEST = 0xFFFF_FFFF


def patch_kernel(kernel: bytes, initrd_size: int, memory: int) -> bytes:
    """Return a bzImage as QEMU changes it for an initrd and a machine of these sizes in bytes.

    1. loader type 0xB0, heap usable up to where the command line lies, command line at 0x20000
    2. the initrd's size, and its address: as high in low memory as the kernel takes it

    Raises `MalformedError` for a kernel that is none, or older than boot protocol 2.12.
    """
    window = Window(kernel, what="the kernel", code="kernel")
    (protocol,) = window.unpack(_PROTOCOL, 0x206)
    if window.take(_MAGIC_AT, 4) != _MAGIC or protocol < _OLDEST:
        raise window.refusal("a bzImage of boot protocol 2.12 or later", f"{protocol:#06x}")
    (flags,) = window.unpack(_PROTOCOL, 0x236)
    (limit,) = window.unpack(_U32, 0x22C)
    if flags & _ABOVE_4G:
        limit = _HIGHEST
    patched = bytearray(kernel)
    patched[0x210] = 0xB0
    patched[0x211] |= 0x80
    _PROTOCOL.pack_into(patched, 0x224, _COMMAND_LINE - _REAL_MODE - 0x200)
    _U32.pack_into(patched, 0x228, _COMMAND_LINE)
    if initrd_size:
        top = min(limit, low_memory(memory) - _ACPI_BYTES - 1)
        if top < initrd_size:
            raise window.refusal("an initrd that fits into low memory", f"{initrd_size} bytes")
        _U32.pack_into(patched, 0x218, (top - initrd_size) & ~0xFFF)
        _U32.pack_into(patched, 0x21C, initrd_size)
    return bytes(patched)
