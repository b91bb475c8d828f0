"""The two spellings of one ECDSA signature (r, s), and which of them counts here.

(r, n - s) holds wherever (r, s) does, and anyone can compute one from the other.  So a place
that must have one form takes the low one, s at most n / 2, as SEC 1 section 4.1.3 permits any
signer to choose.
"""

from __future__ import annotations

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""n, the order of the curve's group (SEC 2 section 2.4.2)."""


def low_s(signature: bytes) -> bytes:
    """Return the low form of a P-256 signature of 64 bytes, r then s.

    An s outside 1 to n - 1 comes back as it is: no signature that holds has one.
    """
    s = int.from_bytes(signature[32:], "big")
    if not P256_ORDER // 2 < s < P256_ORDER:
        return signature
    return signature[:32] + (P256_ORDER - s).to_bytes(32, "big")
