"""CVE-2026-33697, GHSA-vfgg-mvxx-mgg7, GHSA-hjgc-jc5v-fw7h: genuine evidence of one machine was
relayed to stand for another, because evidence was bound to a handshake and to nothing said later.

Lesson: each receipt binds the caller's nonce, the request and the answer to the key that was
quoted, and the connection must end at a key of the same keyset.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from attestation.encoding.digest import Digest
from attestation.result import Verdict
from tests.support.bundles import TLS_SPKI, Gateway, failed
from tests.tamper.folders import gateway

MINE = gateway("mine")
THEIRS = gateway("theirs", platform_of=MINE)
NONCE = "5d0a5d0a5d0a5d0a"


def test_receipt_of_another_genuine_boot_proves_nothing_about_this_one() -> None:
    result = MINE.verify(
        bundle=MINE.bundle(receipts=[one.item for one in THEIRS.exchanged]),
        contents=THEIRS.contents(),
    )
    assert result.verdict is Verdict.INCOMPLETE


def test_connection_that_ends_at_a_key_outside_the_keyset_is_refused() -> None:
    known = MINE.exchanged[0].contents(peer_spki=Digest.of(b"relay"))
    result = MINE.verify(contents={MINE.exchanged[0].jti: known})
    assert result.verdict is Verdict.REJECTED
    assert failed(result) == {"CHANNEL"}
    at_home = replace(known, peer_spki=TLS_SPKI)
    assert failed(MINE.verify(contents={MINE.exchanged[0].jti: at_home})) == set()


@pytest.mark.parametrize("claimed", [None, NONCE[:-1] + "b", NONCE.upper()])
def test_receipt_made_for_another_call_does_not_answer_this_one(claimed: str | None) -> None:
    made = Gateway()
    exchanged = made.plain(nonce=claimed)
    result = made.verify(contents={exchanged.jti: exchanged.contents(nonce=NONCE)})
    assert result.verdict is Verdict.REJECTED
    assert failed(result) == {"NONCE"}


def test_receipt_for_the_nonce_of_this_call_is_accepted() -> None:
    made = Gateway()
    exchanged = made.plain(nonce=NONCE)
    assert made.verify(contents={exchanged.jti: exchanged.contents()}).exit_code == 15
