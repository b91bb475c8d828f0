"""EFI variables: the events that measure them, and the store that a firmware image brings.

Formats: TCG PC Client Platform Firmware Profile, UEFI_VARIABLE_DATA; UEFI 2.10 section 32.4.1,
EFI_SIGNATURE_LIST; edk2, MdeModulePkg/Include/Guid/VariableFormat.h (authenticated variables).
"""

from __future__ import annotations

import struct
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attestation.errors import MalformedError
from attestation.measure.window import Window

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

GLOBAL = uuid.UUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")
IMAGE_SECURITY = uuid.UUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f")
SECURE_BOOT_ENABLE = uuid.UUID("f0a30bc7-af08-4556-99c4-001009c93a44")
MAX_VARIABLES = 1024
MAX_SIGNATURES = 4096

_VARIABLE_DATA = struct.Struct("<16sQQ")

_VOLUME = struct.Struct("<16s16sQ4sIHHHBB")
_VOLUME_GUID = uuid.UUID("fff12b8d-7696-4c8b-a985-2747075b4f50").bytes_le
_STORE = struct.Struct("<16sIBBHI")
_STORE_GUID = uuid.UUID("aaf32c78-947b-439a-a180-2e144ec37792").bytes_le
_FORMATTED, _HEALTHY = 0x5A, 0xFE
_VARIABLE = struct.Struct("<HBBIQ16sIII16s")
_START = 0x55AA
# Added, and either current or about to be replaced by one that follows.
_ADDED, _IN_TRANSITION = 0x3F, 0x3E

_LIST = struct.Struct("<16sIII")
_OWNER_BYTES = 16
_KINDS = {
    uuid.UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072"): "X.509",
    uuid.UUID("c1c41626-504c-4092-aca9-41f936934328"): "SHA-256",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """One entry of a signature database: its kind, who put it there, and the entry itself."""

    kind: uuid.UUID
    owner: uuid.UUID
    data: bytes


def variable_data(vendor: uuid.UUID, name: str, data: bytes) -> bytes:
    """Return the UEFI_VARIABLE_DATA of a variable: what events on its configuration measure."""
    wide = name.encode("utf-16-le")
    return _VARIABLE_DATA.pack(vendor.bytes_le, len(wide) // 2, len(data)) + wide + data


def parse_variable_store(volume: bytes) -> Mapping[tuple[uuid.UUID, str], bytes]:
    """Return the variables that a firmware's variable store holds, by vendor and name.

    1. a firmware volume for variables, and in it a healthy store of authenticated variables
    2. variables follow each other without a gap; what comes after the last is erased flash

    Raises `MalformedError`.
    """
    window = Window(volume, what="the firmware's variable store", code="variables")
    _, guid, _, mark, _, header, *_ = window.unpack(_VOLUME, 0)
    if guid != _VOLUME_GUID or mark != b"_FVH":
        raise window.refusal("a firmware volume for variables", "another volume")
    guid, size, formatted, state, _, _ = window.unpack(_STORE, header)
    if guid != _STORE_GUID or (formatted, state) != (_FORMATTED, _HEALTHY):
        raise window.refusal("a healthy store of authenticated variables", "another store")
    if size < _STORE.size:
        raise window.refusal("a store that holds its own header", f"{size} bytes")
    store = Window(window.take(header, size), what=window.what, code=window.code)
    found: dict[tuple[uuid.UUID, str], bytes] = {}
    for key, data in _variables(store):
        found[key] = data
        if len(found) > MAX_VARIABLES:
            raise window.refusal(f"at most {MAX_VARIABLES} variables", "more")
    return found


def parse_signatures(data: bytes) -> tuple[Signature, ...]:
    """Return the entries of a signature database (PK, KEK, db, dbx); raises `MalformedError`."""
    window = Window(data, what="the signature database", code="signatures")
    found: list[Signature] = []
    at = 0
    while at < len(data):
        kind, size, header, each = window.unpack(_LIST, at)
        entries = window.take(at, size)[_LIST.size + header :]
        if each <= _OWNER_BYTES or size < _LIST.size + header or len(entries) % each:
            raise window.refusal("a list that its entries fill", f"{size} bytes of {each} each")
        for start in range(0, len(entries), each):
            one = entries[start : start + each]
            found.append(
                Signature(
                    kind=uuid.UUID(bytes_le=kind),
                    owner=uuid.UUID(bytes_le=one[:_OWNER_BYTES]),
                    data=one[_OWNER_BYTES:],
                )
            )
        if len(found) > MAX_SIGNATURES:
            raise window.refusal(f"at most {MAX_SIGNATURES} entries", "more")
        at += size
    return tuple(found)


def describe_signatures(data: bytes) -> str:
    """Return what a signature database holds, in words; data of another form is only counted."""
    try:
        found = parse_signatures(data)
    except MalformedError:
        return f"{len(data)} bytes"
    kinds = [_KINDS.get(one.kind, "other") for one in found]
    told = [f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds)]
    return ", ".join(told) or "empty"


def _variables(store: Window) -> Iterator[tuple[tuple[uuid.UUID, str], bytes]]:
    at = _STORE.size
    while at + _VARIABLE.size <= len(store.data):
        start, state, _, _, _, _, _, name_size, size, vendor = store.unpack(_VARIABLE, at)
        if start != _START:
            break
        name = store.take(at + _VARIABLE.size, name_size)
        data_at = at + _VARIABLE.size + name_size
        data = store.take(data_at, size)
        if state in (_ADDED, _IN_TRANSITION):
            yield (uuid.UUID(bytes_le=vendor), _name(store, name)), data
        at = data_at + size + -(data_at + size) % 4
    if store.data[at:].strip(b"\xff"):
        raise store.refusal("erased flash behind the last variable", f"other bytes at {at:#x}")


def _name(store: Window, raw: bytes) -> str:
    try:
        name = raw.decode("utf-16-le")
    except UnicodeDecodeError:
        raise store.refusal("names in UTF-16", "other bytes") from None
    return name.removesuffix("\0")
