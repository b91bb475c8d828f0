"""Gateways that lie about their log, and thieves of their keys.

Every attack writes the best evidence it can make: only what its author cannot do is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from attestation.bundle import BundledReceipt
from attestation.encoding.digest import Digest
from attestation.result import AttestationResult
from gateway.attester.simulated.facts import Machine
from gateway.attester.simulated.platform import SimulatedPlatform
from tests.support.bundles import NOW, Gateway
from tests.support.epochs import (
    COMPLETE,
    EpochLog,
    continued,
    proof_of,
    quoted_on,
    together,
)

Attack = Callable[[], AttestationResult]


LOOSE = "require_anchored = false"


def history(seed: str = "a", platform: SimulatedPlatform | None = None) -> EpochLog:
    """Three epochs over six receipts, with a request in flight all along."""
    log = EpochLog(Gateway(seed=seed, platform=platform))
    log.announce()
    for _ in range(3):
        log.serve(2)
        log.quote_epoch()
    return log


HONEST = history()


MACHINE = HONEST.made.machine


def forked(size: int) -> EpochLog:
    """The same boot, telling another story from leaf `size` on."""
    log = EpochLog(Gateway())
    log.announce()
    while len(log.entries) < size:
        log.serve()
    return log


def elsewhere(platform: SimulatedPlatform, **changes: Any) -> AttestationResult:
    """The honest epoch's statement, copied and quoted somewhere else."""
    epoch = HONEST.epochs[0]
    quote = quoted_on(HONEST.made, platform)(epoch.statement.report_data)
    forged = replace(epoch, quote=quote)
    return HONEST.verify(epochs=[forged, *HONEST.epochs[1:]], **changes)


def same_name() -> Machine:
    """A machine that says it is the boot's, in certificates of another root."""
    shown = HONEST.verify().facts["quotes"][0]  # type: ignore[index]
    return replace(
        MACHINE.machine, ppid=bytes.fromhex(shown["ppid"]), piid=bytes.fromhex(shown["piid"])
    )


def stolen(log: EpochLog, **context: Any) -> BundledReceipt:
    """A receipt signed with the boot's own receipt key after the boot, with openings."""
    number = len(log.made.exchanged)
    outcome = log.made.outcome(request=b"never sent", jti=f"{number:032x}")
    return log.made.seal(outcome, **context)


# Forks, truncation, rollback


def fork_with_both_epochs() -> AttestationResult:
    other = forked(3)
    other.serve(jti="f" * 32)
    other.quote_epoch()
    return HONEST.verify(
        epochs=[*HONEST.epochs, *other.epochs], receipts=[*HONEST.items, *other.items[2:]]
    )


def fork_of_two_receipts_in_one_place() -> AttestationResult:
    other = EpochLog(Gateway())
    other.serve(jti="f" * 32)
    return HONEST.verify(receipts=[*HONEST.items, *other.items], log=LOOSE)


def fork_of_two_roots_for_one_size() -> AttestationResult:
    other = EpochLog(Gateway())
    other.serve(2, response=b"another answer")
    other.prove(replace(HONEST.epochs[0], checkpoint=other.note(other.checkpoint())), 3)
    items = [*other.items[1:], *HONEST.items[2:]]
    return HONEST.verify(receipts=items, log=LOOSE, contents={})


def fork_of_epochs_after_one_quote() -> AttestationResult:
    log = history()
    before = log.epochs[1].statement.prev_quote_digest
    skipped = log.evidence(epoch=3, prev_quote_digest=before)
    return log.verify(epochs=[*log.epochs, skipped])


def truncated_log() -> AttestationResult:
    log = history()
    entries, log.entries = log.entries, log.entries[:6]
    shorter = log.evidence(completed=4, in_flight=3, admitted=7)
    log.entries = entries
    return log.verify(epochs=[*log.epochs, shorter])


def rolled_back_copy() -> AttestationResult:
    later = continued(HONEST, size=6)
    later.serve()
    later.quote_epoch()
    return together(HONEST, later)


def two_successors() -> AttestationResult:
    one, other = continued(HONEST, seed="one"), continued(HONEST, seed="other")
    return together(HONEST, one, other)


def forked_and_continued() -> AttestationResult:
    other = forked(4)
    while len(other.entries) < len(HONEST.entries) - 1:
        other.entries.append(b"\x01" + Digest.of(b"%d" % len(other.entries)).value)
    later = continued(other)
    later.serve()
    later.quote_epoch()
    return together(HONEST, later)


# Splices of two boots


def epoch_of_another_boot_of_the_machine() -> AttestationResult:
    other = history("b", MACHINE)
    spliced = replace(
        other.epochs[0], statement=replace(other.epochs[0].statement, bootseed=HONEST.made.bootseed)
    )
    return HONEST.verify(epochs=[spliced], receipts=HONEST.items[:2])


def epoch_that_names_another_boots_quote() -> AttestationResult:
    log = EpochLog(Gateway())
    log.serve(2)
    log.quote_epoch(
        boot_quote_digest=Digest.of(b"another"), prev_quote_digest=Digest.of(b"another")
    )
    return log.verify()


def proof_of_one_boot_with_the_epoch_of_another() -> AttestationResult:
    other = history("b", MACHINE)
    return together(HONEST, other, epochs=other.epochs, receipts=HONEST.items[:2], contents={})


def proof_in_the_log_of_another_boot() -> AttestationResult:
    other = history("b", MACHINE)
    other.entries[3] = b"\x01" + HONEST.items[0].receipt.digest.value
    epoch = other.quote_epoch()
    item = replace(HONEST.items[0], proof=proof_of(3, other.leaves(epoch.statement.size),
                                                   epoch.checkpoint))  # fmt: skip
    return together(HONEST, other, epochs=[*HONEST.epochs, epoch], receipts=[item], contents={})


# Copied statements, replayed quotes


def on_another_platform() -> AttestationResult:
    return elsewhere(MACHINE.but(machine=Machine(ppid=b"\x01" * 16)))


def on_the_same_platform_with_another_rtmr3() -> AttestationResult:
    epoch = HONEST.epochs[0]
    quote = HONEST.made.quote(epoch.statement.report_data, [b"\x01" * 48])
    return HONEST.verify(epochs=[replace(epoch, quote=quote), *HONEST.epochs[1:]])


def under_another_root() -> AttestationResult:
    made = SimulatedPlatform(now=NOW, seed=b"\x07" * 32, machine=same_name())
    return elsewhere(made, anchors=[HONEST.made.anchor, made.anchor])


def old_quote_with_a_new_statement() -> AttestationResult:
    log = history()
    log.serve(2)
    log.epochs.append(replace(log.evidence(), quote=log.epochs[-1].quote))
    return log.verify()


def statement_with_a_changed_counter() -> AttestationResult:
    epoch = HONEST.epochs[0]
    said = replace(epoch.statement, refused_unreceipted=1)
    return HONEST.verify(epochs=[replace(epoch, statement=said), *HONEST.epochs[1:]])


def quote_of_the_boot_as_an_epochs() -> AttestationResult:
    forged = replace(HONEST.epochs[0], quote=HONEST.made.evidence.quote)
    return HONEST.verify(epochs=[forged, *HONEST.epochs[1:]])


def checkpoint_of_another_epoch() -> AttestationResult:
    one, other, last = HONEST.epochs
    swapped = [replace(one, checkpoint=other.checkpoint), replace(other, checkpoint=one.checkpoint)]
    return HONEST.verify(epochs=[*swapped, last])


# Stolen keys


def stolen_receipt_key() -> AttestationResult:
    log = history()
    extra = stolen(log, index=len(log.entries), admission=log.admitted)
    return log.verify(receipts=[*log.items, extra])


def stolen_keys_with_a_checkpoint_nobody_quoted() -> AttestationResult:
    log = history()
    extra = stolen(log, index=len(log.entries), admission=log.admitted)
    log.entries.append(b"\x01" + extra.receipt.digest.value)
    proof = proof_of(len(log.entries) - 1, log.leaves(), log.note(log.checkpoint()))
    return log.verify(receipts=[*log.items, replace(extra, proof=proof)])


def stolen_keys_with_an_epoch_of_a_machine_of_the_thiefs() -> AttestationResult:
    log = history()
    thief = SimulatedPlatform(now=NOW, seed=b"\x09" * 32, machine=same_name())
    log.serve()
    log.quote_epoch(quote=quoted_on(log.made, thief))
    return log.verify()


def stolen_keys_over_a_quoted_size() -> AttestationResult:
    log = history()
    extra = stolen(log, index=2, admission=2)
    entries = [*log.entries[:2], b"\x01" + extra.receipt.digest.value]
    forged = EpochLog(log.made, entries=entries)
    proof = proof_of(2, forged.leaves(), forged.note(forged.checkpoint()))
    return log.verify(receipts=[log.items[0], replace(extra, proof=proof)], log=LOOSE, contents={})


def stolen_receipt_key_in_the_place_of_an_epochs_leaf() -> AttestationResult:
    log = history()
    extra = stolen(log, index=3, admission=0)
    return log.verify(receipts=[*log.items, extra], log=LOOSE)


def stolen_receipt_key_and_an_admission_that_was_not_yet() -> AttestationResult:
    log = history()
    extra = stolen(log, index=3, admission=99)
    return log.verify(receipts=[log.items[0], extra], log=LOOSE, contents={})


def stolen_receipt_key_and_one_receipt_left_out() -> AttestationResult:
    log = history()
    replaced = stolen(log, index=2, admission=2)
    items = [item for item in log.items if item.receipt.claims.log.index != 2]
    return log.verify(receipts=[*items, replaced], log=LOOSE, contents={})


# A gateway that quotes what is not so


def counting(**changes: Any) -> AttestationResult:
    log = history()
    log.serve(2)
    log.quote_epoch(**changes)
    return log.verify()


def fewer_completed() -> AttestationResult:
    return counting(completed=7, in_flight=2)


def more_completed() -> AttestationResult:
    log = history()
    log.serve(2)
    log.quote_epoch(completed=9, in_flight=0)
    return log.verify(log=COMPLETE)


def dropped_epoch() -> AttestationResult:
    return HONEST.verify(
        epochs=[HONEST.epochs[0], HONEST.epochs[2]],
        receipts=[*HONEST.items[:2], *HONEST.items[4:]],
        log=COMPLETE,
        contents={},
    )


def dropped_receipt() -> AttestationResult:
    return HONEST.verify(receipts=[*HONEST.items[:2], *HONEST.items[3:]], log=COMPLETE, contents={})


def dropped_tail() -> AttestationResult:
    later = continued(HONEST, size=9)
    later.serve()
    later.quote_epoch()
    return together(HONEST, later, epochs=[*HONEST.epochs[:2], *later.epochs], log=COMPLETE)


def other_grants() -> AttestationResult:
    return counting(grants_digest=Digest.of(b"grants"))


def fewer_unauthenticated() -> AttestationResult:
    log = history()
    log.quote_epoch(unauthenticated=4)
    log.quote_epoch(unauthenticated=3)
    return log.verify()


def fewer_refused() -> AttestationResult:
    log = history()
    log.quote_epoch(refused_unreceipted=4)
    log.quote_epoch(refused_unreceipted=3)
    return log.verify()


def fewer_admitted() -> AttestationResult:
    return counting(admitted=8, in_flight=0)


def other_tree() -> AttestationResult:
    log = EpochLog(Gateway())
    log.serve(2)
    entries = list(log.entries)
    log.entries = [entries[0], entries[2], entries[1]]
    log.quote_epoch()
    log.made.exchanged = [
        replace(one, item=replace(one.item, proof=None)) for one in log.made.exchanged
    ]
    return log.verify(log=LOOSE)


# A chain that is none


def reordered() -> AttestationResult:
    return renumbered({1: 2, 2: 1})


def renumbered(numbers: dict[int, int]) -> AttestationResult:
    """A lying gateway that quotes its epochs under other numbers."""
    log = EpochLog(Gateway())
    for number in range(3):
        log.serve(2)
        log.quote_epoch(epoch=numbers.get(number, number))
    return log.verify()


def foreign_quote_before() -> AttestationResult:
    return counting(prev_quote_digest=Digest.of(b"another"))


def second_beginning() -> AttestationResult:
    log = history()
    log.serve(2)
    log.quote_epoch(prev_quote_digest=log.made.quote_digest)
    return log.verify(epochs=log.epochs[1:], receipts=log.items[4:], contents={})


def first_epoch_after_another_quote() -> AttestationResult:
    log = EpochLog(Gateway())
    log.serve(2)
    log.quote_epoch(prev_quote_digest=Digest.of(b"another"))
    return log.verify()


def too_many_at_once() -> AttestationResult:
    log = EpochLog(Gateway())
    log.serve(4)
    log.quote_epoch(completed=1, in_flight=3)
    log.quote_epoch(completed=4, in_flight=0)
    return log.verify(receipts=[], log=LOOSE, contents={})


REJECTED: dict[Attack, set[str]] = {
    fork_with_both_epochs: {"EQUIVOCATION"},
    fork_of_two_receipts_in_one_place: {"EQUIVOCATION"},
    fork_of_two_roots_for_one_size: {"EQUIVOCATION"},
    fork_of_epochs_after_one_quote: {"EQUIVOCATION", "EPOCH-CHAIN"},
    truncated_log: {"EPOCH-CHAIN"},
    rolled_back_copy: {"BOOT-CHAIN"},
    two_successors: {"BOOT-CHAIN"},
    forked_and_continued: {"EQUIVOCATION"},
    epoch_of_another_boot_of_the_machine: {"EPOCH-QUOTE", "LOG-CHECKPOINT", "EVENT-LOG"},
    epoch_that_names_another_boots_quote: {"EPOCH-QUOTE"},
    proof_in_the_log_of_another_boot: {"LOG-CHECKPOINT"},
    on_another_platform: {"EPOCH-QUOTE"},
    on_the_same_platform_with_another_rtmr3: {"EPOCH-QUOTE", "EVENT-LOG"},
    under_another_root: {"QUOTE-GENUINE"},
    old_quote_with_a_new_statement: {"EPOCH-QUOTE"},
    statement_with_a_changed_counter: {"EPOCH-QUOTE"},
    quote_of_the_boot_as_an_epochs: {"EPOCH-QUOTE"},
    checkpoint_of_another_epoch: {"EPOCH-QUOTE"},
    stolen_keys_with_an_epoch_of_a_machine_of_the_thiefs: {"QUOTE-GENUINE"},
    stolen_keys_over_a_quoted_size: {"EQUIVOCATION"},
    stolen_receipt_key_in_the_place_of_an_epochs_leaf: {"EQUIVOCATION"},
    stolen_receipt_key_and_an_admission_that_was_not_yet: {"EQUIVOCATION"},
    stolen_receipt_key_and_one_receipt_left_out: {"EQUIVOCATION"},
    fewer_completed: {"EQUIVOCATION"},
    other_grants: {"EPOCH-CHAIN"},
    fewer_unauthenticated: {"EPOCH-CHAIN"},
    fewer_refused: {"EPOCH-CHAIN"},
    fewer_admitted: {"EQUIVOCATION"},
    other_tree: {"EQUIVOCATION"},
    reordered: {"EPOCH-CHAIN"},
    foreign_quote_before: {"EPOCH-CHAIN"},
    second_beginning: {"EPOCH-CHAIN"},
    first_epoch_after_another_quote: {"EPOCH-CHAIN"},
    too_many_at_once: {"EPOCH-CHAIN"},
}


"""Attack → the checks that fail; the verdict is REJECTED."""


OPEN: dict[Attack, set[str]] = {
    proof_of_one_boot_with_the_epoch_of_another: {"EPOCH-QUOTE"},
    stolen_receipt_key: {"LOG-INCLUSION", "LOG-CHECKPOINT", "EPOCH-QUOTE"},
    stolen_keys_with_a_checkpoint_nobody_quoted: {"EPOCH-QUOTE"},
    more_completed: {"EPOCH-CHAIN"},
    dropped_epoch: {"EPOCH-CHAIN"},
    dropped_receipt: {"EPOCH-CHAIN"},
    dropped_tail: {"EPOCH-QUOTE"},
}


"""Attack → the checks that stay open; the verdict is INCOMPLETE."""
