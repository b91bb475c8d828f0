"""Is a receipt signed by its boot's key, and does everything in it name that one boot?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attestation.encoding.instants import instant
from attestation.errors import EvidenceError
from attestation.receipt.signing import verify_receipt_signature
from attestation.verifier.words import short

if TYPE_CHECKING:
    from attestation.bundle import BootEvidence
    from attestation.receipt.claims import ReceiptClaims
    from attestation.receipt.signing import Receipt
    from attestation.statement.model_lock import ModelLock
    from attestation.tdx.quote import Quote
    from attestation.verifier.contents import Contents
    from attestation.verifier.ledger import Page

_NO_BOOT_HINT = (
    "get it with GET /v1/receipts/{id}?format=bundle, or merge it in with `attested bundle`"
)


def check_without_boot(receipt: Receipt, page: Page) -> None:
    """Write down what cannot be checked on a receipt whose boot is not in the file."""
    reason = f"the evidence of boot {short(receipt.claims.bootseed)} is not in the file"
    page.skipped("RECEIPT-SIGNATURE", reason, hint=_NO_BOOT_HINT)
    page.skipped("RECEIPT-BINDING", reason, hint=_NO_BOOT_HINT)


def check_signature(receipt: Receipt, boot: BootEvidence, page: Page) -> bool:
    """RECEIPT-SIGNATURE: by the one receipt key of the keyset."""
    try:
        verify_receipt_signature(receipt, boot.keyset.receipt_key)
    except EvidenceError as error:
        page.refused("RECEIPT-SIGNATURE", error)
        return False
    page.passed("RECEIPT-SIGNATURE", f"by key {receipt.kid[:16]}…")
    return True


def check_binding(receipt: Receipt, boot: BootEvidence, quote: Quote | None, page: Page) -> None:
    """RECEIPT-BINDING: keyset, quote, log, debug state, GPU evidence and time are the boot's."""
    claims = receipt.claims
    wrong = _other_boot(claims, boot)
    if quote is not None:
        wrong |= _other_quote(claims, quote)
    if wrong:
        page.rejected(
            "RECEIPT-BINDING",
            "the receipt does not belong to this boot",
            expected="; ".join(f"{name} {expected}" for name, (expected, _) in wrong.items()),
            observed="; ".join(f"{name} {seen}" for name, (_, seen) in wrong.items()),
        )
    elif quote is None:
        page.skipped("RECEIPT-BINDING", "the boot's quote could not be read")
    else:
        page.passed("RECEIPT-BINDING", f"every claim names boot {short(claims.bootseed)}")


def check_nonce(claims: ReceiptClaims, contents: Contents, page: Page) -> None:
    """NONCE: the receipt repeats the caller's nonce, so it was made after the caller chose it."""
    if contents.nonce is None:
        page.skipped("NONCE", "no nonce was given to compare", hint="give it with --nonce")
    elif contents.nonce == claims.nonce:
        page.passed("NONCE", "the receipt repeats the nonce")
    else:
        page.rejected(
            "NONCE",
            "the receipt was not made for this nonce",
            expected=contents.nonce,
            observed=claims.nonce or "no nonce",
            hint="the receipt is of another exchange: an earlier answer may have been replayed",
        )


def check_channel(boot: BootEvidence, contents: Contents, page: Page) -> None:
    """CHANNEL: the connection ended at a TLS key of the keyset; only a live client knows."""
    spki = contents.peer_spki
    if spki is None:
        page.skipped("CHANNEL", "only a live client sees the key its connection ends at")
    elif not boot.keyset.tls_spki:
        page.skipped(
            "CHANNEL",
            "the keyset names no TLS key: confidentiality of the channel is not proved",
        )
    elif spki in boot.keyset.tls_spki:
        page.passed("CHANNEL", f"the connection ended at {spki}")
    else:
        page.rejected(
            "CHANNEL",
            "the connection ended at a key that is not in the keyset",
            expected=" or ".join(str(known) for known in boot.keyset.tls_spki),
            observed=f"{spki}",
        )


def _other_boot(claims: ReceiptClaims, boot: BootEvidence) -> dict[str, tuple[str, str]]:
    statement = boot.statement
    pairs: dict[str, tuple[object, object]] = {
        "keys": (boot.keyset.digest, claims.keyset_digest),
        "log origin": (statement.log_origin, claims.log.origin),
        "GPU evidence": (statement.gpu_digest, claims.gpu_evidence),
    }
    if claims.issued_at > boot.keyset.not_after:
        pairs["iat"] = (
            f"at most {instant(boot.keyset.not_after)}, when the keyset ends",
            instant(claims.issued_at),
        )
    return _unequal(pairs)


def _other_quote(claims: ReceiptClaims, quote: Quote) -> dict[str, tuple[str, str]]:
    return _unequal(
        {
            "quote": (quote.digest, claims.quote_digest),
            "dbgstat": ("enabled" if quote.debug else "disabled", claims.debug),
        }
    )


def _unequal(pairs: dict[str, tuple[object, object]]) -> dict[str, tuple[str, str]]:
    return {
        name: (_named(expected), _named(seen))
        for name, (expected, seen) in pairs.items()
        if expected != seen
    }


def _named(value: object) -> str:
    return "none" if value is None else str(value)


def summary(claims: ReceiptClaims) -> str:
    """Return how the exchange ended, and which attempt it repeats."""
    attempt = claims.lineage.retry_of
    repeats = "" if attempt is None else f"; retry of {attempt.hex}"
    return f"end {claims.response.end}{repeats}"


def receipt_facts(receipt: Receipt, lock: ModelLock | None) -> dict[str, object]:
    """Return the plain facts of a receipt that a result shows, those of its model's lock too."""
    claims, attempt = receipt.claims, receipt.claims.lineage.retry_of
    return {
        "jti": claims.jti,
        "bootseed": claims.bootseed.hex(),
        "index": claims.log.index,
        "digest": receipt.digest.hex,
        "iat_claimed": claims.issued_at,
        "end": str(claims.response.end),
        "status": claims.response.status,
        "path": claims.request.path,
        "model_asked": claims.model.id,
        "model_served": claims.model.served,
        "model_digest": claims.model.digest.hex if claims.model.digest else None,
        "model_lock": lock.facts() if lock and lock.digest == claims.model.digest else None,
        "subject": claims.subject.hex,
        "retry_of": attempt.hex if attempt else None,
    }
