"""Case files: what they may say, and what counts as an expected result."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import MalformedError
from attestation.policy.cases import Case, Cases, differences, parse_cases
from attestation.policy.toml import toml_pair
from attestation.result import AttestationResult, Check, Status, Verdict
from tests.refusals import refusal

PLAIN: dict[str, Any] = {
    "name": "plain",
    "bundle": "evidence/bundle.json",
    "at": 1_790_000_000,
    "verdict": "ACCEPTED",
}
FULL: dict[str, Any] = {
    **PLAIN,
    "endorsements": ["c.json"],
    "high_water": "seen/mark.json",
    "roots": ["root.pem"],
    "policy": "other.toml",
    "receipt": "ab" * 16,
    "request": "a/r.request",
    "response": "a/r.response",
    "nonce": "abcdefgh",
    "model_lock": "model.lock",
    "checks": {"QUOTE-GENUINE": "pass", "NONCE": "skip"},
    "failing": ["TCB-STATUS", "PLATFORM"],
}


def file_text(*cases: dict[str, Any], head: str = 'schema = "policy-cases/1"\n') -> bytes:
    text = head
    for case in cases:
        pairs = [toml_pair(key, item) for key, item in case.items() if item is not None]
        text += "[[cases]]\n" + "\n".join(pairs) + "\n"
    return text.encode()


def refused(**changes: Any) -> MalformedError:
    with pytest.raises(MalformedError) as caught:
        parse_cases(file_text({**PLAIN, **changes}))
    return caught.value


def test_every_key_is_read() -> None:
    parsed = parse_cases(file_text(FULL, head='schema = "policy-cases/1"\npolicy = "p.toml"\n'))
    assert parsed == Cases(
        policy="p.toml",
        cases=(
            Case(
                name="plain",
                bundle="evidence/bundle.json",
                at=1_790_000_000,
                verdict=Verdict.ACCEPTED,
                endorsements=("c.json",),
                high_water="seen/mark.json",
                roots=("root.pem",),
                policy="other.toml",
                receipt="ab" * 16,
                request="a/r.request",
                response="a/r.response",
                nonce="abcdefgh",
                model_lock="model.lock",
                checks=(("QUOTE-GENUINE", Status.PASS), ("NONCE", Status.SKIP)),
                failing=frozenset({"TCB-STATUS", "PLATFORM"}),
            ),
        ),
    )


def test_quote_with_collateral_is_a_case() -> None:
    (case,) = parse_cases(
        file_text({**PLAIN, "bundle": None, "quote": "q.bin", "collateral": "c.json"})
    ).cases
    assert (case.quote, case.collateral, case.bundle) == ("q.bin", "c.json", None)
    assert (case.roots, case.checks, case.failing) == ((), (), frozenset())


def test_instant_may_be_a_date() -> None:
    text = file_text({**PLAIN, "at": None}) + b"at = 2026-09-30T12:00:00Z\n"
    assert parse_cases(text).cases[0].at == 1_790_769_600


@pytest.mark.parametrize("key", ["name", "at", "verdict"])
def test_key_that_a_case_needs_is_missed_with_its_path(key: str) -> None:
    error = refused(**{key: None})
    assert error.code == "cases_missing"
    named = "" if key == "name" else " (the case 'plain')"
    assert error.message == f"the case file lacks cases[0].{key}{named}"


def test_error_names_the_case_in_its_own_words() -> None:
    assert "(the case 'what the policy lets in')" in str(
        refused(name="what the policy lets in", verdict="accepted")
    )
    assert "cases[0].verdict" in str(refused(verdict="accepted"))


def test_case_that_is_no_table_is_refused() -> None:
    with pytest.raises(MalformedError) as caught:
        parse_cases(b'schema = "policy-cases/1"\ncases = ["plain"]\n')
    assert "cases[0]" in caught.value.message
    assert "the case '" not in caught.value.message


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"verdict": "accepted"}, "cases[0].verdict"),
        ({"verdict": "PASS"}, "cases[0].verdict"),
        ({"bundle": None}, "cases[0]"),
        ({"quote": "q.bin"}, "cases[0]"),
        ({"collateral": "c.json"}, "cases[0].collateral"),
        ({"bundle": None, "quote": "q", "endorsements": ["c.json"]}, "cases[0].endorsements"),
        ({"bundle": None, "quote": "q", "receipt": "ab" * 16}, "cases[0].receipt"),
        ({"request": "r"}, "cases[0].request"),
        ({"response": "r"}, "cases[0].response"),
        ({"nonce": "n"}, "cases[0].nonce"),
        ({"model_lock": "m"}, "cases[0].model_lock"),
        ({"receipt": "AB" * 16}, "cases[0].receipt"),
        ({"checks": {}}, "cases[0].checks"),
        ({"checks": "pass"}, "cases[0].checks"),
        ({"checks": {"QUOTE-GENUINE": "passed"}}, "cases[0].checks.QUOTE-GENUINE"),
        ({"checks": {"NO-SUCH": "pass"}}, "cases[0].checks"),
        ({"failing": ["NO-SUCH"]}, "cases[0].failing[0]"),
        ({"failing": []}, "cases[0].failing"),
        ({"roots": []}, "cases[0].roots"),
        ({"high_water": ""}, "cases[0].high_water"),
        ({"high_water": ["mark.json"]}, "cases[0].high_water"),
        ({"high_water": "/mark.json"}, "cases[0].high_water"),
        ({"high_water": "../mark.json"}, "cases[0].high_water"),
        ({"at": "now"}, "cases[0].at"),
        ({"name": "a\nb"}, "cases[0].name"),
        ({"contents": "bodies"}, "cases[0].contents"),
    ],
)
def test_case_that_is_not_understood_is_refused_with_the_path_of_its_key(
    changes: dict[str, Any], path: str
) -> None:
    error = refused(**changes)
    assert error.code in {"cases_value", "cases_empty", "cases_unknown"}
    assert path in error.message
    assert "policy" not in error.message


@pytest.mark.parametrize(
    "path", ["", "/etc/passwd", "../x", "a/../../x", "a/..", "..", " x", "a\\b", "a\nb", "é",
             "x" * 257]
)  # fmt: skip
@pytest.mark.parametrize("key", ["bundle", "roots", "policy"])
def test_path_that_leads_out_of_the_folder_is_refused(path: str, key: str) -> None:
    refused(**{key: [path] if key == "roots" else path})


@pytest.mark.parametrize("path", ["a..b/c", "...", "a b", ".hidden", "a/./b"])
def test_path_that_stays_below_the_folder_is_read(path: str) -> None:
    assert parse_cases(file_text({**PLAIN, "bundle": path})).cases[0].bundle == path


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b'schema = "policy-cases/1"',
        b'schema = "policy-cases/1"\ncases = []',
        file_text(PLAIN, head='schema = "policy-cases/2"\n'),
        file_text(PLAIN, head='schema = "appraisal-policy/1"\n'),
        file_text(PLAIN, head='schema = "policy-cases/1"\nextra = 1\n'),
        file_text(PLAIN, head='schema = "policy-cases/1"\npolicy = "../p.toml"\n'),
        file_text(PLAIN, PLAIN),
        b"\xff",
        b"[[",
    ],
)
def test_file_that_holds_no_cases_is_refused(text: bytes) -> None:
    assert refusal(parse_cases, text).startswith("cases")


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_whatever_the_bytes_only_a_refusal_leaves(data: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_cases(data)


def check(id_: str, status: Status, fault: Verdict | None = None) -> Check:
    return Check(id=id_, subject="quote", status=status, required=True, fault=fault)


RESULT = AttestationResult(
    checks=(
        check("QUOTE-GENUINE", Status.PASS),
        check("TCB-STATUS", Status.FAIL, Verdict.NOT_ACCEPTED),
        check("EVENT-LOG", Status.PASS),
        check("EVENT-LOG", Status.SKIP),
    ),
    at=1,
    policy_digest=None,
    trust_domains=frozenset({"intel"}),
    not_proved=(),
)


def case(**changes: Any) -> Case:
    plain: dict[str, Any] = {"name": "c", "at": 1, "verdict": Verdict.NOT_ACCEPTED, "quote": "q"}
    return Case(**plain | changes)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, ()),
        ({"checks": (("QUOTE-GENUINE", Status.PASS),)}, ()),
        ({"failing": frozenset({"TCB-STATUS"})}, ()),
        ({"verdict": Verdict.ACCEPTED}, ("verdict: expected ACCEPTED, got NOT-ACCEPTED",)),
        (
            {"checks": (("QUOTE-GENUINE", Status.FAIL),)},
            ("QUOTE-GENUINE: expected fail, got pass",),
        ),
        (
            {"checks": (("EVENT-LOG", Status.PASS),)},
            ("EVENT-LOG: expected pass, got pass and skip",),
        ),
        (
            {"checks": (("KEYSET", Status.PASS),)},
            ("KEYSET: expected pass, got no such check",),
        ),
        (
            {"failing": frozenset({"PLATFORM", "TCB-STATUS"})},
            ("failing: expected PLATFORM, TCB-STATUS, got TCB-STATUS",),
        ),
        (
            {"failing": frozenset({"PLATFORM"})},
            ("failing: expected PLATFORM, got TCB-STATUS",),
        ),
    ],
)
def test_difference_is_said_in_words(changes: dict[str, Any], found: tuple[str, ...]) -> None:
    assert differences(case(**changes), RESULT) == found


def test_expected_failure_where_nothing_failed_is_a_difference() -> None:
    clean = AttestationResult(
        checks=(), at=1, policy_digest=None, trust_domains=frozenset(), not_proved=()
    )
    found = differences(case(failing=frozenset({"PLATFORM"}), verdict=clean.verdict), clean)
    assert found == ("failing: expected PLATFORM, got none",)
