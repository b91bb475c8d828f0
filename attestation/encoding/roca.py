"""RSA keys whose modulus one vendor's library made guessable (ROCA, CVE-2017-15361).

The library chose primes of the form k * M + (65537^a mod M), M a product of small primes, so
that such a modulus is a power of 65537 modulo every one of them, and can be factored
(Nemec et al., "The Return of Coppersmith's Attack", ACM CCS 2017, section 2.1).
"""

from __future__ import annotations

_GENERATOR = 65537
# The primes whose product is the M of every key length that was affected.
_PRIMES = (
    3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97,
    101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
)  # fmt: skip


def has_roca_fingerprint(modulus: int) -> bool:
    """Say whether `modulus` is a power of 65537 modulo every prime that the library used.

    A modulus of any other origin is one with a probability below 2^-27.
    """
    return all(pow(modulus, _order(prime), prime) == 1 for prime in _PRIMES)


def _order(prime: int) -> int:
    """The multiplicative group is cyclic: its elements of order dividing n are one subgroup."""
    power, order = _GENERATOR % prime, 1
    while power != 1:
        power, order = power * _GENERATOR % prime, order + 1
    return order
