"""RFC 8785: one byte form of every value, and nothing else is canonical."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from decimal import localcontext
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from attestation.encoding import jcs
from attestation.encoding.strict_json import JsonLimits, parse_json
from attestation.errors import MalformedError
from tests.refusals import refusal

TEXTS = st.text(alphabet=st.characters(codec="utf-8"), max_size=8)
SCALARS = st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | TEXTS


def nested(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=5),
        max_leaves=12,
    )


@given(nested(SCALARS))
def test_restricted_form_agrees_with_an_independent_implementation(value: Any) -> None:
    assert jcs.canonicalize(value) == rfc8785.dumps(value) == jcs.canonicalize_full(value)


@given(nested(SCALARS | st.floats(allow_nan=False, allow_infinity=False)))
def test_full_form_agrees_with_an_independent_implementation(value: Any) -> None:
    assert jcs.canonicalize_full(value) == rfc8785.dumps(value)


@given(nested(SCALARS))
def test_canonical_bytes_are_read_back_and_accepted_as_canonical(value: Any) -> None:
    assert jcs.parse_canonical(jcs.canonicalize(value)) == value


@given(nested(SCALARS))
def test_only_the_canonical_spelling_is_accepted(value: Any) -> None:
    spelling = json.dumps(value, indent=1).encode()
    if spelling == jcs.canonicalize(value):
        assert jcs.parse_canonical(spelling) == value
    else:
        assert refusal(jcs.parse_canonical, spelling) == "not_canonical"


@given(st.binary(max_size=60))
def test_only_malformed_error_escapes(data: bytes) -> None:
    try:
        value = jcs.parse_canonical(data)
    except MalformedError:
        return
    assert jcs.canonicalize(value) == data


def test_members_are_sorted_by_utf16_code_units() -> None:
    # RFC 8785 section 3.2.3: an emoji (surrogates D83D DE00) sorts before U+FB33.
    names = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "\u00f6"]
    expected = ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]
    canonical = jcs.canonicalize(dict.fromkeys(names))
    assert list(json.loads(canonical)) == expected
    assert list(json.loads(jcs.canonicalize_full(dict.fromkeys(names)))) == expected


def test_strings_use_the_shortest_escapes_only() -> None:
    text = '\b\t\n\f\r"\\/\x00\x1f\x7f\u2028é'
    expected = '"\\b\\t\\n\\f\\r\\"\\\\/\\u0000\\u001f\x7f\u2028é"'
    assert jcs.canonicalize(text) == expected.encode()


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.0, "0"),
        (-0.0, "0"),
        (5e-324, "5e-324"),
        (-5e-324, "-5e-324"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
        (9007199254740992.0, "9007199254740992"),
        (295147905179352830000.0, "295147905179352830000"),
        (999999999999999900000.0, "999999999999999900000"),
        (1e20, "100000000000000000000"),
        (1e21, "1e+21"),
        (1.5e21, "1.5e+21"),
        (1e-6, "0.000001"),
        (1.5e-6, "0.0000015"),
        (1e-7, "1e-7"),
        (1.25e-7, "1.25e-7"),
        (333333333.3333332, "333333333.3333332"),
        (-0.1, "-0.1"),
        (123.0, "123"),
        (2**53 + 1, "9007199254740992"),
        (2**64, "18446744073709552000"),
    ],
)
def test_numbers_are_written_as_ecmascript_writes_them(number: float, text: str) -> None:
    assert jcs.canonicalize_full(number) == text.encode()


def test_number_form_does_not_depend_on_the_decimal_context_of_the_caller() -> None:
    with localcontext() as context:
        context.prec = 3
        assert jcs.canonicalize_full(333333333.3333332) == b"333333333.3333332"


@pytest.mark.parametrize("value", [2**53 - 1, -(2**53) + 1])
def test_largest_safe_integer_has_a_canonical_form(value: int) -> None:
    assert jcs.canonicalize(value) == str(value).encode()


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(2**53, id="2^53"),
        pytest.param(-(2**53), id="-2^53"),
        pytest.param(1.0, id="float"),
        pytest.param([1, {"a": 0.5}], id="nested float"),
        pytest.param({1: 2}, id="name that is no string"),
        pytest.param({"a": b"x"}, id="bytes"),
        pytest.param((1, 2), id="tuple"),
        pytest.param("\ud800", id="lone surrogate"),
        pytest.param({"\udfff": 1}, id="lone surrogate in a name"),
    ],
)
def test_value_without_restricted_form_is_rejected(value: Any) -> None:
    assert refusal(jcs.canonicalize, value) == "jcs"


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(math.nan, id="NaN"),
        pytest.param([-math.inf], id="infinity"),
        pytest.param(10**400, id="integer beyond a double"),
        pytest.param({1: 2}, id="name that is no string"),
        pytest.param({"a": {1}}, id="set"),
        pytest.param("\ud800", id="lone surrogate"),
        pytest.param({"\udfff": 1}, id="lone surrogate in a name"),
    ],
)
def test_value_without_full_form_is_rejected(value: Any) -> None:
    assert refusal(jcs.canonicalize_full, value) == "jcs"


@pytest.mark.parametrize("form", [jcs.canonicalize, jcs.canonicalize_full])
def test_endless_nesting_is_a_refusal_and_no_crash(form: Callable[[Any], bytes]) -> None:
    value: list[Any] = []
    value.append(value)
    assert refusal(form, value) == "jcs"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b'{"b":1,"a":2}', "not_canonical"),
        (b'{"a": 1}', "not_canonical"),
        (b'{"a":1}\n', "not_canonical"),
        (b'"\\u0061"', "not_canonical"),
        (b'"\\/"', "not_canonical"),
        (b'"\\u000A"', "not_canonical"),
        (b"-0", "not_canonical"),
        (b"1.5", "jcs"),
        (b"1e3", "jcs"),
        (b"9007199254740992", "jcs"),
        (b'{"a":1,"a":1}', "duplicate_member"),
        (b"", "syntax"),
    ],
)
def test_document_in_another_form_is_rejected(data: bytes, code: str) -> None:
    assert refusal(jcs.parse_canonical, data) == code


def test_limits_apply_to_canonical_documents() -> None:
    assert refusal(jcs.parse_canonical, b"[[]]", JsonLimits(max_depth=1)) == "depth"
    assert jcs.parse_canonical(b"[[]]", JsonLimits(max_depth=2)) == [[]]


def test_refusal_names_the_document() -> None:
    with pytest.raises(MalformedError, match="the keyset"):
        jcs.parse_canonical(b" 1", what="the keyset")


@pytest.mark.parametrize("name", ["arrays", "structures", "values"])
def test_published_examples_have_their_published_form(
    vectors: Callable[[str], Path], name: str
) -> None:
    folder = vectors("jcs")
    value = parse_json((folder / "input" / f"{name}.json").read_bytes())
    assert jcs.canonicalize_full(value) == (folder / "output" / f"{name}.json").read_bytes()
