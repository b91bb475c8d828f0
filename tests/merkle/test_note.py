"""C2SP signed notes: who signed which text, and every other spelling refused."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from attestation.encoding import base64std
from attestation.errors import EvidenceError, MalformedError
from attestation.merkle.note import (
    MAX_NOTE_BYTES,
    Vkey,
    parse_note,
    parse_vkey,
    sign_note,
    split_vkey,
    verify_note,
    vkey_for,
)
from tests.refusals import refusal

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
NAME = "example.com/log"
TEXT = "If you think\n\ncryptography is the answer …\n"
NOTE = sign_note(TEXT, NAME, KEY)
SIGNATURE_LINE = NOTE.splitlines()[-1]


def vkey(name: str = NAME, key: Ed25519PrivateKey = KEY) -> Vkey:
    return parse_vkey(vkey_for(name, key.public_key().public_bytes_raw()))


def with_lines(*lines: str) -> str:
    return f"{TEXT}\n" + "".join(f"{line}\n" for line in lines)


def line(name: str, key: Ed25519PrivateKey, text: str = TEXT) -> str:
    return sign_note(text, name, key).splitlines()[-1]


def test_example_of_the_specification_verifies() -> None:
    # c2sp.org/signed-note, and the key published in Go's sumdb/note documentation.
    text = "If you think cryptography is the answer to your problem,\n"
    text += "then you don't know what your problem is.\n"
    public = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
    signature = (
        "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdn"
        "gotpRZb6KE6RyyBwJnAM=\n"
    )
    key = parse_vkey(public)
    assert verify_note(parse_note(f"{text}\n{signature}"), [key]) == (key,)
    assert vkey_for(key.name, key.public) == public


def test_signed_note_is_read_back_and_verifies() -> None:
    note = parse_note(NOTE)
    assert note.text == TEXT
    assert [(s.name, s.key_id, len(s.signature)) for s in note.signatures] == [
        (NAME, vkey().key_id, 64)
    ]
    assert verify_note(note, [vkey()]) == (vkey(),)
    assert parse_note(NOTE.encode()) == note


@given(
    st.text(alphabet=st.characters(exclude_categories=("Cs", "Cc")), max_size=30),
    st.from_regex(r"[^\s+\x00-\x1f\ud800-\udfff]{1,12}", fullmatch=True),
)
def test_any_text_and_name_survive_signing(text: str, name: str) -> None:
    note = parse_note(sign_note(text + "\n", name, KEY))
    assert note.text == text + "\n"
    assert verify_note(note, [vkey(name)]) == (vkey(name),)


@given(
    st.text(alphabet=st.characters(exclude_categories=("Cs", "Cc")), max_size=12).map(str.encode)
)
def test_only_malformed_error_escapes_the_parser(data: bytes) -> None:
    for candidate in (data, data + b"\n\n\xe2\x80\x94 " + data + b"\n"):
        try:
            note = parse_note(candidate)
        except MalformedError:
            continue
        assert candidate.decode().startswith(note.text)


@given(st.integers(0, len(NOTE) - 1), st.characters(max_codepoint=0x2100))
def test_note_with_any_other_character_is_refused(position: int, character: str) -> None:
    changed = NOTE[:position] + character + NOTE[position + 1 :]
    if changed == NOTE:
        return
    with pytest.raises((MalformedError, EvidenceError)):
        verify_note(parse_note(changed), [vkey()])


@given(st.integers(0, len(NOTE) - 1))
def test_truncated_note_is_refused(length: int) -> None:
    with pytest.raises((MalformedError, EvidenceError)):
        verify_note(parse_note(NOTE[:length]), [vkey()])


def test_signatures_by_strangers_are_ignored_in_any_order() -> None:
    stranger = line("stranger.example", OTHER, "another text\n")
    same_name = line(NAME, OTHER, "another text\n")
    for lines in (
        (stranger, SIGNATURE_LINE),
        (SIGNATURE_LINE, same_name),
        (same_name, SIGNATURE_LINE),
    ):
        assert verify_note(parse_note(with_lines(*lines)), [vkey()]) == (vkey(),)


def test_signers_come_in_the_order_of_their_signatures_and_once() -> None:
    witness = vkey("witness.example", OTHER)
    note = parse_note(with_lines(line("witness.example", OTHER), SIGNATURE_LINE, SIGNATURE_LINE))
    assert verify_note(note, [vkey(), witness, vkey()]) == (witness, vkey())


def test_note_without_a_listed_signer_is_refused() -> None:
    note = parse_note(NOTE)
    for keys in ([], [vkey(NAME, OTHER)], [vkey("other.example")]):
        assert refusal(verify_note, note, keys, error=EvidenceError) == "note_signature"


def test_failing_signature_by_a_listed_key_refuses_the_note() -> None:
    failing = line(NAME, KEY, "another text\n")
    for lines in ((failing,), (SIGNATURE_LINE, failing), (failing, SIGNATURE_LINE)):
        note = parse_note(with_lines(*lines))
        assert refusal(verify_note, note, [vkey()], error=EvidenceError) == "note_signature"


def test_two_listed_keys_of_one_name_and_id_must_both_have_signed() -> None:
    colliding = Vkey(name=NAME, key_id=vkey().key_id, public=OTHER.public_key().public_bytes_raw())
    note = parse_note(NOTE)
    assert refusal(verify_note, note, [vkey(), colliding], error=EvidenceError) == "note_signature"


@pytest.mark.parametrize("public", [bytes(32), b"\xff" * 32, b"\x01" + bytes(31)])
def test_key_that_is_no_point_verifies_nothing(public: bytes) -> None:
    odd = Vkey(name=NAME, key_id=vkey().key_id, public=public)
    assert refusal(verify_note, parse_note(NOTE), [odd], error=EvidenceError) == "note_signature"


@pytest.mark.parametrize("length", [1, 63, 65])
def test_signature_of_another_length_is_refused(length: int) -> None:
    blob = base64std.encode(vkey().key_id + bytes(length))
    note = parse_note(with_lines(f"— {NAME} {blob}"))
    assert refusal(verify_note, note, [vkey()], error=EvidenceError) == "note_signature"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param("", id="empty"),
        pytest.param(TEXT, id="text only"),
        pytest.param(TEXT + "\n", id="no signature line"),
        pytest.param(NOTE.replace("\n\n— ", "\n— "), id="no empty line"),
        pytest.param(NOTE.removesuffix("\n"), id="no final newline"),
        pytest.param(NOTE + "\n", id="empty line at the end"),
        pytest.param(NOTE + "more\n", id="line that is no signature"),
        pytest.param(NOTE.replace("— ", "\u2013 "), id="another dash"),
        pytest.param(NOTE.replace("— ", "- "), id="hyphen"),
        pytest.param(NOTE.replace("— ", "—"), id="no space after the dash"),
        pytest.param(NOTE.replace("— ", "—\u00a0"), id="another space after the dash"),
        pytest.param(NOTE.replace(NAME, ""), id="no name"),
        pytest.param(NOTE.replace(NAME, "example\u2003com"), id="wide space in the name"),
        pytest.param(NOTE.replace(NAME, "example+com"), id="plus in the name"),
        pytest.param(NOTE.replace(NAME, "example\x01com"), id="control character in the name"),
        pytest.param(NOTE.replace("think", "th\x00ink"), id="NUL in the text"),
        pytest.param(NOTE.replace("think", "th\tink"), id="tab in the text"),
        pytest.param(NOTE.replace("think", "th\x1fink"), id="unit separator in the text"),
        pytest.param(NOTE.replace("think", "th\x0bink"), id="vertical tab in the text"),
        pytest.param(NOTE.replace("\n", "\r\n"), id="CRLF"),
        pytest.param(NOTE.replace("think", "th\ud800ink"), id="lone surrogate"),
    ],
)
def test_malformed_note_is_rejected(data: str) -> None:
    assert refusal(parse_note, data) == "note"


@pytest.mark.parametrize(
    ("signature", "code"),
    [
        pytest.param("", "note", id="none"),
        pytest.param("more " + "A" * 92, "base64", id="space in the name"),
        pytest.param("AAAAAA==", "note", id="key id only"),
        pytest.param("AAAA", "note", id="three bytes"),
        pytest.param(" " + "A" * 92, "base64", id="two spaces"),
        pytest.param("A" * 92 + " ", "base64", id="trailing space"),
        pytest.param("AAAAAB==", "base64", id="unused bits"),
        pytest.param("AAAAAAA", "base64", id="no padding"),
        pytest.param("éAAA", "base64", id="not ASCII"),
    ],
)
def test_malformed_signature_is_rejected(signature: str, code: str) -> None:
    assert refusal(parse_note, with_lines(f"— {NAME} {signature}")) == code


def test_smallest_signature_is_parsed() -> None:
    note = parse_note(with_lines(f"— {NAME} AAAAAAA="))
    assert note.signatures[0].key_id == bytes(4)
    assert note.signatures[0].signature == bytes(1)


def test_bytes_that_are_not_utf8_are_rejected() -> None:
    assert refusal(parse_note, NOTE.encode().replace(b"think", b"th\xffink")) == "note"


def test_64_signatures_pass_and_one_more_does_not() -> None:
    assert len(parse_note(with_lines(*[SIGNATURE_LINE] * 64)).signatures) == 64
    assert refusal(parse_note, with_lines(*[SIGNATURE_LINE] * 65)) == "note"


def test_note_of_128_kib_passes_and_one_more_byte_does_not() -> None:
    assert MAX_NOTE_BYTES == 131_072
    base = len(sign_note("\n", NAME, KEY).encode())
    text = "x" * (MAX_NOTE_BYTES - base)
    largest = sign_note(f"{text}\n", NAME, KEY)
    assert len(largest.encode()) == MAX_NOTE_BYTES
    assert parse_note(largest).text == f"{text}\n"
    assert refusal(parse_note, sign_note(f"{text}x\n", NAME, KEY)) == "note"


@pytest.mark.parametrize("text", ["", "x", "a\tb\n", "a\x00\n", "a\r\n"])
def test_text_that_no_reader_would_accept_is_not_signed(text: str) -> None:
    assert refusal(sign_note, text, NAME, KEY) == "note"


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\n", "a\u2028b", "\t"])
def test_name_that_no_reader_would_accept_is_not_used(name: str) -> None:
    public = KEY.public_key().public_bytes_raw()
    assert refusal(sign_note, TEXT, name, KEY) == "vkey"
    assert refusal(vkey_for, name, public) == "vkey"
    assert refusal(parse_vkey, vkey_for("x", public).replace("x", name, 1)) == "vkey"


@pytest.mark.parametrize("length", [0, 31, 33])
def test_verifier_key_of_another_length_is_rejected(length: int) -> None:
    assert refusal(vkey_for, NAME, bytes(length)) == "vkey"
    good = vkey_for(NAME, bytes(32)).rpartition("+")[0]
    assert refusal(parse_vkey, f"{good}+" + base64std.encode(bytes([1, *bytes(length)]))) == "vkey"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "vkey"),
        ("PeterNeumann", "vkey"),
        ("PeterNeumann+c74f20a3", "vkey"),
        ("PeterNeumann+c74f20a+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", "vkey"),
        ("PeterNeumann+C74F20A3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", "vkey"),
        ("PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", "vkey"),
        ("PeterNeumanm+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", "vkey"),
        ("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TX", "vkey"),
        ("PeterNeumann+c74f20a3+AhpC2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", "vkey"),
        ("PeterNeumann+c74f20a3+AQ==", "vkey"),
        ("PeterNeumann+c74f20a3+", "vkey"),
        ("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW\n", "base64"),
        ("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq_LDE4izWy10TW", "base64"),
        ("Peter+Neumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", "vkey"),
    ],
)
def test_malformed_verifier_key_is_rejected(text: str, code: str) -> None:
    assert refusal(parse_vkey, text) == code


def test_verifier_key_of_another_type_is_split_but_not_taken_for_ed25519() -> None:
    text = f"{NAME}+00000000+" + base64std.encode(b"\x02key")
    assert split_vkey(text) == (NAME, bytes(4), b"\x02key")
    assert split_vkey(f"{NAME}+00000000+" + base64std.encode(b"\x02k"))[2] == b"\x02k"
    assert refusal(parse_vkey, text) == "vkey"


def test_ed25519_key_under_another_type_byte_is_rejected() -> None:
    public = KEY.public_key().public_bytes_raw()
    good = vkey_for(NAME, public)
    assert refusal(parse_vkey, good.replace("+AQ", "+BA")) == "vkey"
    assert parse_vkey(good).public == public
