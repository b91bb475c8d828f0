"""Is the boot statement what was quoted, and the keyset what it names?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attestation.verifier.ledger import Complaint
from attestation.verifier.words import short

if TYPE_CHECKING:
    from attestation.bundle import BootEvidence
    from attestation.statement import Statement
    from attestation.tdx.quote import Quote
    from attestation.verifier.ledger import Page


def find_other_statement(statement: Statement, quote: Quote) -> Complaint | None:
    """Return the complaint about a quote whose REPORTDATA is not the statement's, all 64 bytes."""
    expected = statement.report_data
    if quote.body.report_data == expected:
        return None
    return Complaint(
        reason="the quote was made for another statement",
        expected=f"REPORTDATA {short(expected)}",
        observed=short(quote.body.report_data),
    )


def check_statement(statement: Statement, quote: Quote, page: Page) -> None:
    """BOOT-STATEMENT: REPORTDATA is the statement's hash and 32 zero bytes."""
    complaint = find_other_statement(statement, quote)
    if complaint is None:
        page.passed("BOOT-STATEMENT", "REPORTDATA is the statement's hash")
    else:
        page.contradicted("BOOT-STATEMENT", complaint)


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
