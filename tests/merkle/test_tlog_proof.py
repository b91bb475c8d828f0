"""A tlog-proof ties one entry to one signed checkpoint, and nothing else."""

from __future__ import annotations

import dataclasses

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from attestation.encoding import base64std
from attestation.errors import AttestationError, EvidenceError, MalformedError
from attestation.merkle.checkpoint import Checkpoint
from attestation.merkle.note import Vkey, parse_vkey, sign_note, vkey_for
from attestation.merkle.tlog_proof import (
    LoggedEntry,
    TlogProof,
    parse_tlog_proof,
    render,
    verify_tlog_proof,
)
from attestation.merkle.tree import inclusion_path, leaf_hash, root_hash
from tests.refusals import refusal

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
ORIGIN = "example.com/log"
LEAVES = [leaf_hash(bytes([number])) for number in range(7)]
CHECKPOINT = Checkpoint(origin=ORIGIN, size=7, root=root_hash(LEAVES))
NOTE = sign_note(CHECKPOINT.text, ORIGIN, KEY)


def vkey(name: str = ORIGIN, key: Ed25519PrivateKey = KEY) -> Vkey:
    return parse_vkey(vkey_for(name, key.public_key().public_bytes_raw()))


def proof(index: int = 5, note: str = NOTE, extra: bytes | None = None) -> TlogProof:
    return TlogProof(extra=extra, index=index, path=tuple(inclusion_path(index, LEAVES)), note=note)


TEXT = render(proof())


def verify(text: str, index: int = 5, keys: list[Vkey] | None = None) -> LoggedEntry:
    return verify_tlog_proof(
        parse_tlog_proof(text),
        leaf_hash=LEAVES[index],
        vkeys=[vkey()] if keys is None else keys,
        origin=ORIGIN,
    )


def refused(text: str, index: int = 5, keys: list[Vkey] | None = None) -> str:
    return refusal(verify, text, index, keys, error=EvidenceError)


def test_text_has_the_documented_lines() -> None:
    path = [base64std.encode(node) for node in inclusion_path(5, LEAVES)]
    assert "\n".join(["c2sp.org/tlog-proof@v1", "index 5", *path, "", NOTE]) == TEXT


@pytest.mark.parametrize("index", range(7))
@pytest.mark.parametrize("extra", [None, b"", b"context"])
def test_proof_of_every_entry_is_read_back_and_holds(index: int, extra: bytes | None) -> None:
    made = proof(index, extra=extra)
    assert parse_tlog_proof(render(made)) == made
    entry = verify(render(made), index)
    assert entry == LoggedEntry(checkpoint=CHECKPOINT, index=index, signers=(vkey(),))


def test_proof_of_the_only_entry_has_no_hashes() -> None:
    single = Checkpoint(origin=ORIGIN, size=1, root=LEAVES[0])
    made = TlogProof(extra=None, index=0, path=(), note=sign_note(single.text, ORIGIN, KEY))
    assert "index 0\n\n" in render(made)
    assert verify(render(made), 0).checkpoint == single


@given(st.integers(0, len(TEXT) - 1), st.characters(max_codepoint=0x2100))
def test_proof_with_any_other_character_is_refused(position: int, character: str) -> None:
    changed = TEXT[:position] + character + TEXT[position + 1 :]
    if changed == TEXT:
        return
    with pytest.raises((MalformedError, EvidenceError)):
        verify(changed)


@pytest.mark.parametrize("length", range(0, len(TEXT), 7))
def test_truncated_proof_is_refused(length: int) -> None:
    with pytest.raises((MalformedError, EvidenceError)):
        verify(TEXT[:length])


@given(st.text(alphabet="c2sp.orgindexa 0=\n—", max_size=50))
def test_only_our_errors_escape_and_what_passes_is_its_own_text(text: str) -> None:
    for candidate in (text, f"c2sp.org/tlog-proof@v1\n{text}", f"{text}\n\n{NOTE}"):
        try:
            parsed = parse_tlog_proof(candidate)
        except AttestationError:
            continue
        assert render(parsed) == candidate


def test_proof_for_another_entry_is_refused() -> None:
    assert refused(TEXT, index=4) == "inclusion"
    assert refused(TEXT.replace("index 5", "index 4")) == "inclusion"
    assert refused(TEXT.replace("index 5", "index 7")) == "inclusion"


def test_proof_with_too_few_or_too_many_hashes_is_refused() -> None:
    for path in (proof().path[1:], proof().path[:-1], (*proof().path, LEAVES[0])):
        assert refused(render(dataclasses.replace(proof(), path=path))) == "inclusion"


def test_checkpoint_signed_by_no_listed_key_is_refused() -> None:
    assert refused(TEXT, keys=[vkey(key=OTHER)]) == "note_signature"
    assert refused(TEXT, keys=[]) == "note_signature"
    forged = sign_note(CHECKPOINT.text, ORIGIN, OTHER)
    assert refused(render(proof(note=forged))) == "note_signature"


def test_witness_alone_does_not_make_a_checkpoint_the_logs() -> None:
    witness = vkey("witness.example", OTHER)
    cosigned = sign_note(CHECKPOINT.text, "witness.example", OTHER)
    assert refused(render(proof(note=cosigned)), keys=[vkey(), witness]) == "origin"


def test_witness_beside_the_log_is_reported_as_signer() -> None:
    witness = vkey("witness.example", OTHER)
    cosigned = NOTE + sign_note(CHECKPOINT.text, "witness.example", OTHER).splitlines()[-1] + "\n"
    assert verify(render(proof(note=cosigned)), keys=[vkey(), witness]).signers == (
        vkey(),
        witness,
    )


def test_checkpoint_about_another_log_is_refused_though_the_key_is_right() -> None:
    other = dataclasses.replace(CHECKPOINT, origin="example.com/other")
    signed = sign_note(other.text, ORIGIN, KEY)
    assert refused(render(proof(note=signed))) == "origin"


def test_checkpoint_signed_with_the_right_key_under_another_name_is_refused() -> None:
    signed = sign_note(CHECKPOINT.text, "example.com/other", KEY)
    text = render(proof(note=signed))
    assert refused(text) == "note_signature"
    assert refused(text, keys=[vkey("example.com/other")]) == "origin"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        pytest.param("", "tlog_proof", id="empty"),
        pytest.param(TEXT.replace("@v1", "@v2"), "tlog_proof", id="another version"),
        pytest.param(TEXT.partition("\n\n")[0], "tlog_proof", id="no checkpoint"),
        pytest.param("\n" + TEXT, "tlog_proof", id="leading empty line"),
        pytest.param(TEXT.replace("\n\nexample", "\nexample"), "base64", id="no empty line"),
        pytest.param(TEXT.replace("index 5\n", ""), "tlog_proof", id="no index line"),
        pytest.param(f"c2sp.org/tlog-proof@v1\n\n{NOTE}", "tlog_proof", id="nothing but a note"),
        pytest.param(TEXT.replace("index 5", "Index 5"), "tlog_proof", id="another word"),
        pytest.param(TEXT.replace("index 5", "index  5"), "decimal", id="two spaces"),
        pytest.param(TEXT.replace("index 5", "index 05"), "decimal", id="leading zero"),
        pytest.param(TEXT.replace("index 5", "index -5"), "decimal", id="negative"),
        pytest.param(TEXT.replace("index 5", "index "), "decimal", id="no number"),
        pytest.param(TEXT.replace("index 5", f"index {2**64}"), "decimal", id="2^64"),
        pytest.param(TEXT.replace("index 5", "index 5\r"), "decimal", id="CR"),
        pytest.param(TEXT.replace("index 5", "index 5\nAAAA"), "base64", id="short hash"),
        pytest.param(TEXT.replace("index 5", "index 5\n!"), "base64", id="no base64"),
        pytest.param(TEXT.replace("index 5", "extra \nextra \nindex 5"), "tlog_proof", id="extras"),
        pytest.param(TEXT.replace("index 5", "extra A\nindex 5"), "base64", id="bad extra"),
        pytest.param(TEXT.replace("index 5", "index 5\nextra "), "base64", id="extra after index"),
        pytest.param(TEXT.replace("\n\nexample", "\n\n\nexample"), "checkpoint", id="empty line"),
        pytest.param(TEXT.removesuffix("\n"), "note", id="no final newline"),
        pytest.param(TEXT.replace("\n7\n", "\n7\nx\n"), "checkpoint", id="extension line"),
    ],
)
def test_proof_in_another_form_is_rejected(text: str, code: str) -> None:
    assert refusal(parse_tlog_proof, text) == code


def test_64_hashes_are_read_and_one_more_is_not() -> None:
    most = dataclasses.replace(proof(), path=(LEAVES[0],) * 64)
    assert parse_tlog_proof(render(most)) == most
    more = dataclasses.replace(proof(), path=(LEAVES[0],) * 65)
    assert refusal(parse_tlog_proof, render(more)) == "tlog_proof"


def test_16_kib_of_extra_data_are_read_and_one_more_byte_is_not() -> None:
    most = proof(extra=bytes(16_384))
    assert parse_tlog_proof(render(most)) == most
    assert refusal(parse_tlog_proof, render(proof(extra=bytes(16_385)))) == "tlog_proof"


def test_endless_text_is_rejected_before_it_is_split() -> None:
    assert refusal(parse_tlog_proof, TEXT + "x" * 200_000) == "tlog_proof"


def test_proof_that_was_never_parsed_is_parsed_when_verified() -> None:
    for note in ("", CHECKPOINT.text, sign_note("x\n", ORIGIN, KEY)):
        with pytest.raises(MalformedError):
            verify_tlog_proof(proof(note=note), leaf_hash=LEAVES[5], vkeys=[vkey()], origin=ORIGIN)
