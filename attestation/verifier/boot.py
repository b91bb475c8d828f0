"""Is the boot statement what was quoted, and the keyset what it names?"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from attestation.errors import EvidenceError
from attestation.merkle.checkpoint import parse_checkpoint
from attestation.merkle.note import parse_note, verify_note
from attestation.verifier.words import short

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from attestation.bundle import BootEvidence
    from attestation.encoding.digest import Digest
    from attestation.statement import PreviousBoot, Statement
    from attestation.tdx.quote import Quote
    from attestation.verifier.ledger import Page


def check_statement(statement: Statement, quote: Quote, page: Page) -> None:
    """BOOT-STATEMENT: all 64 bytes of REPORTDATA are the statement's hash and zeroes."""
    expected = statement.report_data
    if quote.body.report_data != expected:
        page.rejected(
            "BOOT-STATEMENT",
            "the quote was made for another statement",
            expected=f"REPORTDATA {short(expected)}",
            observed=short(quote.body.report_data),
        )
    else:
        page.passed("BOOT-STATEMENT", "REPORTDATA is the statement's hash")


def check_keyset(boot: BootEvidence, page: Page) -> None:
    """KEYSET: the statement names this keyset, and the log key carries the log's name."""
    statement, keyset = boot.statement, boot.keyset
    if keyset.digest != statement.keyset_digest:
        page.rejected(
            "KEYSET",
            "the keyset is not the one that the boot statement names",
            expected=f"{statement.keyset_digest}",
            observed=f"{keyset.digest}",
        )
    elif keyset.log_key.name != statement.log_origin:
        page.rejected(
            "KEYSET",
            "the log key is named for another log",
            expected=statement.log_origin,
            observed=keyset.log_key.name,
        )
    else:
        page.passed("KEYSET", f"named by the statement: {keyset.digest}")


def count_successors(boots: Sequence[BootEvidence]) -> Mapping[Digest, int]:
    """Return by how many of `boots` each predecessor, named by its quote digest, is named."""
    return Counter(boot.statement.prev.quote_digest for boot in boots if boot.statement.prev)


def check_chain(
    boot: BootEvidence,
    successors: Mapping[Digest, int],
    by_quote: Mapping[Digest, BootEvidence],
    page: Page,
) -> None:
    """BOOT-CHAIN: the named predecessor signed that checkpoint, and no second boot names it.

    `successors` is what `count_successors` says of all boots in the file.
    """
    previous = boot.statement.prev
    if previous is None:
        page.info("BOOT-CHAIN", "the statement names no boot before it")
        return
    if successors[previous.quote_digest] > 1:
        page.rejected(
            "BOOT-CHAIN",
            "two boots name the same predecessor: one history was continued twice",
            expected="one successor for each boot",
            observed=f"predecessor {previous.quote_digest}",
        )
        return
    before = by_quote.get(previous.quote_digest)
    if before is None:
        page.skipped(
            "BOOT-CHAIN",
            f"the predecessor {previous.quote_digest} is not in the file",
            hint="`attested bundle` merges bundles of several boots",
        )
        return
    try:
        _verify_last_checkpoint(previous, before)
    except EvidenceError as error:
        page.refused("BOOT-CHAIN", error)
        return
    page.passed("BOOT-CHAIN", f"continues the log of boot {short(before.statement.bootseed)}")


def _verify_last_checkpoint(previous: PreviousBoot, before: BootEvidence) -> None:
    note = parse_note(previous.checkpoint)
    verify_note(note, [before.keyset.log_key])
    origin = parse_checkpoint(note.text).origin
    if origin != before.statement.log_origin:
        raise EvidenceError(
            "the named checkpoint is of another log",
            expected=before.statement.log_origin,
            observed=origin,
        )
