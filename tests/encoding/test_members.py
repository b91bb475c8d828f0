"""Closed members: what is not asked for is refused, what is asked for is of its type."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.encoding.digest import Digest
from attestation.encoding.members import Members
from attestation.errors import MalformedError
from tests.refusals import refusal

HEX = "ab" * 32
READERS = {
    "text": str,
    "integer": int,
    "flag": bool,
    "digest_hex": str,
    "digest_base64url": str,
    "bytes_base64url": str,
    "array": list,
    "mapping": dict,
    "object": dict,
}


def of(value: object) -> Members:
    return Members({"m": value}, "the thing")


@pytest.mark.parametrize("value", [None, True, 1, 1.5, "x", [], [{}]])
def test_what_is_not_an_object_has_no_members(value: object) -> None:
    assert refusal(Members, value, "the thing") == "member_type"


@pytest.mark.parametrize("reader", [*READERS, "raw"])
def test_missing_member_is_rejected_by_every_reader(reader: str) -> None:
    members = Members({"other": 1}, "the thing")
    assert refusal(getattr(members, reader), "m") == "missing_member"
    with pytest.raises(MalformedError, match=r'the thing.*"m"'):
        getattr(members, reader)("m")


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("value", [None, True, 1, 1.5, "x", [], {}])
def test_member_of_another_type_is_rejected_by_every_reader(reader: str, value: object) -> None:
    if type(value) is READERS[reader]:
        return
    assert refusal(getattr(of(value), reader), "m") == "member_type"


def test_boolean_is_never_an_integer_and_integer_never_a_boolean() -> None:
    assert refusal(of(True).integer, "m") == "member_type"
    assert refusal(of(1).flag, "m") == "member_type"


def test_readers_return_the_values_and_close_is_content() -> None:
    members = Members(
        {
            "t": "x",
            "i": 7,
            "f": False,
            "h": HEX,
            "d": Digest.from_hex(HEX).base64url,
            "b": "AAE",
            "a": [1],
            "m": {"k": 1},
            "o": {"p": "q"},
            "n": None,
            "r": 1.5,
        },
        "the thing",
    )
    assert members.text("t") == "x"
    assert members.integer("i") == 7
    assert members.flag("f") is False
    assert members.digest_hex("h") == Digest.from_hex(HEX)
    assert members.digest_base64url("d") == Digest.from_hex(HEX)
    assert members.bytes_base64url("b") == b"\x00\x01"
    assert members.array("a") == [1]
    assert members.mapping("m") == {"k": 1}
    inner = members.object("o")
    assert members.is_null("n")
    assert refusal(members.close) == "unknown_member"
    assert members.raw("r") == 1.5
    members.close()
    with pytest.raises(MalformedError, match=r"the thing\.o.*'p'"):
        inner.close()
    assert inner.text("p") == "q"
    inner.close()


def test_unknown_members_are_named_but_not_endlessly() -> None:
    members = Members({f"n{number}": 0 for number in range(8)} | {"z" * 100: 0}, "the thing")
    with pytest.raises(MalformedError) as caught:
        members.close()
    assert caught.value.observed == "'n0', 'n1', 'n2', 'n3', 'n4' and 4 more"
    with pytest.raises(MalformedError) as caught:
        Members({"z" * 65: 0}, "the thing").close()
    assert caught.value.observed == ascii("z" * 64)


def test_exactly_five_unknown_members_are_all_named() -> None:
    with pytest.raises(MalformedError) as caught:
        Members(dict.fromkeys("edcba"), "the thing").close()
    assert caught.value.observed == "'a', 'b', 'c', 'd', 'e'"


def test_unknown_member_names_are_shown_without_control_characters() -> None:
    with pytest.raises(MalformedError) as caught:
        Members({"\x1b[31m\n": 0}, "the thing").close()
    assert "\x1b" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_asking_whether_a_member_is_there_does_not_read_it() -> None:
    members = of(1)
    assert members.has("m")
    assert not members.has("n")
    assert refusal(members.close) == "unknown_member"


def test_null_counts_as_read_only_where_it_is_null() -> None:
    members = Members({"m": 0, "n": None}, "the thing")
    assert members.is_null("m") is False
    assert members.is_null("absent") is False
    assert members.is_null("n") is True
    assert refusal(members.close) == "unknown_member"
    members.integer("m")
    members.close()


@pytest.mark.parametrize(
    ("value", "options", "accepted"),
    [
        ("a" * 256, {}, True),
        ("a" * 257, {}, False),
        ("abc", {"max_chars": 3}, True),
        ("abcd", {"max_chars": 3}, False),
        ("abc", {"pattern": "[a-c]+"}, True),
        ("abcd", {"pattern": "[a-c]+"}, False),
        ("abc\n", {"pattern": "[a-c]+"}, False),
        ("xabc", {"pattern": re.compile("[a-c]+")}, False),
        ("abc", {"pattern": re.compile("[a-c]+")}, True),
        ("on", {"choices": ("on", "off")}, True),
        ("On", {"choices": ("on", "off")}, False),
        ("", {"choices": ("on", "off")}, False),
    ],
)
def test_text_keeps_its_bounds(value: str, options: dict[str, Any], accepted: bool) -> None:
    if accepted:
        assert of(value).text("m", **options) == value
    else:
        assert refusal(of(value).text, "m", **options) == "member_value"


@pytest.mark.parametrize(
    ("value", "options", "accepted"),
    [
        (0, {}, True),
        (-1, {}, False),
        (2**53 - 1, {}, True),
        (2**53, {}, False),
        (3, {"minimum": 3, "maximum": 3}, True),
        (2, {"minimum": 3}, False),
        (4, {"maximum": 3}, False),
        (-5, {"minimum": -5}, True),
    ],
)
def test_integer_keeps_its_bounds(value: int, options: dict[str, Any], accepted: bool) -> None:
    if accepted:
        assert of(value).integer("m", **options) == value
    else:
        assert refusal(of(value).integer, "m", **options) == "member_value"


def test_bytes_keep_their_bounds() -> None:
    assert of("AAAA").bytes_base64url("m", length=3) == bytes(3)
    assert refusal(of("AAAA").bytes_base64url, "m", length=2) == "base64url"
    assert of("AAAA").bytes_base64url("m", max_bytes=3) == bytes(3)
    assert refusal(of("AAAA").bytes_base64url, "m", max_bytes=2) == "member_value"
    assert refusal(of("AAA=").bytes_base64url, "m") == "base64url"
    assert refusal(of("A" * 4 * 21846).bytes_base64url, "m") == "member_value"
    # A stated length replaces the general bound.
    assert of("AAAA").bytes_base64url("m", length=3, max_bytes=2) == bytes(3)


def test_digests_keep_their_spelling() -> None:
    assert refusal(of(HEX.upper()).digest_hex, "m") == "digest"
    assert refusal(of(HEX).digest_base64url, "m") == "base64url"


def test_array_keeps_its_bound() -> None:
    assert of([1, 2]).array("m", max_items=2) == [1, 2]
    assert refusal(of([1, 2]).array, "m", max_items=1) == "member_value"
    assert refusal(of([0] * 10_001).array, "m") == "member_value"


@given(st.dictionaries(st.text(max_size=4), st.none() | st.integers() | st.text(max_size=4)))
def test_close_refuses_exactly_what_was_not_read(value: dict[str, Any]) -> None:
    members = Members(value, "the thing")
    for position, name in enumerate(value):
        assert refusal(members.close) == "unknown_member"
        assert members.raw(name) == value[name], position
    members.close()


def test_messages_carry_no_values() -> None:
    members = of("canary")
    for call in (
        lambda: members.text("m", max_chars=1),
        lambda: members.text("m", choices=("x",)),
        lambda: members.text("m", pattern="x"),
        lambda: members.digest_hex("m"),
        lambda: members.integer("m"),
    ):
        with pytest.raises(MalformedError) as caught:
            call()
        assert "canary" not in str(caught.value)
