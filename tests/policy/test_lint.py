"""Every finding of the lint, each on the policy that differs from a clean one in that alone."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation import verifier
from attestation.checks import CHECKS
from attestation.policy import parse_policy
from attestation.policy.finding import Finding, Severity
from attestation.policy.lint import NEVER_MADE, lint_policy

AT = 1_790_000_000
DAY = 86_400
SOON = AT + 30 * DAY
REGISTER = '"' + "ab" * 48 + '"'
ZERO = '"' + "00" * 48 + '"'
DIGEST = '"' + "cd" * 32 + '"'

TDX = {
    "min_tcb_evaluation_number": "17",
    "min_tcb_date": "2025-05-14",
    "mrseam": f"[{REGISTER}]",
}
TUPLE = {
    "name": '"one"',
    "mrtd": REGISTER,
    "rtmr0": REGISTER,
    "rtmr1": REGISTER,
    "rtmr2": REGISTER,
    "rtmr3": '"replay"',
    "events": f'[{{ name = "model.lock", digest = {REGISTER} }}]',
    "config_digest": DIGEST,
    "origin": '"gateway.example"',
    "model": DIGEST,
}
PLATFORM = {"ppid": f'["{"ef" * 16}"]'}
MORE = "[endorsements]\nmax_age_days = 30\n"


def lines(table: dict[str, str], changes: dict[str, str | None]) -> str:
    merged = {**table, **changes}
    return "\n".join(f"{key} = {value}" for key, value in merged.items() if value is not None)


def policy_text(
    *,
    tdx: dict[str, str | None] | None = None,
    platform: dict[str, str | None] | None = None,
    values: dict[str, str | None] | None = None,
    more: str = MORE,
) -> str:
    return (
        'schema = "appraisal-policy/1"\n'
        f"[tdx]\n{lines(TDX, tdx or {})}\n[platform]\n{lines(PLATFORM, platform or {})}\n{more}\n"
        f"[[reference_values]]\n{lines(TUPLE, values or {})}\n"
    )


def linted(text: str, at: int = AT) -> tuple[Finding, ...]:
    return lint_policy(parse_policy(text.encode()), at)


def only(text: str, at: int = AT) -> Finding:
    (finding,) = linted(text, at)
    return finding


def test_policy_that_says_everything_has_no_finding() -> None:
    assert linted(policy_text()) == ()


STATUS = '["UpToDate", {{ status = "{}", until = {} }}]'


@pytest.mark.parametrize(
    ("tdx", "code", "path"),
    [
        ({"min_tcb_evaluation_number": None}, "no_evaluation_number", "min_tcb_evaluation_number"),
        ({"mrseam": None}, "no_mrseam", "mrseam"),
        ({"unbound_keys": '"allow"'}, "unbound_keys", "unbound_keys"),
        ({"max_key_events": "2"}, "many_starts", "max_key_events"),
        ({"xfam": "[0x602e7, 0xe7]"}, "unusual_xfam", "xfam[1]"),
        ({"attributes": "0x8000000010000000"}, "unusual_attributes", "attributes"),
        (
            {"attributes": "{ value = 0x10000000, mask = 0x10000001 }"},
            "open_attributes",
            "attributes.mask",
        ),
        ({"tcb_status": STATUS.format("OutOfDate", SOON)}, "weak_status", "tcb_status[1]"),
        ({"tcb_status": '["SWHardeningNeeded"]'}, "weak_status", "tcb_status[0]"),
        (
            {"advisories": f'[{{ id = "INTEL-SA-01192", until = {SOON} }}]'},
            "open_advisory",
            "advisories[0]",
        ),
        (
            {"tcb_status": f'[{{ status = "UpToDate", until = {AT + 367 * DAY} }}]'},
            "far_end",
            "tcb_status[0].until",
        ),
    ],
)
def test_weak_tdx_rule_is_one_warning_at_its_key(
    tdx: dict[str, str | None], code: str, path: str
) -> None:
    finding = only(policy_text(tdx=tdx))
    assert (finding.severity, finding.code) == (Severity.WARNING, code)
    assert finding.path == f"tdx.{path}"
    assert finding.meaning
    assert finding.remedy


def test_absent_version_floor_is_a_note_and_either_key_is_one() -> None:
    finding = only(policy_text(tdx={"min_tcb_date": None}))
    assert (finding.severity, finding.code) == (Severity.NOTE, "no_version_floor")
    other: dict[str, str | None] = {"min_tcb_date": None, "min_tee_tcb_svn": f'"01{"00" * 15}"'}
    assert linted(policy_text(tdx=other)) == ()


@pytest.mark.parametrize(
    ("key", "value"), [("min_tcb_date", "1970-01-01"), ("min_tee_tcb_svn", f'"{"00" * 16}"')]
)
def test_version_floor_of_zero_is_none(key: str, value: str) -> None:
    finding = only(policy_text(tdx={"min_tcb_date": None, key: value}))
    assert finding.code == "no_version_floor"


@pytest.mark.parametrize(
    "word",
    [
        "0x10000001",
        "0x30000000",
        "0",
        "{ value = 1, mask = 1 }",
    ],
)
def test_attributes_that_the_floor_refuses_are_an_error(word: str) -> None:
    findings = linted(policy_text(tdx={"attributes": word}))
    assert Severity.ERROR in {one.severity for one in findings}
    assert "refused_attributes" in {one.code for one in findings}


def test_mask_that_leaves_sept_ve_disable_out_is_open_and_no_error() -> None:
    finding = only(policy_text(tdx={"attributes": "{ value = 0, mask = 1 }"}))
    assert finding.code == "open_attributes"
    assert "0xfffffffffffffffe" in finding.meaning


def test_ends_are_judged_at_the_instant_that_was_given() -> None:
    text = policy_text(tdx={"tcb_status": STATUS.format("OutOfDate", SOON)})
    assert [one.code for one in linted(text, SOON - 1)] == ["weak_status"]
    assert [one.code for one in linted(text, SOON)] == ["weak_status", "ended"]
    assert [one.code for one in linted(text, SOON - 366 * DAY)] == ["weak_status"]
    assert [one.code for one in linted(text, SOON - 366 * DAY - 1)] == ["weak_status", "far_end"]


def test_status_list_that_has_wholly_ended_is_an_error() -> None:
    text = policy_text(tdx={"tcb_status": f'[{{ status = "UpToDate", until = {AT} }}]'})
    assert [one.code for one in linted(text)] == ["ended", "no_status"]
    assert linted(text)[-1].severity is Severity.ERROR
    assert linted(text, AT - 1) == ()


@pytest.mark.parametrize(
    ("more", "severity", "code", "path"),
    [
        ("", "warning", "no_max_age", "endorsements.max_age_days"),
        (
            "[endorsements]\nmax_age_days = 31\n",
            "warning",
            "long_max_age",
            "endorsements.max_age_days",
        ),
        (MORE + "[log]\nrequire_anchored = false", "warning", "not_anchored", "log."),
        (MORE + "[gpu]\nrequired = true", "error", "never_made", "gpu.required"),
        (
            MORE + "[lineage]\nrequire_complete = true",
            "error",
            "never_made",
            "lineage.require_complete",
        ),
        (MORE + '[require]\nchecks = ["WITNESS"]', "error", "never_made", "require.checks"),
        (MORE + '[require]\nchecks = ["KEYSET"]', "note", "floor", "require.checks"),
        (MORE + '[require]\nchecks = ["CHANNEL"]', "note", "live_only", "require.checks"),
    ],
)
def test_other_tables_have_their_findings(more: str, severity: str, code: str, path: str) -> None:
    finding = only(policy_text(more=more))
    assert (finding.severity, finding.code) == (severity, code)
    assert finding.path.startswith(path)


def test_anchoring_that_was_lifted_and_demanded_by_name_is_no_repetition() -> None:
    more = MORE + '[require]\nchecks = ["LOG-INCLUSION"]\n[log]\nrequire_anchored = '
    assert only(policy_text(more=more + "true")).code == "floor"
    assert only(policy_text(more=more + "false")).code == "not_anchored"


def machine(more: str) -> str:
    return f'[{{ value = "{"ef" * 16}", label = "rack 1"{more} }}]'


@pytest.mark.parametrize(
    ("platform", "codes"),
    [
        ({"ppid": None}, ["no_machines"]),
        ({"ppid": None, "fmspc": '["b0c06f000000"]'}, ["no_machines"]),
        ({"ppid": None, "piid": machine("")}, []),
        ({"ppid": machine(f", until = {SOON}")}, []),
        ({"ppid": machine(f", until = {AT}")}, ["ended", "no_machine_counts"]),
        ({"ppid": machine(f", until = {AT + 367 * DAY}")}, ["far_end"]),
        ({"ppid": machine(f", from = {AT}")}, []),
        ({"ppid": machine(f", from = {AT + 1}")}, ["not_yet", "no_machine_counts"]),
        ({"piid": f'["{"00" * 16}", {machine(f", until = {AT}")[1:]}'}, ["ended"]),
    ],
)
def test_platform_lists_have_their_findings(
    platform: dict[str, str | None], codes: list[str]
) -> None:
    assert [one.code for one in linted(policy_text(platform=platform))] == codes


def test_families_alone_do_not_stop_an_extracted_key() -> None:
    plain = only(policy_text(platform={"ppid": None})).meaning
    listed = only(policy_text(platform={"ppid": None, "fmspc": '["b0c06f000000"]'})).meaning
    assert "any certified machine would do" in plain
    assert "any certified machine of the listed families would do" in listed


@pytest.mark.parametrize(
    ("values", "severity", "code", "key"),
    [
        ({"mrtd": ZERO}, "error", "zero_mrtd", "mrtd"),
        ({"rtmr0": ZERO}, "warning", "zero_register", "rtmr0"),
        ({"rtmr1": ZERO}, "warning", "zero_register", "rtmr1"),
        ({"rtmr2": ZERO}, "warning", "zero_register", "rtmr2"),
        ({"mrowner": REGISTER}, "note", "owner", "mrowner"),
        ({"mrownerconfig": REGISTER}, "note", "owner", "mrownerconfig"),
        ({"events": None}, "error", "model_unlisted", "events"),
        (
            {"events": f'[{{ name = "engine.args", digest = {REGISTER} }}]'},
            "error",
            "model_unlisted",
            "events",
        ),
        ({"events": None, "rtmr3": REGISTER}, "warning", "rtmr3_pinned", "rtmr3"),
        ({"events": None, "rtmr3": ZERO}, "note", "rtmr3_zero", "rtmr3"),
        ({"config_digest": None}, "warning", "no_config_digest", "config_digest"),
        ({"origin": None}, "warning", "no_origin", "origin"),
        ({"model": None}, "note", "no_model", "model"),
        ({"config_digest": f'"{"00" * 32}"'}, "error", "zero_digest", "config_digest"),
        ({"model": f'"{"00" * 32}"'}, "error", "zero_digest", "model"),
    ],
)
def test_tuple_has_its_finding(
    values: dict[str, str | None], severity: str, code: str, key: str
) -> None:
    finding = only(policy_text(values=values))
    assert (finding.severity, finding.code) == (severity, code)
    assert finding.path == f"reference_values[0].{key}"


def test_empty_runtime_log_is_a_note_where_no_model_is_pinned() -> None:
    findings = linted(policy_text(values={"events": None, "model": None}))
    assert [(one.severity, one.code) for one in findings] == [
        (Severity.NOTE, "no_events"),
        (Severity.NOTE, "no_model"),
    ]


def test_zero_rtmr3_is_no_remark_where_unbound_keys_are_allowed() -> None:
    text = policy_text(tdx={"unbound_keys": '"allow"'}, values={"events": None, "rtmr3": ZERO})
    assert only(text).code == "unbound_keys"


def test_tuples_that_differ_in_name_only_are_named() -> None:
    twin = "[[reference_values]]\n" + lines(TUPLE, {"name": '"two"'})
    finding = only(policy_text() + twin)
    assert (finding.code, finding.path) == ("same_tuple", "reference_values[1]")
    assert "reference_values[0]" in finding.meaning
    other = "[[reference_values]]\n" + lines(TUPLE, {"name": '"two"', "model": f'"{"ce" * 32}"'})
    assert linted(policy_text() + other) == ()


def passed_ids(tree: ast.Module) -> Iterator[str]:
    """The ids that a module of the verifier can pass: constants, by themselves or by name."""
    names = {
        target.id: str(node.value.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            told = node.args[0] if node.func.attr == "passed" and node.args else None
            if isinstance(told, ast.Constant):
                yield str(told.value)
            elif isinstance(told, ast.Name) and told.id in names:
                yield names[told.id]


def test_checks_said_never_to_be_made_are_those_the_verifier_cannot_pass() -> None:
    folder = Path(verifier.__file__).parent
    trees = [ast.parse(path.read_text("utf-8")) for path in folder.glob("*.py")]
    passed = {id_ for tree in trees for id_ in passed_ids(tree)}
    assert passed >= {"QUOTE-GENUINE", "EVENT-LOG", "EPOCH-CHAIN"}
    assert not NEVER_MADE & passed
    # Those two have their id from a parameter: one function checks both bodies of a receipt.
    made_elsewhere = {"REQUEST-BODY", "RESPONSE-BODY"}
    assert CHECKS.keys() - passed - made_elsewhere == NEVER_MADE


@given(at=st.integers(0, 253_402_300_799), until=st.integers(0, 253_402_300_799))
def test_lint_never_fails_whatever_the_times(at: int, until: int) -> None:
    text = policy_text(tdx={"tcb_status": STATUS.format("OutOfDate", until)})
    codes = {one.code for one in linted(text, at)}
    assert ("ended" in codes) == (until <= at)
    assert not {"ended", "far_end"} <= codes
