"""The three ways a case gives its bytes, and how each can be wrong."""

from __future__ import annotations

import hashlib
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.conformance.inputs import MAX_INPUT_BYTES, case_bytes, decode_base64
from tests.conformance.conftest import b64
from tests.refusals import refusal


def compressed(data: bytes, **changes: object) -> dict[str, object]:
    members = {
        "zlib_b64": b64(zlib.compress(data)),
        "length": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    return members | changes


@given(st.binary(max_size=50))
def test_bytes_are_the_same_in_every_form(data: bytes) -> None:
    digest = hashlib.sha256(data).hexdigest()
    assert case_bytes({"bytes_b64": b64(data)}, "x") == data
    assert case_bytes({"bytes_b64": b64(data), "sha256": digest}, "x") == data
    assert case_bytes(compressed(data), "x") == data


@pytest.mark.parametrize(
    ("length", "expected"), [(0, b""), (1, b"a"), (3, b"aba"), (4, b"abab"), (5, b"ababa")]
)
def test_unit_is_repeated_and_cut_to_the_length(length: int, expected: bytes) -> None:
    assert case_bytes({"repeat_b64": b64(b"ab"), "length": length}, "x") == expected


@pytest.mark.parametrize(
    "members",
    [
        pytest.param({}, id="no form"),
        pytest.param({"bytes_b64": "", "zlib_b64": ""}, id="two forms"),
        pytest.param({"bytes_b64": "A"}, id="no base64"),
        pytest.param({"bytes_b64": "é"}, id="not ASCII"),
        pytest.param({"bytes_b64": "AA==", "sha256": "0" * 64}, id="another SHA-256"),
        pytest.param({"bytes_b64": "AA==", "sha256": None}, id="SHA-256 is null"),
        pytest.param({"repeat_b64": "YQ=="}, id="repeated without length"),
        pytest.param({"repeat_b64": "", "length": 1}, id="nothing repeated"),
        pytest.param({"repeat_b64": "YQ==", "length": -1}, id="negative length"),
        pytest.param({"repeat_b64": "YQ==", "length": True}, id="boolean length"),
        pytest.param({"repeat_b64": "YQ==", "length": MAX_INPUT_BYTES + 1}, id="too long"),
        pytest.param(compressed(b"abc", length=2), id="longer than said"),
        pytest.param(compressed(b"abc", length=4), id="shorter than said"),
        pytest.param(compressed(b"abc", length=None), id="no length"),
        pytest.param(compressed(b"abc", sha256="0" * 64), id="inflates to another SHA-256"),
        pytest.param(compressed(b"abc", zlib_b64=b64(b"abc")), id="no zlib stream"),
        pytest.param(
            compressed(b"abc", zlib_b64=b64(zlib.compress(b"abc")[:-1])), id="stream cut short"
        ),
        pytest.param(compressed(bytes(1 << 20), length=10), id="bomb"),
    ],
)
def test_unusable_input_is_rejected(members: dict[str, object]) -> None:
    assert refusal(case_bytes, members, "x") == "case"


@pytest.mark.parametrize(
    "members",
    [{"bytes_b64": 1}, {"zlib_b64": b64(zlib.compress(b"abc")), "length": 3}],
    ids=["base64 that is no text", "zlib without SHA-256"],
)
def test_missing_text_is_rejected(members: dict[str, object]) -> None:
    assert refusal(case_bytes, members, "x") == "manifest"


def test_largest_length_is_64_mib() -> None:
    assert MAX_INPUT_BYTES == 64 * 1024 * 1024
    assert len(case_bytes({"repeat_b64": "YQ==", "length": MAX_INPUT_BYTES}, "x")) == 1 << 26


def test_base64_member_is_decoded_strictly() -> None:
    assert decode_base64({"k": "YQ=="}, "k", "x") == b"a"
    assert refusal(decode_base64, {"k": "YQ"}, "k", "x") == "case"
