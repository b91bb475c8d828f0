"""Every key of a policy, both ways: what it should accept, and the nearest thing it should not.

Evidence and policy of a row differ in nothing but that key between the two ways: one bit, one
digit, one second, one entry.
"""

from __future__ import annotations

import re

import pytest

from attestation.errors import MalformedError
from attestation.policy import parse_policy
from attestation.result import Verdict
from tests.policy.evidences import PLATFORM, evidence, judged, require_accepted, require_refused
from tests.policy.rows import PEOPLE, ROWS, SIZES, Row
from tests.support.bundles import Gateway


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.key)
def test_evidence_that_a_key_should_accept_is_accepted(row: Row) -> None:
    require_accepted(judged(row.of, row.good, row.at))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.key)
def test_nearest_wrong_value_is_refused_by_the_check_of_its_key(row: Row) -> None:
    require_refused(judged(row.of, row.bad, row.at), row.verdict, row.check, row.words)


# The strict values and the defaults, under which the evidence differs instead of the policy.

INCOMPLETE = Verdict.INCOMPLETE
REFUSE = '[platform]\n{} = "refuse"'
STRICT: dict[str, tuple[dict[str, str], str, str, str, str]] = {
    "no tcb_status": ({}, "healthy", "hardening", "TCB-STATUS", "the platform is SWHardening"),
    "no advisories": ({}, "healthy", "one advisory", "TCB-ADVISORIES", "INTEL-SA-00001"),
    "no attributes": ({}, "healthy", "protection keys", "TD-ATTRIBUTES", "0x50000000"),
    "no xfam": ({}, "other words", "wrong words", "TD-ATTRIBUTES", "0x600e6"),
    "no unbound_keys": ({}, "healthy", "unbound", "EVENT-LOG", "does not bind"),
    "no max_key_events": ({}, "healthy", "second start", "EVENT-LOG", "started more often"),
    "no events": ({}, "healthy", "model", "EVENT-LOG", "does not list"),
    "no mrconfigid": ({}, "healthy", "one bit configured", "MEASUREMENTS", "mrconfigid "),
    "no mrowner": ({}, "healthy", "one bit owned", "MEASUREMENTS", "mrowner "),
    "no mrownerconfig": (
        {}, "healthy", "one bit owner configured", "MEASUREMENTS", "mrownerconfig ",
    ),
    "unbound_keys refused": (
        {"tdx": 'unbound_keys = "refuse"'}, "healthy", "unbound", "EVENT-LOG", "does not bind",
    ),
    "dynamic_platform refused": (
        {"more": REFUSE.format("dynamic_platform")}, "plain machine", "dynamic", "PLATFORM",
        "says dynamic platform",
    ),
    "cached_keys refused": (
        {"more": REFUSE.format("cached_keys")}, "plain machine", "cached", "PLATFORM",
        "says cached keys",
    ),
    "smt refused": (
        {"more": REFUSE.format("smt")}, "plain machine", "smt", "PLATFORM", "says SMT",
    ),
    "smt refused, certificate silent": (
        {"more": REFUSE.format("smt")}, "plain machine", "single package", "PLATFORM",
        "does not say",
    ),
    "piid listed, certificate silent": (
        {"more": f'[platform]\npiid = ["{(b"i" * 16).hex()}"]'}, "healthy", "single package",
        "PLATFORM", "machine's piid is not on",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STRICT)
def test_strict_value_or_default_accepts_what_meets_it_and_nothing_beside(name: str) -> None:
    lines, good, bad, check, words = STRICT[name]
    require_accepted(judged(good, lines))
    require_refused(judged(bad, lines), Verdict.NOT_ACCEPTED, check, words)


@pytest.mark.parametrize("log", ["", "require_anchored = true"])
def test_anchored_receipts_meet_the_demand_and_others_leave_it_open(log: str) -> None:
    require_accepted(judged("whole", {"log": log}))
    ids = "LOG-INCLUSION LOG-CHECKPOINT EPOCH-QUOTE"
    require_refused(judged("healthy", {"log": log}), INCOMPLETE, ids, "")


def test_whole_log_meets_the_demand_for_completeness() -> None:
    require_accepted(judged("whole", {"log": "require_complete = true"}))


def test_nonce_that_was_compared_meets_the_demand_for_it() -> None:
    made = Gateway(platform=PLATFORM)
    made.plain(nonce="abcdefgh")
    policy = made.policy(more='[require]\nchecks = ["NONCE"]')
    require_accepted(made.verify(policy=policy))


def with_text(key: str, text: str) -> bytes:
    plain = evidence("healthy").policy_toml(more='[platform]\nppid = ["' + b"p".hex() * 16 + '"]')
    if key == "schema":
        plain = plain.replace("appraisal-policy/1", text)
    elif key == "version":
        plain = f'version = "{text}"\n{plain}'
    elif key == "reference_values[].name":
        plain += plain[plain.index("[[reference") :].replace("simulated", text)
    else:
        name = key.split(".")[1].removesuffix("[]")
        more = f'[platform]\n{name} = [{{ value = "{"00" * SIZES[name]}", label = "{text}" }}]'
        plain = evidence("healthy").policy_toml(more=more)
    return plain.encode()


@pytest.mark.parametrize("key", PEOPLE)
def test_text_for_people_is_read_and_an_unusable_one_refused_by_its_path(key: str) -> None:
    good, bad = PEOPLE[key]
    assert parse_policy(with_text(key, good)).reference_values
    with pytest.raises(MalformedError) as caught:
        parse_policy(with_text(key, bad))
    path = re.escape(key.replace("[].name", "")).replace(r"\[\]", r"\[\d+\]")
    assert re.search(path, caught.value.message)
    assert caught.value.exit_code == Verdict.MALFORMED.exit_code
