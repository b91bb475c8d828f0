"""From outcomes to signed receipts, for one boot: as `claims_of` and `sign_receipt`, but quick."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from attestation.encoding.making import maker_of
from attestation.receipt.commitments import Openings
from attestation.receipt.fitting import MAX_PAYLOAD_BYTES
from attestation.receipt.payload import PayloadWriter
from attestation.receipt.seal import claims_of
from attestation.receipt.signing import sign_payload

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from attestation.encoding.digest import Digest
    from attestation.receipt.outcome import Outcome
    from attestation.receipt.payload import Place
    from attestation.receipt.seal import SealContext

_openings = maker_of(Openings)


class SignedReceipt(NamedTuple):
    """A token, its receipt digest, and the openings for its requester."""

    token: str
    digest: Digest
    openings: Openings


class Sealer:
    """Makes the receipts of one boot, under its receipt key with the thumbprint `kid`."""

    def __init__(self, boot: SealContext, private_key: Ed25519PrivateKey, kid: str) -> None:
        """Take what the receipts have in common; what `Place` holds is not looked at."""
        self._boot = boot
        self._key = private_key
        self._kid = kid
        self._writer = PayloadWriter(boot)

    def seal(self, outcome: Outcome, place: Place) -> SignedReceipt:
        """Return the receipt of an outcome at its place in the log.

        Raises `MalformedError` if it cannot be written: code "size", or as `PayloadWriter.write`.
        """
        payload, keys = self._writer.write(outcome, place)
        if len(payload) > MAX_PAYLOAD_BYTES:
            # With many parents only: then claims are left out until it fits.
            payload = claims_of(outcome, self._context(place))[0].encode()
        token, digest = sign_payload(payload, self._key, self._kid)
        return SignedReceipt(token, digest, _openings(keys, outcome.inserted))

    def _context(self, place: Place) -> SealContext:
        return replace(
            self._boot,
            issued_at=place.issued_at,
            index=place.leaf,
            admission=place.admission,
            call=place.call,
            previous=place.previous,
            known=place.known,
            repeats=place.repeats,
        )
