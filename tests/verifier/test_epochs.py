"""EPOCH-QUOTE and what anchors a receipt: honest epochs, and everything that is not one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from attestation.bundle import Bundle, EpochEvidence
from attestation.encoding.digest import Digest
from attestation.merkle.checkpoint import Checkpoint
from attestation.merkle.note import sign_note
from attestation.result import AttestationResult, Status, Verdict
from gateway.attester.simulated.facts import Endorsements, SvnLevel
from tests.support.bundles import NOW, Gateway, failed, open_checks
from tests.support.epochs import ANCHORED, EpochLog, quoted_by, text_of
from tests.verifier.support import OTHER, refused


def quoted(receipts: int = 2, **changes: Any) -> EpochLog:
    log = EpochLog(Gateway(**changes))
    log.serve(receipts)
    log.quote_epoch()
    return log


HONEST = quoted()


def of(result: AttestationResult, subject: str, id_: str) -> Any:
    (check,) = [c for c in result.checks if c.subject.startswith(subject) and c.id == id_]
    return check


def with_epoch(epoch: EpochEvidence, log: EpochLog = HONEST, **changes: Any) -> AttestationResult:
    return log.verify(epochs=[epoch], **changes)


# Honest epochs


@pytest.mark.parametrize("version", [4, 5])
def test_receipts_below_a_quoted_checkpoint_are_anchored(version: int) -> None:
    result = quoted(version=version).verify()
    assert result.verdict is Verdict.SIMULATED
    anchored = [c for c in result.checks if c.id == "EPOCH-QUOTE" and c.status is Status.PASS]
    assert [check.subject.partition(" ")[0] for check in anchored] == ["epoch", *["receipt"] * 2]
    assert not any("not anchored" in note for note in result.not_proved)


def test_epochs_quote_goes_through_the_checks_of_the_boots_quote() -> None:
    result = HONEST.verify()
    made: dict[str, set[str]] = {}
    for check in result.checks:
        made.setdefault(check.subject.partition(" ")[0], set()).add(check.id)
    own = {"EPOCH-QUOTE", "LOG-CHECKPOINT"}
    assert made["epoch"] == made["boot"] - {"KEYSET", "BOOT-CHAIN", "BOOT-STATEMENT"} | own


def test_receipt_needs_its_one_epoch_and_no_other() -> None:
    log = EpochLog(Gateway())
    for _ in range(4):
        log.serve(2)
        log.quote_epoch()
    item = log.items[5]
    contents = {item.jti: log.made.exchanged[5].contents()}
    for number, epoch in enumerate(log.epochs):
        result = log.verify(receipts=[item], epochs=[epoch], contents=contents)
        expected = Verdict.SIMULATED if number == 2 else Verdict.INCOMPLETE
        assert result.verdict is expected
        assert open_checks(result) == (set() if number == 2 else {"EPOCH-QUOTE"})


def test_two_epochs_over_one_checkpoint_anchor_the_same_receipts() -> None:
    log = quoted()
    again = log.evidence(
        epoch=1, prev_quote_digest=log.statement().prev_quote_digest, checkpoint=log.checkpoint(3)
    )
    result = log.verify(epochs=[*log.epochs, again])
    assert result.verdict is Verdict.SIMULATED
    for spoilt in (0, 1):
        epochs = [*log.epochs, again]
        epochs[spoilt] = replace(epochs[spoilt], quote=OTHER.evidence.quote)
        result = log.verify(epochs=epochs)
        assert result.verdict is Verdict.REJECTED
        assert of(result, "receipt " + log.items[0].jti, "EPOCH-QUOTE").status is Status.PASS


def test_result_shows_the_counters_of_every_quoted_epoch() -> None:
    log = EpochLog(Gateway(), unauthenticated=7, refused=5)
    log.serve(2)
    log.announce()
    log.quote_epoch()
    facts: Any = log.verify().facts
    (shown,) = facts["epochs"]
    assert (shown["size"], shown["admitted"], shown["completed"], shown["in_flight"]) == (
        3,
        3,
        2,
        1,
    )
    assert (shown["unauthenticated"], shown["refused_unreceipted"]) == (7, 5)
    assert [quote.get("epoch") for quote in facts["quotes"]] == [None, 0]


DAY = 86_400


@pytest.mark.parametrize("claimed", [NOW + 60, NOW + 400 * DAY, 2**50])
def test_evidence_out_of_date_says_whether_it_was_genuine_when_issued(claimed: int) -> None:
    made = Gateway(statement_changes={"time_claimed": claimed})
    log = EpochLog(made)
    log.serve()
    log.quote_epoch(time_claimed=claimed)
    result = log.verify(at=NOW + 500 * DAY)
    assert result.verdict is Verdict.NOT_ACCEPTED
    said = [c.subject for c in result.checks if c.reason.startswith("genuine when issued")]
    assert len(said) == (2 if claimed == NOW + 60 else 0)
    assert not any("genuine when issued" in check.reason for check in log.verify().checks)


def test_cosignatures_are_named_and_not_taken_for_checked() -> None:
    (epoch,) = HONEST.epochs
    line = HONEST.note(HONEST.checkpoint(3), key=OTHER.log_key).splitlines()[-1]
    cosigned = replace(epoch, checkpoint=epoch.checkpoint + line + "\n")
    result = with_epoch(cosigned)
    assert result.verdict is Verdict.SIMULATED
    witness = of(result, "epoch", "WITNESS")
    assert witness.status is Status.INFO
    assert "1 more signature on" in witness.reason


# Receipts that no epoch anchors


def test_receipt_sealed_after_the_last_epoch_is_not_anchored() -> None:
    log = quoted()
    log.serve()
    result = log.verify()
    assert open_checks(result) == {"LOG-INCLUSION", "LOG-CHECKPOINT", "EPOCH-QUOTE"}
    assert any("1 of 3 receipts is not anchored" in note for note in result.not_proved)
    assert log.verify(log="require_anchored = false").verdict is Verdict.SIMULATED


def test_without_a_policy_it_is_the_software_that_stays_open_and_not_the_quoted_place() -> None:
    notes = HONEST.verify(policy=None).not_proved
    assert any("2 of 2 receipts are in a quoted state" in note for note in notes)
    assert not any("not anchored" in note for note in notes)


def test_checkpoint_that_nobody_quoted_anchors_nothing() -> None:
    log = quoted()
    log.serve()
    log.prove(replace(log.epochs[0], checkpoint=log.note(log.checkpoint())), len(log.entries))
    result = log.verify()
    assert open_checks(result) == {"EPOCH-QUOTE"}
    assert (
        "no epoch of the receipt's boot"
        in of(result, f"receipt {log.items[2].jti}", "EPOCH-QUOTE").reason
    )


def test_receipt_is_not_anchored_by_an_epoch_that_is_not_accepted() -> None:
    (epoch,) = HONEST.epochs
    result = with_epoch(replace(epoch, collateral=None))
    assert result.verdict is Verdict.INCOMPLETE
    check = of(result, f"receipt {HONEST.items[0].jti}", "EPOCH-QUOTE")
    assert check.status is Status.SKIP
    assert "QUOTE-GENUINE" in check.reason


def test_epoch_of_a_boot_that_is_not_in_the_file_is_open() -> None:
    for log in (ANCHORED, "require_anchored = false"):
        result = HONEST.verify(boots=[], receipts=[], collateral=[], log=log, contents={})
        assert result.verdict is Verdict.INCOMPLETE
        assert {"EPOCH-QUOTE", "LOG-CHECKPOINT"} <= {
            c.id for c in result.checks if c.subject.startswith("epoch") and c.required
        }


def test_epoch_without_its_boot_makes_other_evidence_incomplete() -> None:
    stray = quoted(seed="stray")
    policy = "require_anchored = false"
    bundle = HONEST.bundle(epochs=[*stray.epochs, *HONEST.epochs])
    result = HONEST.verify(bundle=bundle, log=policy)
    assert result.verdict is Verdict.INCOMPLETE
    assert open_checks(result) == {"EPOCH-QUOTE", "LOG-CHECKPOINT"}


def test_without_a_policy_an_epoch_anchors_nothing() -> None:
    result = HONEST.verify(policy=None)
    assert result.verdict is Verdict.INCOMPLETE
    assert not failed(result)
    assert open_checks(result) == {"MEASUREMENTS", "EPOCH-QUOTE"}


# The epoch's own quote


def test_epoch_whose_quote_cannot_be_read_is_malformed() -> None:
    (epoch,) = HONEST.epochs
    result = with_epoch(replace(epoch, quote=b"quote"))
    refused(result, Verdict.MALFORMED, "QUOTE-FORMAT")
    assert "EPOCH-QUOTE" in open_checks(result)


def test_boot_whose_quote_cannot_be_read_has_no_epochs() -> None:
    boot = replace(HONEST.made.evidence, quote=b"quote")
    result = HONEST.verify(boots=[boot])
    assert result.verdict is Verdict.MALFORMED
    assert "EPOCH-QUOTE" in open_checks(result)


def test_later_endorsements_of_an_epoch_are_judged_by_themselves() -> None:
    (epoch,) = HONEST.epochs
    platform = HONEST.made.machine
    late = platform.but(
        endorsements=Endorsements(
            module_levels=(SvnLevel(isv_svn=9), SvnLevel(isv_svn=4, status="OutOfDate"))
        )
    )
    collateral = late.collateral()
    result = with_epoch(
        replace(epoch, collateral=collateral.digest),
        collateral=[platform.collateral(), collateral],
    )
    refused(result, Verdict.NOT_ACCEPTED, "TCB-STATUS")
    assert open_checks(result) == {"EPOCH-QUOTE"}
    assert of(result, "epoch", "EPOCH-QUOTE").status is Status.PASS


def test_gpu_evidence_of_an_epoch_is_open() -> None:
    log = EpochLog(Gateway())
    log.serve()
    log.quote_epoch(gpu_digest=Digest.of(b"gpu"))
    assert "GPU-BINDING" in open_checks(log.verify())


# The checkpoint beside it


def twice(note: str) -> str:
    """A note with its last signature line doubled."""
    return note + note.splitlines()[-1] + "\n"


@pytest.mark.parametrize(
    ("forge", "seen"),
    [
        (lambda log: log.note(log.checkpoint(3), key=OTHER.log_key), "others only"),
        (
            lambda log: log.note(
                Checkpoint(origin="gateway.example/0000000000000000", size=3, root=bytes(32))
            ),
            "one about gateway.example/0000000000000000",
        ),
        (
            lambda log: log.epochs[0].checkpoint + log.epochs[0].checkpoint.splitlines()[-1] + "\n",
            "2",
        ),
    ],
)
def test_checkpoint_that_the_log_did_not_sign_once_is_rejected(forge: Any, seen: str) -> None:
    epoch = replace(HONEST.epochs[0], checkpoint=forge(HONEST))
    result = with_epoch(epoch)
    assert result.verdict is Verdict.REJECTED
    assert "LOG-CHECKPOINT" in failed(result)
    assert seen in of(result, "epoch", "LOG-CHECKPOINT").observed


def test_note_that_is_no_checkpoint_is_malformed() -> None:
    note = sign_note("no checkpoint\n", HONEST.made.origin, HONEST.made.log_key)
    boots, epoch = (HONEST.made.evidence,), replace(HONEST.epochs[0], checkpoint=note)
    bundle = Bundle(boots=boots, collateral=HONEST.bundle().collateral, epochs=(epoch,))
    result = HONEST.verify(bundle=bundle, contents={})
    refused(result, Verdict.MALFORMED, "LOG-CHECKPOINT")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"size": 4}, "size"),
        ({"root": Digest.of(b"another tree")}, "root"),
        ({"checkpoint_digest": Digest.of(b"another text")}, "checkpoint_digest"),
    ],
)
def test_epoch_about_another_checkpoint_is_rejected(changes: dict[str, Any], named: str) -> None:
    log = EpochLog(Gateway())
    log.serve(2)
    epoch = log.evidence(note=log.note(log.checkpoint()), **changes)
    log.prove(epoch, 3)
    result = log.verify(epochs=[epoch])
    refused(result, Verdict.REJECTED, "EPOCH-QUOTE")
    assert named in of(result, "epoch", "EPOCH-QUOTE").expected


@pytest.mark.parametrize(
    "changes",
    [
        {"admitted": 3},
        {"completed": 1},
        {"in_flight": 1},
        {"admitted": 3, "completed": 3},
        {"admitted": 9, "completed": 9},
    ],
)
def test_counters_that_cannot_be_are_rejected(changes: dict[str, Any]) -> None:
    log = EpochLog(Gateway())
    log.serve(2)
    log.quote_epoch(**changes)
    refused(log.verify(), Verdict.REJECTED, "EPOCH-QUOTE")


def test_text_of_the_proofs_checkpoint_is_what_counts_not_its_signatures() -> None:
    log = quoted()
    line = log.note(log.checkpoint(3), key=OTHER.log_key).splitlines()[-1]
    item = log.items[0]
    cosigned = replace(item, proof=f"{item.proof}{line}\n")
    result = log.verify(receipts=[cosigned, log.items[1]])
    assert result.verdict is Verdict.SIMULATED
    assert text_of(log.epochs[0]) in str(cosigned.proof)
    witness = of(result, f"receipt {item.jti}", "WITNESS")
    assert witness.status is Status.INFO


def test_proof_whose_checkpoint_the_log_signed_twice_is_rejected() -> None:
    item = HONEST.items[0]
    doubled = replace(item, proof=twice(item.proof or ""))
    result = HONEST.verify(receipts=[doubled, HONEST.items[1]])
    refused(result, Verdict.REJECTED, "LOG-CHECKPOINT")


def test_quote_helper_shows_the_boots_own_domain() -> None:
    assert quoted_by(HONEST.made, HONEST.epochs[0].statement.report_data) == HONEST.epochs[0].quote
