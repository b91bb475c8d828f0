"""C2SP signed notes (c2sp.org/signed-note) with Ed25519 keys.

    <text, ends in a newline>
    <empty line>
    — <key name> <base64 of key id and signature>

A note says nothing until `verify_note` has accepted a signature by a key the caller listed.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from attestation.encoding import base64std
from attestation.errors import EvidenceError, MalformedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

MAX_NOTE_BYTES = 1 << 17
MAX_SIGNATURES = 64
ED25519 = 0x01
_KEY_BYTES = 32
_KEY_ID_BYTES = 4
_MIN_SIGNATURE_BYTES = 5
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")
_NAME = re.compile(r"[^\s+\ud800-\udfff]+")
_KEY_ID = re.compile(r"[0-9a-f]{8}", re.ASCII)
_DASH = "— "


@dataclass(frozen=True, slots=True, kw_only=True)
class Vkey:
    """An Ed25519 verifier key: its name, its 4-byte id and its 32 bytes."""

    name: str
    key_id: bytes
    public: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteSignature:
    """One signature line: who claims to have signed, and the bytes after the key id."""

    name: str
    key_id: bytes
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A parsed note.  `text` includes its final newline and is what the signatures cover."""

    text: str
    signatures: tuple[NoteSignature, ...]

    def encode(self) -> str:
        """Return the note as it was parsed."""
        lines = [
            f"{_DASH}{one.name} {base64std.encode(one.key_id + one.signature)}\n"
            for one in self.signatures
        ]
        return "\n".join([self.text, "".join(lines)])


def vkey_for(name: str, public: bytes) -> str:
    """Return the text form `<name>+<hex key id>+<base64 of type and key>` of an Ed25519 key."""
    _require_name(name)
    if len(public) != _KEY_BYTES:
        raise _malformed_vkey(f"a key of {_KEY_BYTES} bytes", f"{len(public)} bytes")
    encoded = bytes([ED25519]) + public
    return f"{name}+{_key_id(name, encoded).hex()}+{base64std.encode(encoded)}"


def parse_vkey(text: str) -> Vkey:
    """Return the Ed25519 key that `text` names.

    The key id must be the one that signed-note derives from name and key.  Raises
    `MalformedError` (code "vkey"); so does a key of another signature type.
    """
    name, key_id, encoded = split_vkey(text)
    if encoded[0] != ED25519 or len(encoded) != 1 + _KEY_BYTES:
        raise _malformed_vkey("an Ed25519 key (type 1, 32 bytes)", f"type {encoded[0]}")
    if key_id != _key_id(name, encoded):
        raise _malformed_vkey(f"the key id {_key_id(name, encoded).hex()}", key_id.hex())
    return Vkey(name=name, key_id=key_id, public=encoded[1:])


def split_vkey(text: str) -> tuple[str, bytes, bytes]:
    """Return name, key id, and type byte with key, of a verifier key of any signature type.

    Only the form is checked: other types derive their key ids in other ways.
    """
    parts = text.split("+", 2)
    if len(parts) != 3 or not _KEY_ID.fullmatch(parts[1]):
        raise _malformed_vkey("<name>+<8 hex digits>+<base64>", "another form")
    name, key_id, encoded = parts
    _require_name(name)
    key = base64std.decode(encoded, what="the key of a verifier key")
    if len(key) < 2:
        raise _malformed_vkey("a type byte and a key", f"{len(key)} bytes")
    return name, bytes.fromhex(key_id), key


def sign_note(text: str, name: str, private_key: Ed25519PrivateKey) -> str:
    """Return the note of `text` with one signature by `private_key` under `name`.

    `text` ends in a newline and has no other control characters; `MalformedError` otherwise.
    """
    _require_name(name)
    _require_text(text)
    public = private_key.public_key().public_bytes_raw()
    key_id = _key_id(name, bytes([ED25519]) + public)
    signature = base64std.encode(key_id + private_key.sign(text.encode("utf-8")))
    return f"{text}\n{_DASH}{name} {signature}\n"


def parse_note(data: str | bytes) -> Note:
    """Return the parts of a note; nothing is verified.

    Guarantees: UTF-8, at most 128 KiB, no control characters but newlines, a text that ends in a
    newline, then 1 to 64 signature lines of canonical base64.  Raises `MalformedError`.
    """
    content = _decoded(data)
    text, separator, lines = content.rpartition("\n\n")
    if not separator or not lines.endswith("\n"):
        raise _malformed_note("a text, an empty line and signature lines", "another form")
    signatures = lines[:-1].split("\n")
    if len(signatures) > MAX_SIGNATURES:
        raise _malformed_note(f"at most {MAX_SIGNATURES} signatures", f"{len(signatures)}")
    return Note(text=text + "\n", signatures=tuple(_signature(line) for line in signatures))


def verify_note(note: Note, vkeys: Sequence[Vkey]) -> tuple[Vkey, ...]:
    """Return the listed keys that signed the note, in the order of their signatures.

    At least one listed key has signed and no signature that names a listed key fails; signatures
    by others are ignored.  Raises `EvidenceError` (code "note_signature").
    """
    signers: list[Vkey] = []
    for signature in note.signatures:
        for vkey in vkeys:
            if (signature.name, signature.key_id) == (vkey.name, vkey.key_id):
                _verify_signature(note.text, signature.signature, vkey)
                signers.append(vkey)
    if not signers:
        raise EvidenceError(
            "no listed key has signed the note",
            code="note_signature",
            expected="a signature by "
            + (", ".join(f"{vkey.name}+{vkey.key_id.hex()}" for vkey in vkeys) or "a key"),
            observed="signatures by others only",
            hint="whoever made this note does not hold the key: ask the log itself for it",
        )
    return tuple(dict.fromkeys(signers))


def _verify_signature(text: str, signature: bytes, vkey: Vkey) -> None:
    try:
        Ed25519PublicKey.from_public_bytes(vkey.public).verify(signature, text.encode("utf-8"))
    except InvalidSignature:
        raise EvidenceError(
            "a signature on the note does not hold",
            code="note_signature",
            expected=f"the text to be what {vkey.name} signed",
        ) from None


def _decoded(data: str | bytes) -> str:
    try:
        encoded = data.encode("utf-8") if isinstance(data, str) else data
        content = encoded.decode("utf-8")
    except UnicodeError:
        raise _malformed_note("UTF-8", "other bytes") from None
    if len(encoded) > MAX_NOTE_BYTES:
        raise _malformed_note(f"at most {MAX_NOTE_BYTES} bytes", f"{len(encoded)}")
    if _CONTROL.search(content):
        raise _malformed_note("no control characters but newlines", "another one")
    return content


def _signature(line: str) -> NoteSignature:
    name, _, encoded = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH) or not _NAME.fullmatch(name):
        raise _malformed_note(f"signature lines '{_DASH}<name> <base64>'", "another line")
    blob = base64std.decode(encoded, what="a signature of the note")
    if len(blob) < _MIN_SIGNATURE_BYTES:
        raise _malformed_note("a key id and a signature", f"{len(blob)} bytes")
    return NoteSignature(name=name, key_id=blob[:_KEY_ID_BYTES], signature=blob[_KEY_ID_BYTES:])


def _require_text(text: str) -> None:
    if not text.endswith("\n") or _CONTROL.search(text):
        raise _malformed_note(
            "a text that ends in a newline and has no other control characters", "another text"
        )


def _require_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise _malformed_vkey("a name without white space and plus signs", "another name")


def _key_id(name: str, encoded: bytes) -> bytes:
    return hashlib.sha256(name.encode("utf-8") + b"\n" + encoded).digest()[:_KEY_ID_BYTES]


def _malformed_note(expected: str, observed: str) -> MalformedError:
    return MalformedError(
        "the note is malformed", code="note", expected=expected, observed=observed
    )


def _malformed_vkey(expected: str, observed: str) -> MalformedError:
    return MalformedError(
        "the verifier key is malformed", code="vkey", expected=expected, observed=observed
    )
