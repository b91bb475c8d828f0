"""DSSE envelopes: what is signed, who signed, and what is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from attestation.encoding import jcs
from attestation.errors import EvidenceError, MalformedError
from attestation.release.dsse import (
    MAX_ENVELOPE_BYTES,
    EnvelopeSignature,
    pae,
    parse_envelope,
    sign_envelope,
    verify_envelope,
)
from tests.refusals import refusal
from tests.release.builders import key, vkeys

TYPE = "application/vnd.in-toto+json"
SIGNED = sign_envelope(TYPE, b"hello", [key(1)])


def test_encoding_is_that_of_the_specification() -> None:
    expected = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    assert pae("http://example.com/HelloWorld", b"hello world") == expected


def test_signature_is_plain_ed25519_over_the_encoding() -> None:
    public = Ed25519PublicKey.from_public_bytes(vkeys(1)[0].public)
    public.verify(SIGNED.signatures[0].signature, pae(TYPE, b"hello"))


def test_envelope_reads_back_as_it_was() -> None:
    assert parse_envelope(SIGNED.encode()) == SIGNED


def test_every_signer_is_named_once() -> None:
    envelope = sign_envelope(TYPE, b"hello", [key(2), key(1), key(2)])
    assert verify_envelope(envelope, vkeys(1, 2, 3)) == tuple(vkeys(2, 1))


def test_signature_by_somebody_else_beside_is_ignored() -> None:
    assert verify_envelope(sign_envelope(TYPE, b"", [key(1), key(2)]), vkeys(1)) == tuple(vkeys(1))


@pytest.mark.parametrize("change", [{"payload": b"hellO"}, {"payload_type": "text/plain"}])
def test_changed_payload_or_type_is_refused(change: dict[str, Any]) -> None:
    code = refusal(verify_envelope, replace(SIGNED, **change), vkeys(1), error=EvidenceError)
    assert code == "release_signature"


@pytest.mark.parametrize("numbers", [(2,), (2, 3)])
def test_signature_by_nobody_listed_is_refused(numbers: tuple[int, ...]) -> None:
    code = refusal(verify_envelope, SIGNED, vkeys(*numbers), error=EvidenceError)
    assert code == "release_signature"


def test_empty_list_of_keys_accepts_nobody() -> None:
    assert refusal(verify_envelope, SIGNED, [], error=EvidenceError) == "release_signature"


def test_bad_signature_under_a_listed_key_is_not_outweighed_by_a_good_one() -> None:
    good, other = sign_envelope(TYPE, b"hello", [key(1), key(2)]).signatures
    bad = EnvelopeSignature(keyid=other.keyid, signature=good.signature)
    envelope = replace(SIGNED, signatures=(good, bad))
    code = refusal(verify_envelope, envelope, vkeys(1, 2), error=EvidenceError)
    assert code == "release_signature"


@pytest.mark.parametrize(
    "change",
    [
        {"payload": "aGVsbG8"}, {"payload": 1}, {"payloadType": "in toto"}, {"payloadType": None},
        {"signatures": []}, {"payload": "aGVsbG9="}, {"payload": "aGVsbG9\n"},
        {"signatures": {}}, {"signatures": [1]}, {"signatures": [{"keyid": "a", "sig": "?"}]},
        {"signatures": [{"keyid": "a b", "sig": ""}]}, {"more": 1},
        {"signatures": [{"keyid": "a", "sig": "", "cert": ""}]},
        {"signatures": [{"keyid": "a", "sig": ""}] * 17},
    ],
)  # fmt: skip
def test_envelope_in_another_form_is_refused(change: dict[str, Any]) -> None:
    value = json.loads(SIGNED.encode()) | change
    refusal(parse_envelope, jcs.canonicalize(value))


@pytest.mark.parametrize("length", [0, 63, 65, 128])
def test_signature_of_another_length_under_a_listed_key_is_refused(length: int) -> None:
    signature = (SIGNED.signatures[0].signature * 2)[:length]
    made = replace(SIGNED, signatures=(replace(SIGNED.signatures[0], signature=signature),))
    assert refusal(verify_envelope, made, vkeys(1), error=EvidenceError) == "release_signature"


def test_signature_under_the_name_of_another_listed_key_is_refused() -> None:
    other = sign_envelope(TYPE, b"hello", [key(2)]).signatures[0].keyid
    made = replace(SIGNED, signatures=(replace(SIGNED.signatures[0], keyid=other),))
    assert refusal(verify_envelope, made, vkeys(1, 2), error=EvidenceError) == "release_signature"


def test_envelope_that_nobody_signed_says_so() -> None:
    unsigned = replace(SIGNED, signatures=()).encode()
    assert refusal(parse_envelope, unsigned) == "release_signature"


def test_envelope_of_more_than_24_mebibytes_is_not_read() -> None:
    assert MAX_ENVELOPE_BYTES == 24 * 1024 * 1024
    assert refusal(parse_envelope, b" " * (MAX_ENVELOPE_BYTES + 1)) == "size"


def test_member_that_stands_twice_is_refused() -> None:
    twice = SIGNED.encode().replace(b'"payloadType"', b'"payload":"","payloadType"', 1)
    refusal(parse_envelope, twice)


@given(st.binary(max_size=200))
def test_no_bytes_make_the_envelope_parser_fail_otherwise(data: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_envelope(data)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_openssl_verifies_the_signature_as_the_document_says(tmp_path: Path) -> None:
    (tmp_path / "key.der").write_bytes(
        bytes.fromhex("302a300506032b6570032100") + vkeys()[0].public
    )
    (tmp_path / "sig").write_bytes(SIGNED.signatures[0].signature)
    (tmp_path / "pae").write_bytes(b"DSSEv1 28 application/vnd.in-toto+json 5 hello")
    (tmp_path / "other").write_bytes(b"DSSEv1 28 application/vnd.in-toto+json 5 hellO")
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", "key.der", "-keyform", "DER"]
    codes = [
        subprocess.run(
            [*command, "-rawin", "-in", name, "-sigfile", "sig"],
            cwd=tmp_path,
            capture_output=True,
            check=False,
        ).returncode
        for name in ("pae", "other")
    ]
    assert codes[0] == 0
    assert codes[1] != 0
