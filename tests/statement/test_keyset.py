"""A keyset has exactly one receipt key, and no key has two roles."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attestation.encoding import jcs
from attestation.encoding.digest import Digest
from attestation.encoding.jwk import Jwk, thumbprint
from attestation.errors import MalformedError
from attestation.merkle.note import vkey_for
from attestation.statement import Keyset, parse_keyset

RECEIPT = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32).public_key()
LOG = Ed25519PrivateKey.from_private_bytes(b"\x02" * 32).public_key()
TLS = (Digest.of(b"spki 1"), Digest.of(b"spki 2"))


def jwk(raw: bytes) -> Jwk:
    return Jwk(raw=raw, kid=thumbprint(raw))


def keyset(log: bytes = LOG.public_bytes_raw(), tls: tuple[Digest, ...] = TLS) -> Keyset:
    return Keyset(
        log_vkey=vkey_for("gateway.example/0001020304050607", log),
        not_after=1_766_000_000,
        receipt_key=jwk(RECEIPT.public_bytes_raw()),
        tls_spki=tls,
    )


@pytest.mark.parametrize("tls", [(), TLS[:1], TLS])
def test_keyset_survives_being_written_and_read(tls: tuple[Digest, ...]) -> None:
    made = keyset(tls=tls)
    assert parse_keyset(jcs.parse_canonical(made.canonical)) == made
    assert made.digest == Digest.of(jcs.canonicalize(made.to_json()))


def test_keyset_is_written_as_documented() -> None:
    document = keyset(tls=TLS[:1]).to_json()
    assert sorted(document) == ["log", "not_after", "receipt", "tls"]
    assert document["log"].startswith("gateway.example/0001020304050607+")
    assert [sorted(key) for key in document["receipt"]] == [["crv", "kid", "kty", "x"]]
    assert document["tls"] == [{"spki_sha256": TLS[0].hex}]


def test_log_key_is_taken_apart() -> None:
    assert keyset().log_key.public == LOG.public_bytes_raw()


def test_receipt_key_that_is_also_the_log_key_is_refused() -> None:
    with pytest.raises(MalformedError) as refused:
        keyset(log=RECEIPT.public_bytes_raw())
    assert refused.value.code == "keyset"


def test_tls_key_named_twice_is_refused() -> None:
    with pytest.raises(MalformedError):
        keyset(tls=(TLS[0], TLS[0]))


@pytest.mark.parametrize("key", [RECEIPT, LOG])
def test_tls_key_that_also_signs_is_refused(key: Any) -> None:
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(MalformedError):
        keyset(tls=(Digest.of(spki),))


def changed(**changes: Any) -> dict[str, Any]:
    return copy.deepcopy(keyset().to_json()) | changes


RECEIPT_JWK = keyset().to_json()["receipt"][0]


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        changed(extra=1),
        changed(receipt=[]),
        changed(receipt=[RECEIPT_JWK, RECEIPT_JWK]),
        changed(receipt=RECEIPT_JWK),
        changed(receipt=[RECEIPT_JWK | {"use": "sig"}]),
        changed(receipt=[RECEIPT_JWK | {"kid": "x"}]),
        changed(receipt=[{**RECEIPT_JWK, "d": "A" * 43}]),
        changed(log="gateway.example+00000000+AAAA"),
        changed(log=None),
        changed(not_after=-1),
        changed(not_after=None),
        changed(tls=None),
        changed(tls=[{}]),
        changed(tls=["x"]),
        changed(tls=[{"spki_sha256": "x"}]),
        changed(tls=[{"spki_sha256": TLS[0].hex, "name": "x"}]),
        changed(tls=[{"spki_sha256": f"{number:064x}"} for number in range(9)]),
    ],
)
def test_keyset_in_another_form_is_refused(document: Any) -> None:
    with pytest.raises(MalformedError):
        parse_keyset(document)
