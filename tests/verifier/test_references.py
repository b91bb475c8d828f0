"""MEASUREMENTS: the registers of a tuple that are zero unless it says otherwise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from attestation.bundle import make_bundle
from attestation.errors import MalformedError
from attestation.policy import Policy, parse_policy
from attestation.result import AttestationResult, Verdict
from attestation.verifier import malformed_result, verify_boots, verify_challenge, verify_raw_quote
from gateway.attester.simulated.facts import Domain
from gateway.attester.simulated.platform import SimulatedPlatform
from tests.support.bundles import NOW, Gateway, failed, the_check
from tests.verifier.test_challenge import NONCE, answer

VALUE = bytes(range(48))
BENT = VALUE[:-1] + b"\x00"
FIELDS = [
    ("mrconfigid", "mr_config_id"),
    ("mrowner", "mr_owner"),
    ("mrownerconfig", "mr_owner_config"),
]


def pinned(made: Gateway, name: str, value: bytes | None) -> Policy:
    """The gateway's policy with `name` in its tuple instead of whatever it says about it."""
    lines = [line for line in made.policy_toml().splitlines() if not line.startswith(f"{name} ")]
    if value is not None:
        place = next(n for n, line in enumerate(lines) if line.startswith("rtmr3 "))
        lines.insert(place, f'{name} = "{value.hex()}"')
    return parse_policy("\n".join(lines).encode())


@pytest.mark.parametrize(("name", "fact"), FIELDS)
def test_register_must_be_the_tuples_and_zero_where_it_says_nothing(name: str, fact: str) -> None:
    changes: dict[str, Any] = {fact: VALUE}
    domain = replace(Domain(), **changes)
    made = Gateway(platform=SimulatedPlatform(now=NOW, seed=b"owner", domain=domain))
    made.plain()
    assert made.verify(policy=pinned(made, name, VALUE)).verdict is Verdict.SIMULATED
    for wrong in (BENT, bytes(48), None):
        result = made.verify(policy=pinned(made, name, wrong))
        assert result.verdict is Verdict.NOT_ACCEPTED
        assert failed(result) == {"MEASUREMENTS"}
        check = the_check(result, "MEASUREMENTS")
        assert check.observed.startswith(f"{name} {VALUE.hex()[:16]}… instead of ")
        assert check.hint


@pytest.mark.parametrize(("name", "_"), FIELDS)
def test_register_that_is_zero_does_not_pass_for_a_value(name: str, _: str) -> None:
    made = Gateway()
    made.plain()
    assert made.verify(policy=pinned(made, name, bytes(48))).verdict is Verdict.SIMULATED
    assert failed(made.verify(policy=pinned(made, name, VALUE))) == {"MEASUREMENTS"}


def test_every_kind_of_result_names_its_policy() -> None:
    made = Gateway()
    made.plain()
    text = f'version = "third"\n{made.policy_toml()}'
    policy = parse_policy(text.encode())
    bundle = make_bundle(boots=[made.evidence], collateral=[made.machine.collateral()])
    anchors = [made.anchor]
    raw, collateral = made.evidence.quote, made.machine.collateral()

    def results(one: Policy | None) -> list[AttestationResult]:
        return [
            made.verify(policy=one),
            verify_boots(bundle, one, NOW, anchors),
            verify_challenge(bundle, answer(made), NONCE, one, NOW, anchors),
            verify_raw_quote(raw, collateral, one, NOW, anchors),
            malformed_result(MalformedError("no bundle"), one, NOW),
        ]

    for result in results(policy):
        assert (result.policy_digest, result.policy_version) == (policy.digest, "third")
    for result in results(None):
        assert (result.policy_digest, result.policy_version) == (None, None)
    assert all(len(result.endorsed) == 1 for result in results(policy)[:4])
