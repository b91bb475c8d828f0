"""GHSA-vqv5-385r-2hf8, GHSA-w7wm-2425-7p2h: after a restart a coordinator could be recovered by
anyone, and the impostor passed for the old one.

Lesson: a restart is a new boot with new keys.  It speaks for the old one only through a
checkpoint that the old log signed, and one history has one continuation.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attestation.merkle.checkpoint import Checkpoint
from attestation.merkle.note import sign_note
from attestation.result import AttestationResult, Verdict
from attestation.statement import PreviousBoot
from tests.support.bundles import Gateway, failed

OLD = Gateway(seed="old")
OLD.plain()


def after(key: Ed25519PrivateKey, origin: str = OLD.origin, *, seed: str = "new") -> Gateway:
    """A boot on the same machine that names the old one, by a checkpoint that `key` signed."""
    note = sign_note(Checkpoint(origin=origin, size=2, root=bytes(32)).text, OLD.origin, key)
    previous = PreviousBoot(checkpoint=note, quote_digest=OLD.quote_digest)
    made = Gateway(seed=seed, platform=OLD.machine, prev=previous)
    made.plain()
    return made


def together(*boots: Gateway) -> AttestationResult:
    gateways = (OLD, *boots)
    bundle = OLD.bundle(
        boots=[made.evidence for made in gateways],
        receipts=[one.item for made in gateways for one in made.exchanged],
    )
    return OLD.verify(
        bundle=bundle, contents={k: v for made in gateways for k, v in made.contents().items()}
    )


def test_boot_that_the_old_log_vouches_for_continues_it() -> None:
    result = together(after(OLD.log_key))
    assert result.verdict is Verdict.SIMULATED
    assert any(c.id == "BOOT-CHAIN" and "continues" in c.reason for c in result.checks)


def test_boot_whose_checkpoint_somebody_else_signed_is_refused() -> None:
    result = together(after(Ed25519PrivateKey.from_private_bytes(bytes(32))))
    assert result.verdict is Verdict.REJECTED
    assert failed(result) == {"BOOT-CHAIN"}


def test_boot_that_names_a_checkpoint_of_another_log_is_refused() -> None:
    result = together(after(OLD.log_key, "gateway.example/0000000000000000"))
    assert failed(result) == {"BOOT-CHAIN"}


def test_two_continuations_of_one_history_are_reported() -> None:
    result = together(after(OLD.log_key), after(OLD.log_key, seed="newer"))
    assert result.verdict is Verdict.REJECTED
    assert failed(result) == {"BOOT-CHAIN"}


def test_receipts_after_a_restart_are_not_signed_by_the_old_boot() -> None:
    new = after(OLD.log_key)
    result = OLD.verify(
        bundle=OLD.bundle(receipts=[one.item for one in new.exchanged]), contents=new.contents()
    )
    assert result.verdict is Verdict.INCOMPLETE
