"""The strict parser: what two readers could read differently does not pass."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.encoding.strict_json import (
    DEFAULT_LIMITS,
    JsonLimits,
    parse_json,
    parse_json_object,
    type_name,
)
from attestation.errors import MalformedError
from tests.refusals import refusal

TEXTS = st.text(alphabet=st.characters(codec="utf-8"), max_size=8)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(min_value=-(2**63), max_value=2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


@given(VALUES, st.booleans(), st.sampled_from([None, 1]))
def test_what_the_standard_library_writes_is_read_back(
    value: object, ascii_only: bool, indent: int | None
) -> None:
    data = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode()
    assert parse_json(data) == value


@given(st.binary(max_size=60) | st.text(alphabet='{}[]",:\\u0dD8e+-.19 ntf', max_size=40))
def test_only_malformed_error_escapes_and_what_passes_is_json(data: bytes | str) -> None:
    raw = data if isinstance(data, bytes) else data.encode()
    try:
        value = parse_json(raw)
    except MalformedError:
        return
    assert json.loads(raw) == value


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(b"", "syntax", id="empty"),
        pytest.param(b"   ", "syntax", id="blank"),
        pytest.param(b"{} {}", "syntax", id="two values"),
        pytest.param(b"{}\x00", "syntax", id="trailing NUL"),
        pytest.param(b"[1,]", "syntax", id="trailing comma"),
        pytest.param(b"{'a':1}", "syntax", id="single quotes"),
        pytest.param(b"[1] // c", "syntax", id="comment"),
        pytest.param(b"NaN", "syntax", id="NaN"),
        pytest.param(b"[Infinity]", "syntax", id="Infinity"),
        pytest.param(b"[-Infinity]", "syntax", id="minus Infinity"),
        pytest.param(b"[01]", "syntax", id="leading zero"),
        pytest.param(b"[+1]", "syntax", id="plus sign"),
        pytest.param(b"[1.]", "syntax", id="no digit after the point"),
        pytest.param("[\u0663]".encode(), "syntax", id="digit of another script"),
        pytest.param(b'["\t"]', "syntax", id="raw control character"),
        pytest.param(b'["\\x41"]', "syntax", id="unknown escape"),
        pytest.param(b'["\\u00e"]', "syntax", id="short escape"),
        pytest.param("\u00a0[]".encode(), "syntax", id="white space that is not JSON's"),
        pytest.param(b"\xef\xbb\xbf{}", "encoding", id="byte order mark"),
        pytest.param("{}".encode("utf-16"), "encoding", id="UTF-16 with mark"),
        pytest.param("{}".encode("utf-16-le"), "syntax", id="UTF-16 without mark"),
        pytest.param("{}".encode("utf-32-be"), "syntax", id="UTF-32"),
        pytest.param(b'"\xed\xa0\x80"', "encoding", id="surrogate as bytes"),
        pytest.param(b'"\xc0\x80"', "encoding", id="overlong UTF-8"),
        pytest.param(b'"\xff"', "encoding", id="byte that is never UTF-8"),
        pytest.param(b'{"a":1,"a":1}', "duplicate_member", id="duplicate"),
        pytest.param(b'[{"x":{"a":1,"b":2,"a":3}}]', "duplicate_member", id="nested duplicate"),
        pytest.param(b'{"a":1,"\\u0061":2}', "duplicate_member", id="duplicate by escape"),
        pytest.param(b'{"":1,"":2}', "duplicate_member", id="duplicate empty name"),
        pytest.param(b'"\\ud800"', "surrogate", id="lone high surrogate"),
        pytest.param(b'["x",{"a":["\\uDFFF"]}]', "surrogate", id="lone low surrogate, nested"),
        pytest.param(b'{"\\uD9ab":1}', "surrogate", id="lone surrogate as name"),
        pytest.param(b'"\\udc00\\ud800"', "surrogate", id="pair in the wrong order"),
        pytest.param(b"18446744073709551616", "number", id="2^64"),
        pytest.param(b"-9223372036854775809", "number", id="below -2^63"),
        pytest.param(b"1e309", "number", id="beyond a double"),
        pytest.param(b"[-1e999]", "number", id="far beyond a double"),
        pytest.param(b"1" * 129, "number", id="129 digits"),
        pytest.param(b"0." + b"1" * 127, "number", id="129 characters of a fraction"),
        pytest.param(b"9" * 5000, "number", id="more digits than int() takes"),
    ],
)
def test_bytes_with_more_than_one_meaning_are_rejected(data: bytes, code: str) -> None:
    assert refusal(parse_json, data) == code


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"18446744073709551615", 2**64 - 1),
        (b"-9223372036854775808", -(2**63)),
        (b"1" + b"0" * 18, 10**18),
        (b"0." + b"1" * 126, float("0." + "1" * 126)),
        (b"-0", 0),
        (b"1e308", 1e308),
        (b"1E-400", 0.0),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b'"\\\\ud800"', "\\ud800"),
        (b' \t\r\n{"a":[]}\n', {"a": []}),
        (b"null", None),
    ],
)
def test_the_last_thing_within_a_limit_is_accepted(data: bytes, value: object) -> None:
    assert parse_json(data) == value


def test_depth_128_passes_and_129_does_not() -> None:
    for opening, closing in ((b"[", b"]"), (b'{"a":', b"}"), (b'[{"a":', b"}]")):
        levels = opening.count(b"[") + opening.count(b"{")
        deep = 128 // levels
        assert parse_json(opening * deep + b"1" + closing * deep)
        wide = b"[" + opening * deep + b"1" + closing * deep + b"]"
        assert refusal(parse_json, wide) == "depth"


@pytest.mark.parametrize("levels", [128, 129])
@pytest.mark.parametrize("ends", [(b"[", b"]"), (b'{"a":', b"}")])
def test_depth_of_large_document_is_bounded_alike(levels: int, ends: tuple[bytes, bytes]) -> None:
    opening, closing = ends
    large = b'"' + b"x" * 100_000 + b'"'
    document = opening * levels + large + closing * levels
    if levels == 128:
        parse_json(document)
    else:
        assert refusal(parse_json, document) == "depth"


def test_brackets_in_strings_and_siblings_are_no_depth() -> None:
    assert parse_json(b'"' + b"[{" * 500 + b'"') == "[{" * 500
    assert parse_json(b'["' + b"[{" * 500 + b'"]') == ["[{" * 500]
    assert parse_json(b"[" + b",".join([b"[{}]"] * 500) + b"]") == [[{}]] * 500


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"":'])
def test_depth_bomb_is_rejected_before_the_stack_ends(opening: bytes) -> None:
    assert refusal(parse_json, opening * 100_000) in {"depth", "syntax"}


def test_ten_thousand_members_pass_and_one_more_does_not() -> None:
    def document(count: int) -> bytes:
        inner = {f"m{number}": 0 for number in range(count - 2)}
        return json.dumps({"a": inner, "b": [{}]}).encode()

    assert parse_json(document(10_000))
    assert refusal(parse_json, document(10_001)) == "members"


def test_size_limit_counts_bytes() -> None:
    limits = JsonLimits(max_bytes=4)
    assert parse_json('"é"'.encode(), limits) == "é"
    assert refusal(parse_json, '"éé"'.encode(), limits) == "size"
    assert DEFAULT_LIMITS.max_bytes == 16 * 1024 * 1024


def test_object_parser_takes_objects_only() -> None:
    assert parse_json_object(b'{"a":1}') == {"a": 1}
    for data in (b"[]", b"null", b'"x"', b"1", b"true", b"1.5"):
        assert refusal(parse_json_object, data) == "syntax"


def test_object_parser_keeps_the_limits() -> None:
    assert refusal(parse_json_object, b'{"a":1,"b":2}', JsonLimits(max_members=1)) == "members"


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ({}, "an object"),
        ([], "an array"),
        ("", "a string"),
        (True, "a boolean"),
        (1, "an integer"),
        (1.0, "a number"),
        (None, "null"),
        (b"", "bytes"),
    ],
)
def test_types_are_named_as_json_names_them(value: object, name: str) -> None:
    assert type_name(value) == name


def test_message_never_quotes_the_document() -> None:
    for data in (
        b'{"canary":1,"canary":2}',
        b"canary",
        b'["canary\\ud800"]',
        b'{"canary": canary}',
    ):
        with pytest.raises(MalformedError) as caught:
            parse_json(data)
        assert "canary" not in str(caught.value)
        assert "canary" not in repr(vars(caught.value))


def test_syntax_error_says_what_and_where() -> None:
    with pytest.raises(MalformedError) as caught:
        parse_json(b'{"a')
    assert caught.value.observed == "Unterminated string starting at character 1"


@pytest.mark.parametrize(
    ("data", "observed"),
    [
        (b" " * 61, "61 bytes"),
        (b'"\xff"', "other bytes at byte 1"),
        (b"\xef\xbb\xbf{}", "U+FEFF at byte 0"),
        (b'{"a" 1}', "Expecting ':' delimiter at character 5"),
        (b"[{},{},{},[]] x", "Extra data at character 14"),
        (b'{"a":1,"b":2,"c":3,"d":4}', "4 where object 1 ends"),
        (b'[{"b":{}},{"a":1,"a":2}]', "1 name for 2 members, in object 3"),
        (b"9" * 20, "one of 20 characters"),
        (b"1e999", "one of 5 characters"),
        (b"1" * 31, "31 characters"),
        (b"NaN", "the constant NaN"),
        (b"[[[[]]]]", "more"),
        (b'"a\\ud800"', "one alone, character 1 of a string of 2"),
    ],
)
def test_every_refusal_says_what_was_expected_and_what_was_seen_where(
    data: bytes, observed: str
) -> None:
    limits = JsonLimits(max_bytes=60, max_depth=3, max_members=3, max_number_chars=30)
    with pytest.raises(MalformedError) as caught:
        parse_json(data, limits)
    assert caught.value.expected
    assert caught.value.observed.startswith(observed)
