"""tinfoil verifier 7c75bec (a wildcard name was accepted), f0c178a (an old error beside a success),
52800bb (own minimum checks dropped).

Lesson: names are compared whole or not at all, and there is one object that decides.  It is no
truth value and has no second opinion.
"""

from __future__ import annotations

import pytest

from attestation.errors import AttestationError, MalformedError, PolicyError, UsageError
from attestation.policy import parse_policy
from attestation.result import Verdict
from tests.support.bundles import Gateway, failed

GATEWAY = Gateway()
GATEWAY.plain()


@pytest.mark.parametrize(
    "name",
    ["*", "*.example", "gateway.*", "gateway.example.", "GATEWAY.EXAMPLE", "gateway", ".*",
     "gateway.example/", "gatewayXexample", "evil.gateway.example", "gateway.example.evil"],
)  # fmt: skip
def test_name_in_a_policy_means_itself_only(name: str) -> None:
    result = GATEWAY.verify(policy=GATEWAY.policy(origin=f'"{name}"'))
    assert result.verdict is Verdict.NOT_ACCEPTED
    assert failed(result) == {"MEASUREMENTS"}


@pytest.mark.parametrize("value", ['"*"', '""', '"any"', f'"{"?" * 96}"', f'"{"*" * 96}"'])
def test_register_in_a_policy_has_no_wildcard(value: str) -> None:
    with pytest.raises(MalformedError):
        parse_policy(GATEWAY.policy_toml(mrtd=value).encode())


def test_result_cannot_be_taken_for_a_truth_value() -> None:
    with pytest.raises(UsageError):
        bool(GATEWAY.verify())


@pytest.mark.parametrize("changes", [{}, {"policy": None}, {"at": 0}])
def test_only_acceptance_passes_the_gate(changes: dict[str, object]) -> None:
    result = GATEWAY.verify(**changes)
    with pytest.raises(AttestationError) as caught:
        result.require_accepted()
    assert caught.value.code == str(result.verdict)
    if result.verdict is not Verdict.SIMULATED:
        with pytest.raises(AttestationError):
            result.require_accepted_or_unsafe_simulated()


def test_one_failed_check_outweighs_any_number_of_passed_ones() -> None:
    result = GATEWAY.verify(policy=GATEWAY.policy(mrtd=f'"{"ab" * 48}"'))
    with pytest.raises(PolicyError):
        result.require_accepted()
