"""Topic `signatures`: the shape of Wycheproof files, and that a wrong expectation is noticed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, padding

from attestation.conformance.case import DEVIATIONS, Judgement
from attestation.conformance.runner import run_topic
from attestation.conformance.topics import TOPICS
from tests import vectors_path
from tests.conformance.conftest import Build, judgements
from tests.encoding.test_jws_verify import RSA, jwk, number, roca_modulus, token
from tests.encoding.test_signature import DATA, DER, EC, ED, FIXED, HASH, spki
from tests.refusals import refusal

VALID, INVALID = Judgement(got="valid", ok=True), Judgement(got="invalid", ok=True)
FILE = "a_test.json"
PSS = {"sha": "SHA-384", "mgf": "MGF1", "mgfSha": "SHA-384", "sLen": 48}


def group(kind: str, signature: bytes, key: object, **members: Any) -> dict[str, Any]:
    public = key.public_key()  # type: ignore[attr-defined]
    tests = [
        {"tcId": 1, "msg": DATA.hex(), "sig": signature.hex(), "result": "valid"},
        {"tcId": 2, "msg": "00", "sig": signature.hex(), "result": "invalid"},
        {"tcId": 3, "msg": "00", "sig": "", "result": "acceptable"},
    ]
    return {"type": kind, "publicKeyDer": spki(public).hex(), "tests": tests} | members


GROUPS = {
    "EcdsaVerify": group("EcdsaVerify", DER, EC, sha="SHA-384"),
    "EcdsaP1363Verify": group("EcdsaP1363Verify", FIXED, EC, sha="SHA-384"),
    "EddsaVerify": group("EddsaVerify", ED.sign(DATA), ED),
    "RsassaPkcs1Verify": group(
        "RsassaPkcs1Verify", RSA.sign(DATA, padding.PKCS1v15(), HASH), RSA, sha="SHA-384"
    ),
    "RsassaPssVerify": group(
        "RsassaPssVerify", RSA.sign(DATA, padding.PSS(padding.MGF1(HASH), 48), HASH), RSA, **PSS
    ),
}


def directory(*groups: dict[str, Any]) -> dict[str, Any]:
    return {FILE: {"testGroups": list(groups)}}


def web(
    kind: str, jws: object, result: str = "valid", comment: str = "", **keys: object
) -> dict[str, Any]:
    test = {"tcId": 1, "jws": jws, "result": result, "comment": comment, "flags": []}
    return {"type": kind, "tests": [test], **keys}


@pytest.mark.parametrize("kind", GROUPS)
def test_signature_is_checked_by_the_type_of_its_group(build: Build, kind: str) -> None:
    got = judgements("signatures", build(directory(GROUPS[kind])))
    assert got == {f"{FILE}#1": VALID, f"{FILE}#2": INVALID, f"{FILE}#3": INVALID}


@pytest.mark.parametrize("kind", GROUPS)
def test_flipped_expectation_is_noticed(
    build: Build, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    flipped = json.loads(json.dumps(GROUPS[kind]))
    flipped["tests"][0]["result"] = "invalid"
    flipped["tests"][1]["result"] = "valid"
    got = judgements("signatures", build(directory(flipped)))
    assert [judged.ok for judged in got.values()] == [False, False, True]


def test_flipped_expectation_is_exit_code_10(build: Build) -> None:
    written: list[str] = []
    flipped = web("JsonWebSignature", token("ES256"), "invalid", public=jwk("ES256"))
    root = build(directory(flipped))
    assert run_topic("signatures", root, topics=TOPICS, write_line=written.append) == 10
    line = {"case": f"{FILE}#1", "expected": "invalid", "got": "valid", "ok": False}
    assert json.loads(written[0]) == line


@pytest.mark.parametrize("kind", ["EcdsaVerify", "EddsaVerify", "RsassaPkcs1Verify"])
def test_key_of_another_kind_or_none_verifies_nothing(build: Build, kind: str) -> None:
    others = {"EcdsaVerify": ED, "EddsaVerify": RSA, "RsassaPkcs1Verify": EC}
    swapped = GROUPS[kind] | {"publicKeyDer": spki(others[kind].public_key()).hex()}  # type: ignore[attr-defined]
    empty = GROUPS[kind] | {"publicKeyDer": ""}
    for one in (swapped, empty):
        got = judgements("signatures", build(directory(one)))
        assert [judged.got for judged in got.values()] == ["invalid"] * 3


def test_key_of_a_token_is_the_public_one_if_there_are_both(build: Build) -> None:
    for alg in ("ES256", "RS256"):
        public = jwk(alg)
        one = web("JsonWebSignature", token(alg), public=public, private=jwk(alg, d="AA"))
        other = web("JsonWebSignature", token(alg), public=jwk("HS256"), private=public)
        assert judgements("signatures", build(directory(one))) == {f"{FILE}#1": VALID}
        assert not judgements("signatures", build(directory(other)))[f"{FILE}#1"].ok
    secret = web("JsonWebKey", token("HS256"), private={"keys": [jwk("HS256")]})
    assert judgements("signatures", build(directory(secret))) == {f"{FILE}#1": VALID}


@pytest.mark.parametrize(
    ("jws", "key"),
    [
        (token("ES256"), jwk("ES256", use="enc")),
        (token("ES256"), jwk("ES256", key_ops=["sign"])),
        (token("RS256"), jwk("PS256")),
        (token("RS256"), jwk("RS256", n=number(roca_modulus()))),
        (token("HS256"), jwk("HS256", k="")),
        ({"payload": "", "signatures": []}, jwk("HS256")),
        (json.dumps({"payload": "", "signatures": []}), jwk("HS256")),
        (None, jwk("HS256")),
    ],
)
def test_token_that_its_key_does_not_verify_is_invalid(
    build: Build, jws: object, key: dict[str, Any]
) -> None:
    for comment in ("rejectsWrongUse", "acceptsValid"):
        one = web("JsonWebSignature", jws, "invalid", comment, public=key)
        assert judgements("signatures", build(directory(one))) == {f"{FILE}#1": INVALID}


def test_nothing_is_excused() -> None:
    """A key that can be factored is refused, so that no deviation has to be documented for it."""
    assert set(DEVIATIONS) == {"duplicate_member"}


ECDSA = GROUPS["EcdsaVerify"]
UNKNOWN: dict[str, Any] = {
    "another ending": {"a.txt": "{}"},
    "no object": {FILE: []},
    "no groups": {FILE: {}},
    "a group that is none": {FILE: {"testGroups": [1]}},
    "no type": directory({"tests": []}),
    "an unknown type": directory(ECDSA | {"type": "DsaVerify"}),
    "an unknown hash": directory(ECDSA | {"sha": "SHA-1"}),
    "no hash": directory({k: v for k, v in ECDSA.items() if k != "sha"}),
    "another mask": directory(GROUPS["RsassaPssVerify"] | {"mgf": "MGF2"}),
    "no salt": directory(GROUPS["RsassaPssVerify"] | {"sLen": None}),
    "a negative salt": directory(GROUPS["RsassaPssVerify"] | {"sLen": -1}),
    "no key of a token": directory({"type": "JsonWebKey", "tests": []}),
    "tests that are none": directory(ECDSA | {"tests": {}}),
}
CASES: dict[str, Any] = {
    "no number": {"tcId": None},
    "a number that is a word": {"tcId": "1"},
    "an unknown result": {"result": "maybe"},
    "no hexadecimal message": {"msg": "zz"},
}


@pytest.mark.parametrize("files", UNKNOWN.values(), ids=UNKNOWN)
def test_file_of_no_known_shape_is_refused(build: Build, files: dict[str, Any]) -> None:
    assert refusal(judgements, "signatures", build(files)) == "manifest"


@pytest.mark.parametrize("change", CASES.values(), ids=CASES)
def test_test_that_does_not_say_what_it_should_is_refused(
    build: Build, change: dict[str, Any]
) -> None:
    files = directory(ECDSA | {"tests": [ECDSA["tests"][0] | change]})
    assert refusal(judgements, "signatures", build(files)) == "case"


def test_key_that_is_no_hexadecimal_text_and_a_test_without_token_are_refused(build: Build) -> None:
    files = directory(ECDSA | {"publicKeyDer": "zz"})
    assert refusal(judgements, "signatures", build(files)) == "case"
    files = directory(
        {"type": "JsonWebKey", "public": {}, "tests": [{"tcId": 1, "result": "valid"}]}
    )
    assert refusal(judgements, "signatures", build(files)) == "case"


def test_curve_of_any_size_is_taken_from_the_key(build: Build) -> None:
    for curve in (ec.SECP256R1(), ec.SECP521R1(), ec.SECP256K1()):
        key = ec.generate_private_key(curve)
        one = group("EcdsaVerify", key.sign(DATA, ec.ECDSA(HASH)), key, sha="SHA-384")
        got = judgements("signatures", build(directory(one)))
        assert got == {f"{FILE}#1": VALID, f"{FILE}#2": INVALID, f"{FILE}#3": INVALID}


def test_shared_vectors_all_pass_and_nothing_is_excused() -> None:
    folder: Path = vectors_path.need("signatures")
    got = judgements("signatures", folder)
    assert len(got) > 1000
    assert {judged.got for judged in got.values()} == {"valid", "invalid"}
    assert [name for name, judged in got.items() if not judged.ok] == []
