"""What proven content says: read where it fits its type, plain bytes where not, else nothing."""

from __future__ import annotations

import hashlib
import json
import struct
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.tdx.eventdata import MAX_SHOWN_CHARS, read_content
from attestation.tdx.eventlog import parse_runtime_events
from attestation.tdx.events import Event
from attestation.tdx.logfile import parse_log_file
from tests import vectors_path
from tests.tdx.test_runtime_log import key, measured

SEPARATOR, TAG, VERSION, ACTION = 0x4, 0x6, 0x8, 0x80000007
VARIABLE, VARIABLE_BOOT, GPT, VARIABLE_BOOT2, AUTHORITY = (
    0x80000001, 0x80000002, 0x80000006, 0x8000000C, 0x800000E0,
)  # fmt: skip
GLOBAL = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
OTHER = "01234567-89ab-cdef-0123-456789abcdef"


def event(content: bytes | None, kind: int = ACTION, data: bytes = b"claim") -> Event:
    return Event(
        register=0, digest=b"\x01" * 48, type=kind, name="name", data=data, content=content
    )


def variable(name: str, data: bytes, guid: str = GLOBAL) -> bytes:
    text = name.encode("utf-16-le")
    head = struct.pack("<16sQQ", uuid.UUID(guid).bytes_le, len(text) // 2, len(data))
    return head + text + data


def partition(name: str) -> bytes:
    return struct.pack(
        "<16s16sQQQ72s",
        uuid.UUID(OTHER).bytes_le, uuid.UUID(GLOBAL).bytes_le, 34, 99, 1 << 60,
        name.encode("utf-16-le"),
    )  # fmt: skip


def table(*names: str, count: int | None = None, signature: bytes = b"EFI PART") -> bytes:
    header = struct.pack(
        "<8sIIII4Q16sQIII",
        signature, 1 << 16, 92, 0, 0, 1, 2, 3, 4, uuid.UUID(OTHER).bytes_le, 2, 128, 128, 0,
    )  # fmt: skip
    size = len(names) if count is None else count
    return header + struct.pack("<Q", size) + b"".join(map(partition, names))


def test_content_that_the_digest_does_not_prove_is_never_read() -> None:
    for kind in (SEPARATOR, VARIABLE, GPT, ACTION, TAG, VERSION):
        assert read_content(event(None, kind, variable("SecureBoot", b"\x01"))) is None


@pytest.mark.parametrize("kind", [VARIABLE, VARIABLE_BOOT, VARIABLE_BOOT2, AUTHORITY])
def test_variable_is_read(kind: int) -> None:
    assert read_content(event(variable("SecureBoot", b"\x01"), kind)) == {
        "kind": "efi-variable",
        "guid": GLOBAL,
        "namespace": "EFI global variable",
        "name": "SecureBoot",
        "size": 1,
        "hex": "01",
        "value": True,
    }


@pytest.mark.parametrize(("data", "value"), [(b"", False), (b"\x00", False), (b"\x02", None)])
def test_flag_is_on_only_if_it_is_one(data: bytes, value: bool | None) -> None:
    content = read_content(event(variable("SetupMode", data), VARIABLE))
    assert content is not None
    assert content.get("value") is value


@pytest.mark.parametrize("name", ["SecureBoot", "SetupMode", "AuditMode", "DeployedMode"])
def test_every_flag_has_a_truth_value(name: str) -> None:
    content = read_content(event(variable(name, b"\x01"), VARIABLE))
    assert content is not None
    assert content["value"] is True


def test_variable_that_is_no_flag_has_no_truth_value() -> None:
    content = read_content(event(variable("Timeout", b"\x01"), VARIABLE))
    assert content is not None
    assert (content["hex"], content.get("value")) == ("01", None)


def test_partition_table_of_128_is_the_largest() -> None:
    content: Any = read_content(event(table(*"a" * 128), GPT))
    assert len(content["partitions"]) == 128


@pytest.mark.parametrize(
    ("guid", "namespace"),
    [
        (GLOBAL, "EFI global variable"),
        ("d719b2cb-3d3a-4596-a3bc-dad00e67656f", "image security database"),
        ("605dab50-e046-4300-abb6-3dd810dd8b23", "shim"),
    ],
)
def test_makers_of_variables_have_names(guid: str, namespace: str) -> None:
    content = read_content(event(variable("db", b"\x01", guid), VARIABLE))
    assert content is not None
    assert content["namespace"] == namespace


def test_variable_of_another_maker_is_read_without_a_meaning() -> None:
    content = read_content(event(variable("SecureBootX", b"\x01" * 100, OTHER), VARIABLE))
    assert content == {
        "kind": "efi-variable",
        "guid": OTHER,
        "namespace": None,
        "name": "SecureBootX",
        "size": 100,
        "sha256": hashlib.sha256(b"\x01" * 100).hexdigest(),
    }
    text = read_content(event(variable("SbatLevel", b"sbat,1\n"), AUTHORITY))
    assert text is not None
    assert (text["text"], text["size"]) == ("sbat,1\n", 7)


@pytest.mark.parametrize(
    ("word", "meaning"),
    [
        (bytes(4), "the firmware hands over"),
        (b"\xff" * 4, "the firmware hands over"),
        (b"\x01\x00\x00\x00", "the firmware met an error"),
    ],
)
def test_separator_is_read(word: bytes, meaning: str) -> None:
    expected = {"kind": "separator", "hex": word.hex(), "meaning": meaning}
    assert read_content(event(word, SEPARATOR)) == expected


def test_partition_table_is_read() -> None:
    content: Any = read_content(event(table("ROOT-A", ""), GPT))
    assert (content["kind"], content["disk"]) == ("partition-table", OTHER)
    assert content["partitions"][0] == {
        "type": OTHER,
        "guid": GLOBAL,
        "first_lba": 34,
        "last_lba": 99,
        "attributes": "0x1000000000000000",
        "name": "ROOT-A",
    }
    assert content["partitions"][1]["name"] == ""
    assert len(content["partitions"]) == 2


def test_tagged_event_and_version_are_read() -> None:
    tagged = struct.pack("<II", 0x4141454C, 4) + b"some"
    expected = {"kind": "tagged", "tag": "0x4141454c", "text": "some"}
    assert read_content(event(tagged, TAG)) == expected
    wide = "1.0\x00".encode("utf-16-le")
    assert read_content(event(wide, VERSION)) == {"kind": "text", "text": "1.0"}


@pytest.mark.parametrize("value", [measured(), key(3)])
@pytest.mark.parametrize("kind", [0, TAG, 0x08000001])
def test_event_of_the_gateway_is_read_whatever_its_type(value: dict[str, Any], kind: int) -> None:
    (told,) = parse_runtime_events([value])
    assert read_content(event(told.content, kind)) == {"kind": "gateway-event", **value}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"Exit Boot", {"kind": "text", "text": "Exit Boot"}),
        (b"text\x00", {"kind": "text", "text": "text"}),
        (b"a\nb", {"kind": "text", "text": "a\nb"}),
        (b"", {"kind": "bytes", "size": 0, "hex": ""}),
        (b"\x1b[31mred", {"kind": "bytes", "size": 8, "hex": b"\x1b[31mred".hex()}),
        (b"\xff\xfe", {"kind": "bytes", "size": 2, "hex": "fffe"}),
        (b"x" * 600, {"kind": "text", "text": "x" * MAX_SHOWN_CHARS}),
        (b"\x00" * 64, {"kind": "bytes", "size": 64, "hex": "00" * 64}),
        (
            b"\x00" * 65,
            {"kind": "bytes", "size": 65, "sha256": hashlib.sha256(bytes(65)).hexdigest()},
        ),
    ],
)
def test_other_content_is_text_or_bytes(content: bytes, expected: dict[str, Any]) -> None:
    assert read_content(event(content)) == expected


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (SEPARATOR, b"\x02\x00\x00\x00"),
        (SEPARATOR, b""),
        (VARIABLE, variable("a", b"\x01") + b"\x00"),
        (VARIABLE, variable("a", b"\x01")[:-1]),
        (VARIABLE, variable("a", b"\x01")[:10]),
        (VARIABLE, struct.pack("<16sQQ", bytes(16), 1 << 63, 0)),
        (VARIABLE, struct.pack("<16sQQ", bytes(16), 1, 0) + b"\x00\xd8"),
        (GPT, table("a", signature=b"EFI PARX")),
        (GPT, table("a", count=129)),
        (GPT, table(*"a" * 129)),
        (GPT, table("a", count=2)),
        (GPT, table("a") + b"\x00"),
        (TAG, struct.pack("<II", 1, 4) + b"\x00\x01\x02"),
        (TAG, struct.pack("<II", 1, 2) + b"\x00\x01\x02"),
        (VERSION, b"\x01\x00"),
        (VERSION, b"\xff"),
    ],
)
def test_content_that_does_not_fit_its_type_is_plain(kind: int, content: bytes) -> None:
    shown = read_content(event(content, kind))
    assert shown is not None
    assert shown["kind"] == "bytes"


@given(
    st.binary(max_size=300),
    st.sampled_from([SEPARATOR, TAG, VERSION, VARIABLE, GPT, ACTION, 0]),
    st.sampled_from([b"", b"EFI PART", variable("SecureBoot", b"")]),
)
def test_any_content_is_shown_as_small_json(content: bytes, kind: int, start: bytes) -> None:
    shown = read_content(event(start + content, kind))
    assert shown is not None
    assert len(json.dumps(shown)) < 20_000


def test_content_of_a_real_log_is_read() -> None:
    data = (vectors_path.need("tdx") / "google-go-tdx-guest/ccel_data.dat").read_bytes()
    shown: list[Any] = [read_content(one) for one in parse_log_file(data).events]
    kinds = [one["kind"] for one in shown if one]
    assert len(shown) == 43
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "efi-variable": 7,
        "separator": 2,
        "text": 3,
        "partition-table": 1,
    }
    assert shown[2]["name"] == "SecureBoot"
    assert shown[2]["value"] is False
