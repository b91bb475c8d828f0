"""The small archives that systemd-stub appends to the initrd, byte for byte as it writes them.

Format: cpio "newc" (Linux, Documentation/driver-api/early-userspace/buffer-format.rst), with the
values that systemd's src/boot/cpio.c fills in.
"""

from __future__ import annotations

_DIRECTORY, _FILE = 0o040000, 0o100000
_TRAILER = "TRAILER!!!"


def pack_extra(name: str, content: bytes) -> bytes:
    """Return the archive of one read-only file `.extra/NAME`."""
    return b"".join(
        (
            _entry(1, _DIRECTORY | 0o555, ".extra", b""),
            _entry(2, _FILE | 0o444, f".extra/{name}", content),
            _entry(0, 0, _TRAILER, b""),
        )
    )


def align4(data: bytes) -> bytes:
    """Return `data` with zeroes up to the next multiple of four bytes."""
    return data + bytes(-len(data) % 4)


def _entry(inode: int, mode: int, name: str, content: bytes) -> bytes:
    fields = (inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
    # Only the trailer, which is a constant there, has its digits in upper case.
    digits = "X" if name == _TRAILER else "x"
    head = "070701" + "".join(format(field, f"08{digits}") for field in fields)
    return align4(f"{head}{name}\0".encode()) + align4(content)
