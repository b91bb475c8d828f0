"""Keys and numbers of a simulated platform, all derived from one seed.

The seed is drawn afresh for every platform.  Giving one makes two platforms equal byte for
byte, which is for tests alone: whoever knows the seed owns the keys.
"""

from __future__ import annotations

import hashlib

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


class Derivation:
    """A source of keys and bytes, each a function of the seed and a label."""

    def __init__(self, seed: bytes) -> None:
        self._seed = seed

    def octets(self, label: str, length: int) -> bytes:
        """Return `length` bytes, at most 64."""
        message = b"simulated-tdx/" + label.encode()
        return hashlib.blake2b(message, key=self._seed[:64], digest_size=length).digest()

    def key(self, label: str) -> ec.EllipticCurvePrivateKey:
        """Return a P-256 key."""
        number = int.from_bytes(self.octets(f"key/{label}", 64), "big")
        return ec.derive_private_key(1 + number % (P256_ORDER - 1), ec.SECP256R1())

    def serial(self, label: str) -> int:
        """Return a positive certificate serial number below 2^159 (RFC 5280, 4.1.2.2)."""
        return 1 + (int.from_bytes(self.octets(f"serial/{label}", 20), "big") >> 2)


def sign_raw(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    """Return the 64 bytes r then s of a deterministic ECDSA signature (RFC 6979)."""
    signature = key.sign(data, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
    r, s = decode_dss_signature(signature)
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def complement_s(signature: bytes) -> bytes:
    """Return the other signature (r, n - s) that verifies wherever (r, s) does."""
    s = int.from_bytes(signature[32:], "big")
    return signature[:32] + (P256_ORDER - s).to_bytes(32, "big")


def public_xy(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the public key as 64 bytes x then y."""
    numbers = key.public_key().public_numbers()
    return numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")
