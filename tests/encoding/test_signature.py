"""Signatures in their standard encodings: one form each, and only of the given key."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa, x25519
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from attestation.encoding.roca import has_roca_fingerprint
from attestation.encoding.signature import (
    parse_public_key,
    verify_ecdsa_der,
    verify_ecdsa_fixed,
    verify_eddsa,
    verify_rsa_pkcs1,
    verify_rsa_pss,
)
from attestation.errors import AttestationError, EvidenceError
from tests.encoding.test_jws_verify import RSA, roca_modulus
from tests.refusals import refusal

EC = ec.generate_private_key(ec.SECP384R1())
ED = ed25519.Ed25519PrivateKey.generate()
HASH = hashes.SHA384()
DATA = b"data"
DER = EC.sign(DATA, ec.ECDSA(HASH))
R, S = decode_dss_signature(DER)
# n of P-384 (SEC 2 section 2.5.1).
ORDER = (1 << 384) - 0x389CB27E0BC8D220A7E5F24DB74F58851313E695333AD68D
FIXED = R.to_bytes(48, "big") + S.to_bytes(48, "big")


def numbered() -> Callable[[object], str]:
    """The key is another one in each run; the names of its tests are not."""
    numbers = itertools.count()
    return lambda _value: str(next(numbers))


def spki(key: object) -> bytes:
    public: bytes = key.public_bytes(  # type: ignore[attr-defined]
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    )
    return public


@pytest.mark.parametrize(
    "private", [EC, ED, RSA, ed448.Ed448PrivateKey.generate()], ids=["ec", "ed25519", "rsa", "448"]
)
def test_key_is_read_back(private: object) -> None:
    public = private.public_key()  # type: ignore[attr-defined]
    assert parse_public_key(spki(public)) == public


@pytest.mark.parametrize(
    "der",
    [
        b"",
        b"\x30\x00",
        spki(EC.public_key())[:-1],
        spki(EC.public_key()) + b"\0",
        spki(EC.public_key())[:-1] + bytes([spki(EC.public_key())[-1] ^ 1]),
        spki(x25519.X25519PrivateKey.generate().public_key()),
    ],
    ids=numbered(),
)
def test_other_bytes_are_no_key(der: bytes) -> None:
    assert refusal(parse_public_key, der) == "public_key"


@given(st.binary(max_size=200))
def test_any_bytes_are_a_key_or_refused(der: bytes) -> None:
    for data in (der, spki(ED.public_key())[:12] + der):
        try:
            parse_public_key(data)
        except AttestationError:
            continue


def test_signatures_of_each_kind_are_accepted() -> None:
    verify_ecdsa_der(EC.public_key(), DER, DATA, HASH)
    verify_ecdsa_fixed(EC.public_key(), FIXED, DATA, HASH)
    verify_eddsa(ED.public_key(), ED.sign(DATA), DATA)
    verify_rsa_pkcs1(RSA.public_key(), RSA.sign(DATA, padding.PKCS1v15(), HASH), DATA, HASH)
    # Salt and mask of sizes of their own.
    scheme = padding.PSS(padding.MGF1(hashes.SHA256()), 11)
    signature = RSA.sign(DATA, scheme, HASH)
    verify_rsa_pss(
        RSA.public_key(), signature, DATA, HASH, mask_digest=hashes.SHA256(), salt_bytes=11
    )


@pytest.mark.parametrize(
    "signature",
    [
        b"",
        b"\x30\x80" + DER[2:] + b"\0\0",
        b"\x30\x81" + DER[1:],
        DER + b"\0",
        DER[:-1],
        encode_dss_signature(R, S + ORDER),
        encode_dss_signature(R + ORDER, S),
        encode_dss_signature(0, S),
        encode_dss_signature(R, 0),
        encode_dss_signature(S, R),
        FIXED,
    ],
    ids=numbered(),
)
def test_other_encoding_of_an_ecdsa_signature_is_rejected(signature: bytes) -> None:
    key = EC.public_key()
    assert refusal(verify_ecdsa_der, key, signature, DATA, HASH, error=EvidenceError) == "signature"


@pytest.mark.parametrize(
    "signature",
    [
        b"",
        DER,
        FIXED[:-1],
        FIXED + b"\0",
        b"\0" + FIXED[:48] + b"\0" + FIXED[48:],
        FIXED[:48] + b"\0" + FIXED[48:],
        FIXED[48:] + FIXED[:48],
        bytes(96),
        FIXED[:48] + ORDER.to_bytes(48, "big"),
        b"\xff" * 96,
    ],
    ids=numbered(),
)
def test_other_pair_of_numbers_is_rejected(signature: bytes) -> None:
    key = EC.public_key()
    code = refusal(verify_ecdsa_fixed, key, signature, DATA, HASH, error=EvidenceError)
    assert code == "signature"


def other_data() -> list[Callable[[], None]]:
    pkcs1 = RSA.sign(DATA, padding.PKCS1v15(), HASH)
    pss = RSA.sign(DATA, padding.PSS(padding.MGF1(HASH), 48), HASH)
    other = rsa.generate_private_key(65537, 2048).public_key()
    public = RSA.public_key()
    return [
        lambda: verify_ecdsa_der(EC.public_key(), DER, b"other", HASH),
        lambda: verify_ecdsa_der(EC.public_key(), DER, DATA, hashes.SHA256()),
        lambda: verify_eddsa(ED.public_key(), ED.sign(DATA), b"other"),
        lambda: verify_eddsa(ED.public_key(), ED.sign(DATA) + b"\0", DATA),
        lambda: verify_rsa_pkcs1(public, pkcs1, b"other", HASH),
        lambda: verify_rsa_pkcs1(public, pkcs1, DATA, hashes.SHA256()),
        lambda: verify_rsa_pkcs1(other, pkcs1, DATA, HASH),
        lambda: verify_rsa_pkcs1(public, pss, DATA, HASH),
        lambda: verify_rsa_pkcs1(public, b"\0" + pkcs1, DATA, HASH),
        lambda: verify_rsa_pss(public, pss, b"other", HASH, mask_digest=HASH, salt_bytes=48),
        lambda: verify_rsa_pss(public, pss, DATA, HASH, mask_digest=HASH, salt_bytes=47),
        lambda: verify_rsa_pss(public, pss, DATA, HASH, mask_digest=hashes.SHA512(), salt_bytes=48),
        lambda: verify_rsa_pss(public, pss, DATA, HASH, mask_digest=HASH, salt_bytes=1 << 20),
    ]


@pytest.mark.parametrize("number", range(len(other_data())))
def test_signature_of_something_else_is_rejected(number: int) -> None:
    assert refusal(other_data()[number], error=EvidenceError) == "signature"


ODD_PRIMES = tuple(n for n in range(3, 168, 2) if all(n % smaller for smaller in range(3, n, 2)))


def test_modulus_of_the_broken_library_is_recognised_and_others_are_not() -> None:
    assert has_roca_fingerprint(roca_modulus())
    assert not has_roca_fingerprint(roca_modulus() + 2)
    assert not has_roca_fingerprint(RSA.public_key().public_numbers().n)
    assert not has_roca_fingerprint(0)


@pytest.mark.parametrize("prime", ODD_PRIMES)
def test_modulus_that_fits_the_broken_library_but_for_one_prime_is_not_its(prime: int) -> None:
    others = math.prod(ODD_PRIMES) // prime
    powers = {pow(65537, exponent, prime) for exponent in range(prime)}
    stray = next(value for value in reversed(range(prime)) if value not in powers)
    like_a_power = 1 + others * ((stray - 1) * pow(others, -1, prime) % prime)
    assert not has_roca_fingerprint(like_a_power)
    assert has_roca_fingerprint(1 + others * prime)
