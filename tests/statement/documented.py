"""The example of docs/spec/statements.md, made by the product's own code."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attestation.encoding.digest import Digest
from attestation.encoding.jwk import Jwk, thumbprint
from attestation.merkle.note import vkey_for
from attestation.statement import BootStatement, Keyset, log_origin

BOOTSEED = b"\x11" * 32


def public(number: int) -> bytes:
    private = Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)
    return private.public_key().public_bytes_raw()


def documented() -> tuple[Keyset, BootStatement]:
    origin = log_origin("gateway.example", BOOTSEED)
    keyset = Keyset(
        log_vkey=vkey_for(origin, public(2)),
        not_after=1_766_260_800,
        receipt_key=Jwk(raw=public(1), kid=thumbprint(public(1))),
        tls_spki=(Digest.of(b"the SubjectPublicKeyInfo of a TLS key"),),
    )
    statement = BootStatement(
        bootseed=BOOTSEED,
        keyset_digest=keyset.digest,
        log_origin=origin,
        config_digest=Digest.of(b"the effective settings"),
        time_claimed=1_763_668_800,
        image="registry.example/attested-gateway:0.1.0",
    )
    return keyset, statement
