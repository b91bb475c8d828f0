"""The rows of the running boot in the index, which lies on a disk of the host's.

A receipt names its parents by their digests, and its signature vouches for them.  So a row counts
here only with the mark that this boot put on it; nothing else of the file is believed.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import TYPE_CHECKING

from attestation.encoding.digest import Digest
from attestation.errors import UnavailableError
from gateway.notary.log.database import IndexedReceipt

if TYPE_CHECKING:
    from gateway.notary.log.index import ReceiptIndex
    from gateway.notary.log.segments import Location

_MARK_BYTES = 16
_new = tuple.__new__  # a named tuple by its own name takes three times as long


class OwnRows:
    """Adds the receipts of one boot to the index, and finds those again that it added."""

    def __init__(self, index: ReceiptIndex, boot: str) -> None:
        """Describe the rows of the boot in the folder `boot`; the key for them is drawn here."""
        self._index = index
        self._boot = boot
        self._marks = hashlib.blake2b(digest_size=_MARK_BYTES, key=secrets.token_bytes(32))

    def add(self, jti: str, sub: Digest, digest: Digest, leaf: int, location: Location) -> None:
        """Add a receipt that is durable at this location; rows come in the order of the log."""
        key, owner, hashed = bytes.fromhex(jti), sub.value, digest.value
        mark = self._mark(key, owner, hashed)
        segment, offset = location
        row = _new(IndexedReceipt, (key, self._boot, segment, offset, leaf, owner, hashed, mark))
        self._index.add(row)

    def digest_of(self, jti: str, sub: Digest) -> Digest | None:
        """Return the digest of a receipt that this boot sealed for this owner.

        None for everything else, and where the index cannot tell now: unknown, foreign and
        altered look alike (SPEC section 5).
        """
        key = bytes.fromhex(jti)
        try:
            row = self._index.get(key)
        except UnavailableError:
            return None
        if row is None or row.boot != self._boot:
            return None
        if not hmac.compare_digest(row.mark, self._mark(key, sub.value, row.digest)):
            return None
        return Digest(row.digest)

    def _mark(self, jti: bytes, sub: bytes, digest: bytes) -> bytes:
        # 16 and 32 bytes before the last: what is hashed can be read in one way only.
        mark = self._marks.copy()
        mark.update(jti + sub + digest)
        return mark.digest()
