"""trustee e823da00 (2023): a nonce was carried along, and its freshness was never checked.

Lesson: a nonce that nobody compared proves nothing, and the result says so; where freshness is
required, a missing comparison leaves the result open.
"""

from __future__ import annotations

from dataclasses import replace

from attestation.result import Verdict
from tests.support.bundles import Gateway, open_checks

GATEWAY = Gateway()
EXCHANGED = GATEWAY.plain(nonce="5d0a5d0a5d0a5d0a")
FRESH = GATEWAY.policy(more='[require]\nchecks = ["NONCE"]')


def test_result_without_a_nonce_says_that_freshness_is_not_proved() -> None:
    without = {EXCHANGED.jti: replace(EXCHANGED.contents(), nonce=None)}
    result = GATEWAY.verify(contents=without)
    assert any("freshness not proved" in note for note in result.not_proved)
    assert not any("freshness" in note for note in GATEWAY.verify().not_proved)


def test_required_freshness_without_a_nonce_stays_open() -> None:
    without = {EXCHANGED.jti: replace(EXCHANGED.contents(), nonce=None)}
    result = GATEWAY.verify(policy=FRESH, contents=without)
    assert result.verdict is Verdict.INCOMPLETE
    assert open_checks(result) == {"NONCE"}
    assert GATEWAY.verify(policy=FRESH).verdict is Verdict.SIMULATED
