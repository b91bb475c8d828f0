"""Checks that another one would hide, and bounds that must not be hit too early."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from attestation.encoding import base64url, jcs
from attestation.encoding.strict_json import JsonLimits, parse_json
from attestation.errors import MalformedError
from tests.refusals import refusal

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@pytest.mark.parametrize("data", [b"[[1],[2]]", b'{"a":{"b":1},"c":{"d":2}}', b'[["x"],{"a":1}]'])
def test_values_inside_the_deepest_containers_are_no_level(data: bytes) -> None:
    assert parse_json(data, JsonLimits(max_depth=2))
    assert refusal(parse_json, data, JsonLimits(max_depth=1)) == "depth"


def test_member_name_that_is_no_text_is_the_one_that_is_shown() -> None:
    odd: dict[Any, int] = {"a": 1, 2: 3}
    with pytest.raises(MalformedError) as caught:
        jcs.canonicalize(odd)
    assert caught.value.observed == "an integer"


@pytest.mark.parametrize("length", [1, 2, 3])
def test_short_text_is_refused_or_the_only_one_for_its_bytes(length: int) -> None:
    taken = set()
    for tail in itertools.product(ALPHABET, repeat=min(length, 2)):
        text = "".join(tail).rjust(length, "A")
        try:
            data = base64url.decode(text)
        except MalformedError:
            continue
        assert base64url.encode(data) == text
        taken.add(data)
    assert len(taken) == {1: 0, 2: 256, 3: 4096 // 4}[length]
