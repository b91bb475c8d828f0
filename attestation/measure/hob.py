"""The TD HOB: the list of memory ranges that QEMU hands to the firmware, measured into RTMR0.

Format: UEFI Platform Initialization, volume 3, hand-off blocks; what QEMU writes into them:
hw/i386/tdvf-hob.c and the ranges of target/i386/kvm/tdx.c.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attestation.errors import UsageError
from attestation.measure.tdvf import SectionType

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from attestation.measure.tdvf import Section

MIN_MEMORY = 16 << 20
MAX_MEMORY = 1 << 46
FOUR_GIB = 1 << 32

# From this size on, QEMU's q35 machine keeps only the first 2 GiB below the PCI hole.
_SPLIT_FROM = 0xB000_0000
_LOW_WHEN_SPLIT = 0x8000_0000

_HANDOFF = struct.Struct("<HHIII5Q")
_RESOURCE = struct.Struct("<HHI16sIIQQ")
_END_OF_LIST = 8
_HOB_HANDOFF, _HOB_RESOURCE = 1, 3
_HANDOFF_VERSION = 9
_SYSTEM_MEMORY, _UNACCEPTED = 0, 7
_PRESENT_INITIALIZED_TESTED = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class _Range:
    start: int
    end: int
    accepted: bool = False


def low_memory(memory: int) -> int:
    """Return how many of `memory` bytes a q35 machine has below 4 GiB."""
    return _LOW_WHEN_SPLIT if memory >= _SPLIT_FROM else memory


def make_td_hob(sections: Sequence[Section], memory: int) -> bytes:
    """Return the TD HOB of a guest with `memory` bytes, as far as the firmware measures it.

    The firmware's temporary memory and the HOB itself are accepted, the rest is not.  Raises
    `UsageError` for a size of memory that no such guest can have.
    """
    low = low_memory(memory)
    used = [one for one in sections if one.type in (SectionType.TD_HOB, SectionType.TEMP_MEM)]
    least = max([MIN_MEMORY, *(one.address + one.memory for one in used)])
    if not least <= low or memory > MAX_MEMORY or memory % 4096:
        raise UsageError(
            "no guest can have this much memory",
            code="memory",
            expected=f"{least} to {MAX_MEMORY} bytes in whole pages, such as 64G",
            observed=f"{memory} bytes",
        )
    (home,) = (one.address for one in sections if one.type is SectionType.TD_HOB)
    resources = b"".join(_resource(one) for one in _ranges(used, low, memory))
    end = home + _HANDOFF.size + len(resources) + _END_OF_LIST
    head = _HANDOFF.pack(_HOB_HANDOFF, _HANDOFF.size, 0, _HANDOFF_VERSION, 0, 0, 0, 0, 0, end)
    return head + resources


def _ranges(used: Iterable[Section], low: int, memory: int) -> list[_Range]:
    ranges = []
    at = 0
    for section in sorted(used, key=lambda section: section.address):
        if section.address > at:
            ranges.append(_Range(start=at, end=section.address))
        at = section.address + section.memory
        ranges.append(_Range(start=section.address, end=at, accepted=True))
    ranges.append(_Range(start=at, end=low))
    if memory > low:
        ranges.append(_Range(start=FOUR_GIB, end=FOUR_GIB + memory - low))
    return ranges


def _resource(one: _Range) -> bytes:
    return _RESOURCE.pack(
        _HOB_RESOURCE,
        _RESOURCE.size,
        0,
        bytes(16),
        _SYSTEM_MEMORY if one.accepted else _UNACCEPTED,
        _PRESENT_INITIALIZED_TESTED,
        one.start,
        one.end - one.start,
    )
