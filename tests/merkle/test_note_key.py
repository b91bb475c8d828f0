"""Private keys of signed notes: one spelling, and nothing of the key in any refusal."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from attestation.encoding import base64std
from attestation.errors import MalformedError
from attestation.merkle.note import parse_note, parse_vkey, verify_note
from attestation.merkle.note_key import MAX_KEY_BYTES, NoteKey, encode_note_key, parse_note_key
from tests.refusals import refusal

SEED = bytes(range(32))
NAME = "example.com/policy"
KEY = NoteKey(name=NAME, private=Ed25519PrivateKey.from_private_bytes(SEED))
KEY_ID = KEY.vkey.split("+")[1]


def line(
    prefix: str = "PRIVATE+KEY+",
    key_id: str = KEY_ID,
    encoded: bytes = b"\x01" + SEED,
    end: str = "\n",
) -> bytes:
    return f"{prefix}{NAME}+{key_id}+{base64std.encode(encoded)}{end}".encode()


def test_key_is_one_line_and_reads_back() -> None:
    assert encode_note_key(KEY) == line()
    again = parse_note_key(line())
    assert (again.name, again.vkey) == (NAME, KEY.vkey)
    assert again.private.private_bytes_raw() == SEED


@given(seed=st.binary(min_size=32, max_size=32), text=st.text("ab \n", max_size=40))
def test_what_a_key_signs_its_verifier_key_accepts(seed: bytes, text: str) -> None:
    key = NoteKey(name=NAME, private=Ed25519PrivateKey.from_private_bytes(seed))
    again = parse_note_key(encode_note_key(key))
    note = parse_note(again.sign(text + "\n"))
    assert verify_note(note, [parse_vkey(key.vkey)]) == (parse_vkey(key.vkey),)


def test_representation_of_a_key_shows_nothing_of_it() -> None:
    assert "private" not in repr(KEY)
    assert SEED.hex() not in repr(KEY)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff" + line()[1:],
        line(prefix=""),
        line(prefix="PRIVATE+KEX+"),
        line(end=""),
        line(end="x"),
        line(end="\n\n"),
        line(end="\n" + "x" * MAX_KEY_BYTES + "\n"),
        line(key_id="00000000"),
        line(key_id="nothex!!"),
        line(encoded=b"\x02" + SEED),
        line(encoded=b"\x01" + SEED[:-1]),
        line(encoded=b"\x01" + SEED + b"\0"),
        KEY.vkey.encode() + b"\n",
        b"-----BEGIN PRIVATE KEY-----\n",
    ],
)
def test_other_spelling_is_no_key_and_the_refusal_says_nothing_of_it(data: bytes) -> None:
    assert refusal(parse_note_key, data) == "note_key"
    with pytest.raises(MalformedError) as caught:
        parse_note_key(data)
    assert base64std.encode(b"\x01" + SEED) not in str(caught.value)
    assert caught.value.__cause__ is None


def test_longest_key_file_is_read() -> None:
    room = MAX_KEY_BYTES - len(line()) + len(NAME)
    key = NoteKey(name="n" * room, private=KEY.private)
    assert len(encode_note_key(key)) == MAX_KEY_BYTES
    assert parse_note_key(encode_note_key(key)).vkey == key.vkey
    longer = NoteKey(name="n" * (room + 1), private=KEY.private)
    assert refusal(parse_note_key, encode_note_key(longer)) == "note_key"


@given(st.binary(max_size=120))
def test_random_bytes_are_no_key(data: bytes) -> None:
    assert refusal(parse_note_key, data) == "note_key"
