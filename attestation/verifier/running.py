"""What every quote of a running boot has to be, whether it answers a challenge or ends an epoch."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from attestation.tdx.identity import identity_of
from attestation.verifier.boot import find_other_statement
from attestation.verifier.ledger import unequal
from attestation.verifier.quotes import anchor_for

if TYPE_CHECKING:
    from attestation.statement import ChallengeStatement, EpochStatement
    from attestation.tdx.quote import Quote
    from attestation.verifier.appraisal import Appraised
    from attestation.verifier.grounds import Grounds
    from attestation.verifier.ledger import Complaint


def grounds_of(known: Appraised, grounds: Grounds) -> Grounds:
    """Return the grounds for later quotes of a boot: its own root alone.

    One boot is certified under one root.  A second one that the caller accepts as well could have
    made a quote with the same measurements and the same platform's name.
    """
    if known.quote is None:
        return grounds
    return replace(grounds, anchors=(anchor_for(known.quote, grounds.anchors),))


def find_stranger(
    what: str,
    statement: ChallengeStatement | EpochStatement,
    quote: Quote,
    known: Appraised,
    boot_quote: Quote,
) -> Complaint | None:
    """Return what shows that this quote is not one of this boot over this statement.

    1. the statement names the boot: bootseed, keyset_digest, boot_quote_digest
    2. the quote shows the trust domain and the platform of the boot's quote
    3. all 64 bytes of its REPORTDATA are the statement's hash and zeroes

    `what` names the kind of statement.  Nothing here says that the quote is genuine.
    """
    named = unequal(
        f"the {what} is of another boot",
        {
            "bootseed": known.boot.statement.bootseed,
            "keyset_digest": known.boot.statement.keyset_digest.value,
            "boot_quote_digest": boot_quote.digest.value,
        },
        {
            "bootseed": statement.bootseed,
            "keyset_digest": statement.keyset_digest.value,
            "boot_quote_digest": statement.boot_quote_digest.value,
        },
    )
    elsewhere = f"the {what} was quoted in another trust domain or on another platform"
    return (
        named
        or unequal(elsewhere, _identity(boot_quote), _identity(quote))
        or find_other_statement(statement, quote)
    )


def _identity(quote: Quote) -> dict[str, object]:
    return {
        name: f"{value:#x}" if isinstance(value, int) else value
        for name, value in identity_of(quote).items()
    }
