"""Policies that only look like files: they cost their reader no more than their size."""

from __future__ import annotations

import pytest

from attestation.policy import parse_policy
from attestation.policy.parse import MAX_DOTS_IN_LINE, MAX_POLICY_BYTES
from tests.refusals import refusal
from tests.support.bundles import Gateway

TOML = Gateway().policy_toml()
HEAD = 'schema = "appraisal-policy/1"\n'


def dotted(parts: int) -> bytes:
    return (HEAD + ".".join(["a"] * parts) + " = 1\n").encode()


def test_dotted_key_without_end_is_refused_before_it_is_followed() -> None:
    assert refusal(parse_policy, dotted(MAX_DOTS_IN_LINE + 2)) == "policy_toml"
    assert refusal(parse_policy, dotted(MAX_DOTS_IN_LINE + 1)) != "policy_toml"
    assert refusal(parse_policy, dotted(MAX_POLICY_BYTES // 2 - 40)) == "policy_toml"


@pytest.mark.parametrize("line_end", ["\r", "\x0b", "\x0c", "\x85", "\u2028"])
def test_what_is_no_line_end_in_toml_does_not_hide_a_long_key(line_end: str) -> None:
    # bytes.splitlines knows CR as well; TOML allows it nowhere but before LF.
    key = f"a.{line_end}".encode() * 4000 + b"a = 1\n"
    assert refusal(parse_policy, HEAD.encode() + key) == "policy_toml"


@pytest.mark.parametrize("opening", ["[", "{a=", "[{a="])
def test_nesting_without_end_is_refused(opening: str) -> None:
    assert refusal(parse_policy, (HEAD + "x = " + opening * 200_000).encode()) == "policy_toml"


@pytest.mark.parametrize(
    "number", ["9" * 5000, "0x" + "f" * 100_000, "1e999", "-0", "0b1" + "0" * 9]
)
def test_number_without_end_or_out_of_range_is_refused_where_it_cannot_be_meant(
    number: str,
) -> None:
    text = TOML.replace("[tdx]", f"[tdx]\nmax_key_events = {number}", 1)
    if number == "0b1" + "0" * 9:
        assert parse_policy(text.encode()).tdx.max_key_events == 512
    else:
        assert refusal(parse_policy, text.encode()) in ("policy_toml", "policy_value")


@pytest.mark.parametrize("key", ["td\u0445", "TDX", "tdx\\u0000", "\\u202etdx", "tdx "])
def test_key_that_only_looks_known_is_unknown(key: str) -> None:
    text = TOML.replace("[tdx]", f'["{key}"]', 1)
    assert refusal(parse_policy, text.encode()) == "policy_unknown"
