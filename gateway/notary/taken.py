"""Which receipt ids a boot has taken, remembered by the notary itself.

Openings follow from the id, so that a second receipt of one id would open the first to whoever
gets it.  The index on the disk cannot answer this: the disk is the host's, who can remove a row.
"""

from __future__ import annotations

import hashlib
import secrets

_BUCKET_BYTES = 2
_MARK_BYTES = 6


class TakenIds:
    """A set of receipt ids (32 hex characters) that only grows, in 6 to 7 bytes for each.

    Kept are 64 bits of a hash under a key that nobody else has.  So an id that was taken is
    always known; one that was not is refused by mistake in one boot of 60,000 with ten million
    receipts, and nobody can make that likelier or fill one bucket on purpose.
    """

    def __init__(self) -> None:
        size = _BUCKET_BYTES + _MARK_BYTES
        self._hash = hashlib.blake2b(digest_size=size, key=secrets.token_bytes(32))
        self._buckets = [bytearray() for _ in range(1 << 8 * _BUCKET_BYTES)]

    def __contains__(self, jti: str) -> bool:
        """Whether the id was taken."""
        bucket, mark = self._place(jti)
        return mark in bucket

    def take(self, jti: str) -> bool:
        """Take an id; return whether it was free."""
        bucket, mark = self._place(jti)
        if mark in bucket:
            return False
        bucket += mark
        return True

    def _place(self, jti: str) -> tuple[bytearray, bytes]:
        of_jti = self._hash.copy()
        of_jti.update(jti.encode("utf-8"))
        hashed = of_jti.digest()
        bucket = int.from_bytes(hashed[:_BUCKET_BYTES], "big")
        return self._buckets[bucket], hashed[_BUCKET_BYTES:]
