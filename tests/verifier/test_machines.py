"""PLATFORM: every rule about machines accepts what it should and refuses the nearest other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest

from attestation.encoding.instants import instant
from attestation.result import AttestationResult, Status, Verdict
from gateway.attester.simulated.facts import Machine
from gateway.attester.simulated.platform import SimulatedPlatform
from tests.support.bundles import NOW, Gateway, failed, the_check

PPID, PIID, FMSPC = bytes(range(16)), bytes(range(16, 32)), bytes.fromhex("b0c06f000000")
MACHINE = Machine(ppid=PPID, piid=PIID)
AT = NOW + 60


def gateway(machine: Machine = MACHINE) -> Gateway:
    made = Gateway(platform=SimulatedPlatform(now=NOW, seed=b"machine", machine=machine))
    made.plain()
    return made


MADE = gateway()


def appraised(rules: str, made: Gateway = MADE) -> AttestationResult:
    return made.verify(policy=made.policy(more=f"[platform]\n{rules}"), at=AT)


def accepted(rules: str, made: Gateway = MADE) -> str:
    result = appraised(rules, made)
    assert result.verdict is Verdict.SIMULATED
    check = the_check(result, "PLATFORM")
    assert check.status is Status.PASS
    return check.reason


def refused(rules: str, made: Gateway = MADE) -> tuple[str, str]:
    result = appraised(rules, made)
    assert result.verdict is Verdict.NOT_ACCEPTED
    assert failed(result) == {"PLATFORM"}
    check = the_check(result, "PLATFORM")
    assert check.hint
    assert check.observed
    return check.reason, check.expected


def bent(value: bytes) -> str:
    return (value[:-1] + bytes([value[-1] ^ 1])).hex()


@pytest.mark.parametrize(
    ("name", "value"), [("ppid", PPID), ("piid", PIID), ("fmspc", MACHINE.fmspc)]
)
def test_list_accepts_its_machines_and_not_one_bit_beside_them(name: str, value: bytes) -> None:
    assert accepted(f'{name} = ["{value.hex().upper()}"]') == f"on the list by {name}"
    reason, expected = refused(f'{name} = ["{bent(value)}"]')
    assert reason == f"the machine's {name} is not on the policy's list"
    assert expected == f"one listed in [platform] {name}"


def test_label_of_the_entry_is_shown() -> None:
    entry = f'ppid = ["{PPID.hex()}", {{ value = "{PPID.hex()}", label = "rack 7, Oslo" }}]'
    assert accepted(entry) == 'on the list by ppid ("rack 7, Oslo")'
    other = f'{{ value = "{PPID.hex()}", label = "twice" }}'
    both = entry.replace("]", f", {other}]") + f'\npiid = ["{PIID.hex()}"]'
    assert accepted(both) == 'on the list by ppid ("rack 7, Oslo", "twice") and piid'


@pytest.mark.parametrize(
    ("bounds", "counts"),
    [
        (f"from = {AT}", True),
        (f"from = {AT + 1}", False),
        (f"until = {AT + 1}", True),
        (f"until = {AT}", False),
        (f"from = {AT}, until = {AT + 1}", True),
        (f"from = {AT - 1}, until = {AT}", False),
    ],
)
@pytest.mark.parametrize(
    ("name", "value"), [("ppid", PPID), ("piid", PIID), ("fmspc", MACHINE.fmspc)]
)
def test_entry_counts_only_in_its_time(name: str, value: bytes, bounds: str, counts: bool) -> None:
    rule = f'{name} = [{{ value = "{value.hex()}", {bounds} }}]'
    if counts:
        accepted(rule)
    else:
        reason, expected = refused(rule)
        assert f"does not count at {instant(AT)}" in reason
        assert expected.startswith("an instant ")


def test_entry_that_has_ended_says_when_it_counted() -> None:
    value = PPID.hex()
    one = f'{{ value = "{value}", from = {AT - 9}, until = {AT - 5} }}'
    two = f'{{ value = "{value}", from = {AT + 5} }}'
    _, expected = refused(f"ppid = [{one}, {two}]")
    begun, ended, again = instant(AT - 9), instant(AT - 5), instant(AT + 5)
    assert expected == f"an instant from {begun} before {ended} or from {again}"
    assert accepted(f'ppid = [{one}, "{value}"]')


@pytest.mark.parametrize(
    ("number", "name"), [(0, "standard"), (1, "scalable"), (2, "scalable-with-integrity")]
)
def test_sgx_type_has_to_be_listed(number: int, name: str) -> None:
    made = gateway(replace(MACHINE, sgx_type=number))
    assert accepted(f'sgx_type = ["{name}"]', made) == "of a kind that the policy accepts"
    others = ["standard", "scalable", "scalable-with-integrity"]
    others.remove(name)
    rule = f'sgx_type = ["{others[0]}", "{others[1]}"]'
    assert refused(rule, made) == (
        f"the machine's SGX type is {name}",
        f"SGX type {others[0]} or {others[1]}",
    )
    quotes = cast("list[dict[str, object]]", appraised(rule, made).facts["quotes"])
    assert quotes[0]["sgx_type"] == name


PROPERTIES = [
    ("dynamic_platform", "dynamic_platform", "dynamic platform"),
    ("cached_keys", "cached_keys", "cached keys"),
    ("smt", "smt_enabled", "SMT"),
]


def but(fact: str, value: bool) -> Machine:
    changes: dict[str, Any] = {fact: value}
    return replace(MACHINE, **changes)


@pytest.mark.parametrize(("key", "fact", "words"), PROPERTIES)
def test_refused_property_must_be_denied_by_the_certificate(
    key: str, fact: str, words: str
) -> None:
    has = gateway(but(fact, True))
    has_not = gateway(but(fact, False))
    assert accepted(f'{key} = "refuse"', has_not) == "of a kind that the policy accepts"
    reason, expected = refused(f'{key} = "refuse"', has)
    assert reason == f"the machine's certificate says {words}, which the policy refuses"
    assert expected == f"{words}: no"
    silent = gateway(replace(MACHINE, single_package=True))
    reason, _ = refused(f'{key} = "refuse"', silent)
    assert reason == f"the machine's certificate does not say whether it has {words}"


@pytest.mark.parametrize(("key", "fact", "words"), PROPERTIES)
@pytest.mark.parametrize("rule", ["", '{} = "allow"'])
def test_property_that_is_allowed_or_not_asked_about_is_shown(
    key: str, fact: str, words: str, rule: str
) -> None:
    for value, said in ((True, "yes"), (False, "no")):
        made = gateway(but(fact, value))
        result = appraised(rule.format(key), made)
        assert result.verdict is Verdict.SIMULATED
        check = the_check(result, "PLATFORM")
        assert (check.status, check.required) == (Status.INFO, False)
        assert f"{words}: {said}" in check.observed
        (quote,) = cast("list[dict[str, object]]", result.facts["quotes"])
        assert quote[key] is value
    silent = gateway(replace(MACHINE, single_package=True))
    result = appraised(rule.format(key), silent)
    assert f"{words}: not said" in the_check(result, "PLATFORM").observed
    (quote,) = cast("list[dict[str, object]]", result.facts["quotes"])
    assert quote[key] is None


def test_everything_that_is_wrong_is_named_at_once() -> None:
    reason, expected = refused(
        f'ppid = ["{bent(PPID)}"]\nsgx_type = ["standard"]\nsmt = "refuse"\npiid = ["{PIID.hex()}"]'
    )
    assert reason.count(";") == 2
    assert expected == "one listed in [platform] ppid; SGX type standard; SMT: no"


def test_kind_of_machine_is_no_answer_to_which_machine() -> None:
    (note,) = [n for n in appraised('smt = "allow"').not_proved if n.startswith("which machine")]
    assert "no platform list" in note
    result = appraised('sgx_type = ["scalable"]')
    assert note in result.not_proved
    result = appraised(f'fmspc = ["{MACHINE.fmspc.hex()}"]')
    assert not any(note.startswith("which machine") for note in result.not_proved)
