"""nearai-cloud-verifier 9c194eb: behind a load balancer, evidence came from one machine and the
connection ended at another, and the mismatch was explained away.

Lesson: a key that is in no keyset is refused, however plausible the reason.  Several keys are
several entries of one quoted keyset.
"""

from __future__ import annotations

from attestation.encoding.digest import Digest
from attestation.result import Verdict
from tests.support.bundles import Gateway, failed
from tests.tamper.folders import gateway

FIRST, SECOND = Digest.of(b"first TLS key"), Digest.of(b"second TLS key")


def test_connection_may_end_at_any_key_of_the_keyset_and_at_no_other() -> None:
    made = Gateway(tls=(FIRST, SECOND))
    exchanged = made.plain()
    for spki in (FIRST, SECOND):
        known = {exchanged.jti: exchanged.contents(peer_spki=spki)}
        assert made.verify(contents=known).verdict is Verdict.SIMULATED
    known = {exchanged.jti: exchanged.contents(peer_spki=Digest.of(b"third"))}
    assert failed(made.verify(contents=known)) == {"CHANNEL"}


def test_receipt_of_the_machine_behind_the_next_turn_is_not_this_ones() -> None:
    mine = gateway("one")
    theirs = gateway("two", platform_of=mine)
    own, foreign = mine.exchanged[0], theirs.exchanged[0]
    bundle = mine.bundle(receipts=[foreign.item])
    known = {foreign.jti: own.contents(request=foreign.request, response=foreign.response)}
    assert mine.verify(bundle=bundle, contents=known).verdict is Verdict.INCOMPLETE


def test_keyset_without_a_tls_key_leaves_the_channel_open_and_says_so() -> None:
    made = Gateway(tls=())
    exchanged = made.plain()
    known = {exchanged.jti: exchanged.contents(peer_spki=FIRST)}
    result = made.verify(contents=known)
    assert any("channel" in note for note in result.not_proved)
    required = made.policy(more='[require]\nchecks = ["CHANNEL"]')
    assert made.verify(policy=required, contents=known).verdict is Verdict.INCOMPLETE
