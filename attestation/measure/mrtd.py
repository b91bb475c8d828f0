"""MRTD: what the TDX module measures while the host builds the guest from the firmware.

Source: Intel TDX Module ABI, TDH.MEM.PAGE.ADD and TDH.MR.EXTEND: SHA-384 over 128-byte records,
and behind each of the latter the 256 bytes that it measures.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import TYPE_CHECKING

from attestation.measure.tdvf import PAGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from attestation.measure.tdvf import Section

_RECORD_BYTES = 128
_CHUNK_BYTES = 256


class PageOrder(StrEnum):
    """In which order a host adds and measures the pages of a section; it is the host's choice.

    The design guide leaves it open, so that one firmware has two values that are both right.
    """

    INTERLEAVED = "interleaved"
    """Each page is added, then measured: QEMU from 9, upstream KVM."""
    TWO_PASS = "two-pass"  # noqa: S105 - not a password
    """All pages of a section are added, then all are measured: QEMU 8 and hosts made from it."""


def predict_mrtd(sections: Iterable[Section], order: PageOrder) -> bytes:
    """Return MRTD (48 bytes) of a guest that starts from firmware with these sections."""
    digest = hashlib.sha384()
    for section in sections:
        _measure(section, order, digest.update)
    return digest.digest()


def _measure(section: Section, order: PageOrder, update: Callable[[bytes], None]) -> None:
    pages = range(0, section.memory, PAGE_BYTES)
    content = section.content if section.extended else b""
    if order is PageOrder.TWO_PASS:
        for page in pages:
            _add(section, page, update)
        for page in pages:
            _extend(section, page, content, update)
        return
    for page in pages:
        _add(section, page, update)
        _extend(section, page, content, update)


def _add(section: Section, page: int, update: Callable[[bytes], None]) -> None:
    if not section.augmented:
        update(_record(b"MEM.PAGE.ADD", section.address + page))


def _extend(section: Section, page: int, content: bytes, update: Callable[[bytes], None]) -> None:
    if not section.extended:
        return
    for at in range(page, page + PAGE_BYTES, _CHUNK_BYTES):
        update(_record(b"MR.EXTEND", section.address + at))
        update(content[at : at + _CHUNK_BYTES])


def _record(name: bytes, address: int) -> bytes:
    head = name.ljust(16, b"\0") + address.to_bytes(8, "little")
    return head.ljust(_RECORD_BYTES, b"\0")
