"""What the content of an event says, for those whose digest proves it.

Formats: TCG PC Client Platform Firmware Profile section 10 (UEFI_VARIABLE_DATA, UEFI_GPT_DATA,
tagged events); UEFI 2.10 section 5.3 (GPT).  The digest covers the content, not the type that a
CC event log gives it: content that does not fit its type is shown as plain bytes.
"""

from __future__ import annotations

import hashlib
import struct
import uuid
from typing import TYPE_CHECKING

from attestation.errors import MalformedError
from attestation.tdx.cursor import Cursor
from attestation.tdx.runtime import parse_runtime_content

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from attestation.encoding.strict_json import JsonValue
    from attestation.tdx.events import Event

    Fields = dict[str, JsonValue]

MAX_SHOWN_BYTES = 64
MAX_SHOWN_CHARS = 512
MAX_PARTITIONS = 128

_VARIABLE = struct.Struct("<16sQQ")
_TAG = struct.Struct("<II")
_GPT_HEADER = struct.Struct("<8sIIII4Q16sQIII")
_GPT_COUNT = struct.Struct("<Q")
_GPT_ENTRY = struct.Struct("<16s16sQQQ72s")
_GPT_SIGNATURE = b"EFI PART"

_NAMESPACES = {
    "8be4df61-93ca-11d2-aa0d-00e098032b8c": "EFI global variable",
    "d719b2cb-3d3a-4596-a3bc-dad00e67656f": "image security database",
    "605dab50-e046-4300-abb6-3dd810dd8b23": "shim",
}
_SEPARATORS = {
    b"\x00\x00\x00\x00": "the firmware hands over",
    b"\xff\xff\xff\xff": "the firmware hands over",
    b"\x01\x00\x00\x00": "the firmware met an error",
}
# Variables that are one truth value.
_FLAGS = frozenset({"SecureBoot", "SetupMode", "AuditMode", "DeployedMode"})


def read_content(event: Event) -> Fields | None:
    """Return what the proven content of `event` says, as plain JSON values; None if none is.

    `kind` is "gateway-event", "efi-variable", "separator", "partition-table", "tagged", "text" or
    "bytes".  Text is cut to 512 characters and may hold control characters; bytes are given in
    hexadecimal if they are few, else by their SHA-256.
    """
    content = event.content
    if content is None:
        return None
    for read in (_gateway_event, _READERS.get(event.type, _plain)):
        try:
            return read(content)
        except MalformedError:
            # It does not fit that kind.  The digest still proves the bytes.
            continue
    return _plain(content)


def _gateway_event(content: bytes) -> Fields:
    return {"kind": "gateway-event", **parse_runtime_content(content).to_json()}


def _variable(content: bytes) -> Fields:
    reader = _cursor(content)
    guid, name_chars, size = reader.unpack(_VARIABLE)
    name = _utf16(reader.take(2 * name_chars))
    data = reader.take(size)
    _require_end(reader)
    namespace = str(uuid.UUID(bytes_le=guid))
    fields: Fields = {
        **_plain(data),
        "kind": "efi-variable",
        "guid": namespace,
        "namespace": _NAMESPACES.get(namespace),
        "name": name[:MAX_SHOWN_CHARS],
        "size": size,
    }
    if name in _FLAGS and data in (b"", b"\x00", b"\x01"):
        fields["value"] = data == b"\x01"
    return fields


def _separator(content: bytes) -> Fields:
    if content not in _SEPARATORS:
        raise _unfit()
    return {"kind": "separator", "hex": content.hex(), "meaning": _SEPARATORS[content]}


def _partition_table(content: bytes) -> Fields:
    reader = _cursor(content)
    signature, *_, disk, _, _, _, _ = reader.unpack(_GPT_HEADER)
    (count,) = reader.unpack(_GPT_COUNT)
    if signature != _GPT_SIGNATURE or count > MAX_PARTITIONS:
        raise _unfit()
    partitions = [_partition(reader) for _ in range(count)]
    _require_end(reader)
    return {
        "kind": "partition-table",
        "disk": str(uuid.UUID(bytes_le=disk)),
        "partitions": list(partitions),
    }


def _partition(reader: Cursor) -> Fields:
    kind, guid, first, last, attributes, name = reader.unpack(_GPT_ENTRY)
    return {
        "type": str(uuid.UUID(bytes_le=kind)),
        "guid": str(uuid.UUID(bytes_le=guid)),
        "first_lba": first,
        "last_lba": last,
        "attributes": f"{attributes:#x}",
        "name": _utf16(name).rstrip("\x00"),
    }


def _tagged(content: bytes) -> Fields:
    reader = _cursor(content)
    tag, size = reader.unpack(_TAG)
    data = reader.take(size)
    _require_end(reader)
    return {**_plain(data), "kind": "tagged", "tag": f"{tag:#010x}"}


def _wide_text(content: bytes) -> Fields:
    text = _utf16(content).rstrip("\x00")
    if not text.isprintable():
        raise _unfit()
    return {"kind": "text", "text": text[:MAX_SHOWN_CHARS]}


def _plain(content: bytes) -> Fields:
    try:
        text = content.decode("utf-8").removesuffix("\x00")
    except UnicodeDecodeError:
        return {"kind": "bytes", **_bytes(content)}
    if not content or not text.replace("\n", "").isprintable():
        return {"kind": "bytes", **_bytes(content)}
    return {"kind": "text", "text": text[:MAX_SHOWN_CHARS]}


def _bytes(data: bytes) -> Fields:
    if len(data) <= MAX_SHOWN_BYTES:
        return {"size": len(data), "hex": data.hex()}
    return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _utf16(data: bytes) -> str:
    try:
        return data.decode("utf-16-le")
    except UnicodeDecodeError as error:
        raise _unfit() from error


def _require_end(reader: Cursor) -> None:
    if reader.peek(1):
        raise _unfit()


def _cursor(content: bytes) -> Cursor:
    return Cursor(content, what="the event's content", code="event_content")


def _unfit() -> MalformedError:
    return MalformedError("the event's content does not fit its type", code="event_content")


_READERS: Mapping[int, Callable[[bytes], Fields]] = {
    0x00000004: _separator,
    0x00000006: _tagged,
    0x00000008: _wide_text,
    0x80000001: _variable,
    0x80000002: _variable,
    0x80000006: _partition_table,
    0x8000000C: _variable,
    0x800000E0: _variable,
}
