"""Signed policies: whose word, over exactly which bytes, and which version."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from attestation.encoding.digest import Digest
from attestation.errors import (
    AttestationError,
    EvidenceError,
    MalformedError,
    UnavailableError,
    UsageError,
)
from attestation.merkle.note import Vkey, parse_note, parse_vkey
from attestation.merkle.note_key import NoteKey
from attestation.policy import NO_POLICY, parse_policy, read_signed_policy
from attestation.policy.signature import (
    parse_policy_signature,
    sign_policy,
    signed_text,
    verify_policy_signature,
    version_numbers,
)
from tests.policy.test_policy import policy_text
from tests.refusals import refusal

OURS, SECOND, THEIRS = (
    NoteKey(name=name, private=Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32))
    for number, name in enumerate(("ours.example", "second.example", "theirs.example"))
)
POLICY = policy_text('version = "2026-11-22"')
OTHER_POLICY = policy_text('version = "2026-11-22"\n[tdx]\nunbound_keys = "allow"')
TEXT = (
    "attested-gateway appraisal-policy/1\n"
    f"sha256 {Digest.of(POLICY).hex}\n"
    "version 2026-11-22\n"
)  # fmt: skip


def vkeys(*keys: NoteKey) -> list[Vkey]:
    return [parse_vkey(key.vkey) for key in keys]


def signed(*keys: NoteKey, policy: bytes = POLICY) -> bytes:
    return sign_policy(parse_policy(policy), keys or (OURS,)).encode()


def refused(
    signature: bytes | None,
    *signers: NoteKey,
    policy: bytes = POLICY,
    error: type[AttestationError] = EvidenceError,
) -> str:
    return refusal(read_signed_policy, policy, signature, vkeys(*signers or (OURS,)), error=error)


def test_signed_text_is_the_digest_that_verdicts_show_and_the_version() -> None:
    assert signed_text(parse_policy(POLICY)) == TEXT
    assert parse_note(signed()).text == TEXT
    parsed = parse_policy_signature(signed())
    assert (parsed.digest, parsed.version) == (parse_policy(POLICY).digest, "2026-11-22")
    assert parsed.claimed == ("+".join(OURS.vkey.split("+")[:2]),)


def test_policy_signed_by_a_key_that_was_asked_for_is_read_and_names_it() -> None:
    policy = read_signed_policy(POLICY, signed(), vkeys(SECOND, OURS))
    assert policy.signers == (OURS.vkey,)
    assert replace(policy, signatures=()) == parse_policy(POLICY)


def test_all_that_signed_out_of_those_asked_for_are_named() -> None:
    signature = signed(SECOND, THEIRS, OURS)
    policy = read_signed_policy(POLICY, signature, vkeys(OURS, SECOND))
    assert policy.signers == (SECOND.vkey, OURS.vkey)


def test_policy_without_a_signature_is_unavailable() -> None:
    assert refused(None, error=UnavailableError) == "policy_unsigned"


def test_signature_by_another_key_is_refused() -> None:
    assert refused(signed(THEIRS)) == "policy_signer"


def test_signature_by_another_key_of_the_same_name_is_refused() -> None:
    namesake = NoteKey(name=OURS.name, private=THEIRS.private)
    assert refused(signed(namesake)) == "policy_signer"


def test_nobody_to_have_signed_accepts_no_signature() -> None:
    error = EvidenceError
    assert refusal(read_signed_policy, POLICY, signed(), [], error=error) == "policy_signer"


def test_another_policys_signature_is_refused() -> None:
    assert refused(signed(policy=OTHER_POLICY)) == "policy_digest"


@given(at=st.integers(0, len(POLICY) - 1), bit=st.integers(0, 7))
def test_policy_with_one_bit_changed_is_refused_before_it_is_read(at: int, bit: int) -> None:
    changed = bytearray(POLICY)
    changed[at] ^= 1 << bit
    assert refused(signed(), policy=bytes(changed)) == "policy_digest"


def test_text_changed_to_fit_another_policy_is_refused() -> None:
    text = TEXT.replace(Digest.of(POLICY).hex, Digest.of(OTHER_POLICY).hex)
    forged = signed().decode().replace(TEXT, text).encode()
    assert refused(forged, policy=OTHER_POLICY) == "policy_signer"


def test_one_wrong_signature_in_a_listed_name_spoils_the_right_ones() -> None:
    other = signed(SECOND, policy=OTHER_POLICY).decode().splitlines()[-1]
    mixed = signed(OURS) + f"{other}\n".encode()
    assert refused(mixed, OURS, SECOND) == "policy_signer"
    assert read_signed_policy(POLICY, mixed, vkeys(OURS)).signers == (OURS.vkey,)


def test_version_that_is_not_the_policys_is_refused() -> None:
    text = TEXT.replace("2026-11-22", "2026-11-23")
    assert refused(OURS.sign(text).encode()) == "policy_version"


def test_signed_file_that_is_no_policy_is_malformed() -> None:
    text = TEXT.replace(Digest.of(POLICY).hex, Digest.of(b"x").hex)
    code = refused(OURS.sign(text).encode(), policy=b"x", error=MalformedError)
    assert code == "policy_toml"


@pytest.mark.parametrize("data", [b"", b"\xff", TEXT.encode(), signed()[:-1], signed() + b"\n"])
def test_file_that_is_no_note_is_malformed(data: bytes) -> None:
    assert refused(data, error=MalformedError) == "policy_signature"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("attested-gateway", "attested-gatewax"),
        ("appraisal-policy/1", "appraisal-policy/2"),
        ("sha256 ", "sha512 "),
        ("sha256 ", "sha256  "),
        (Digest.of(POLICY).hex, Digest.of(POLICY).hex.upper()),
        (Digest.of(POLICY).hex, Digest.of(POLICY).hex[:-1]),
        ("version 2026-11-22", "version"),
        ("version 2026-11-22", "version spring"),
        ("version 2026-11-22", "version 2026-11-22 "),
        ("version 2026-11-22", "version 2026--22"),
        ("version 2026-11-22\n", "version 2026-11-22\nmore\n"),
        ("attested-gateway", "x\nattested-gateway"),
    ],
)
def test_note_about_anything_else_is_malformed_even_if_it_is_signed(old: str, new: str) -> None:
    note = OURS.sign(TEXT.replace(old, new)).encode()
    assert refused(note, error=MalformedError) == "policy_signature_text"


def test_checkpoint_that_the_same_key_signed_is_no_signature_of_a_policy() -> None:
    note = OURS.sign(f"attested-gateway appraisal-policy/1\n1\n{'A' * 43}=\n").encode()
    assert refused(note, error=MalformedError) == "policy_signature_text"


def test_verifying_alone_says_who_signed() -> None:
    parsed = parse_policy_signature(signed(OURS, SECOND))
    found = verify_policy_signature(POLICY, parsed, vkeys(SECOND, OURS))
    assert found == tuple(vkeys(OURS, SECOND))


@pytest.mark.parametrize(
    ("version", "numbers"),
    [
        ("0", (0,)),
        ("1.4", (1, 4)),
        ("2026-09-03", (2026, 9, 3)),
        ("1-2.3-4.5-6.7-8", (1, 2, 3, 4, 5, 6, 7, 8)),
        ("999999999", (999_999_999,)),
    ],
)
def test_versions_are_numbers(version: str, numbers: tuple[int, ...]) -> None:
    assert version_numbers(version) == numbers


@pytest.mark.parametrize(
    "version",
    [
        "",
        "v1",
        "1.",
        ".1",
        "1..2",
        "1_2",
        "-1",
        "1 ",
        "\u0661",
        "1000000000",
        "1\n",
        "1-" * 8 + "1",
    ],
)
def test_version_of_another_form_cannot_be_compared(version: str) -> None:
    assert refusal(version_numbers, version) == "policy_version"


@pytest.mark.parametrize("line", ["", 'version = "spring"'])
def test_policy_without_numbers_for_a_version_is_not_signed(line: str) -> None:
    policy = parse_policy(policy_text(line))
    assert refusal(sign_policy, policy, [OURS]) == "policy_version"


def test_policy_that_is_no_file_is_not_signed() -> None:
    assert refusal(sign_policy, NO_POLICY, [OURS], error=UsageError) == "policy_signature"


def test_signatures_are_added_to_those_before_and_none_stands_twice() -> None:
    before = parse_note(signed(OURS))
    both = sign_policy(parse_policy(POLICY), [SECOND, OURS], before)
    assert both.encode() == signed(OURS, SECOND)
    assert parse_note(both).encode() == both


def test_wrong_signature_in_the_name_of_a_key_that_signs_now_gives_way() -> None:
    right = signed(THEIRS, OURS)
    (theirs, ours) = parse_note(right).signatures
    wrong = replace(ours, signature=bytes(64))
    spoiled = replace(parse_note(right), signatures=(theirs, wrong))
    assert refused(spoiled.encode().encode()) == "policy_signer"
    assert sign_policy(parse_policy(POLICY), [OURS], spoiled).encode() == right


def test_signatures_of_another_policy_are_not_added_to() -> None:
    before = parse_note(signed(policy=OTHER_POLICY))
    code = refusal(sign_policy, parse_policy(POLICY), [OURS], before, error=UsageError)
    assert code == "policy_signature_text"


@given(st.binary(max_size=200))
def test_random_bytes_are_no_signature(data: bytes) -> None:
    assert refusal(parse_policy_signature, data) in {"policy_signature", "policy_signature_text"}


def test_signature_in_the_document_is_one() -> None:
    document = (Path(__file__).parents[2] / "docs/spec/policy.md").read_text("utf-8")
    (example,) = re.findall(r"```\n(attested-gateway .*?)```", document, re.DOTALL)
    parsed = parse_policy_signature(example.encode())
    assert (parsed.version, parsed.claimed) == ("2026-11-22", ("example.com/policy+40c8fb90",))
