"""GHSA-x5r5-2qrx-rqj8: without some environment variables a service silently did without TLS.

Lesson: what is not configured is refused or judged by the strictest default, never skipped in
silence.
"""

from __future__ import annotations

import pytest

from attestation.errors import MalformedError, UsageError
from attestation.policy import parse_policy
from attestation.result import Verdict
from attestation.verifier import Contents
from tests.support.bundles import Gateway, open_checks

GATEWAY = Gateway()
EXCHANGED = GATEWAY.plain()


def test_no_policy_is_never_acceptance() -> None:
    result = GATEWAY.verify(policy=None)
    assert result.verdict is Verdict.INCOMPLETE
    assert "MEASUREMENTS" in open_checks(result)


def test_no_root_is_an_error() -> None:
    with pytest.raises(UsageError, match="anchor"):
        GATEWAY.verify(anchors=[])


@pytest.mark.parametrize(
    "text",
    [
        "",
        'schema = "appraisal-policy/1"',
        'schema = "appraisal-policy/1"\nreference_values = []',
        GATEWAY.policy_toml(tdx="tcb_status = []"),
        GATEWAY.policy_toml(tdx="xfam = []"),
        GATEWAY.policy_toml(tdx="mrseam = []"),
        GATEWAY.policy_toml(more="[platform]\nppid = []"),
    ],
)
def test_policy_that_says_nothing_is_no_policy(text: str) -> None:
    with pytest.raises(MalformedError):
        parse_policy(text.encode())


def test_anchoring_is_required_unless_the_policy_gives_it_up_in_so_many_words() -> None:
    result = GATEWAY.verify(policy=GATEWAY.policy(log=""))
    assert result.verdict is Verdict.INCOMPLETE
    assert open_checks(result) == {"LOG-INCLUSION", "LOG-CHECKPOINT", "EPOCH-QUOTE"}
    given_up = GATEWAY.verify(policy=GATEWAY.policy(log="require_anchored = false"))
    assert any("anchored" in note for note in given_up.not_proved)


def test_body_check_that_was_asked_for_and_cannot_be_made_is_no_acceptance() -> None:
    for known in (
        EXCHANGED.contents(request=None),
        EXCHANGED.contents(response=None),
        Contents(demanded=frozenset({"RESPONSE-BODY"})),
    ):
        result = GATEWAY.verify(contents={EXCHANGED.jti: known})
        assert result.verdict is Verdict.INCOMPLETE


def test_keys_that_nothing_binds_are_not_accepted_unless_the_policy_says_so() -> None:
    made = Gateway(event_log=False)
    made.plain()
    assert made.verify().verdict is Verdict.NOT_ACCEPTED
    allowed = made.policy(tdx='unbound_keys = "allow"')
    assert made.verify(policy=allowed).verdict is Verdict.SIMULATED
