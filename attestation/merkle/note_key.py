"""Private keys of signed notes, one line of text: the form that Go's sumdb/note writes.

PRIVATE+KEY+<key name>+<hex key id>+<base64 of type and seed>
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attestation.encoding import base64std
from attestation.errors import MalformedError
from attestation.merkle.note import ED25519, parse_vkey, sign_note, split_vkey, vkey_for

MAX_KEY_BYTES = 4096
_PREFIX = "PRIVATE+KEY+"
_SEED_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteKey:
    """An Ed25519 key that signs notes under `name`."""

    name: str
    private: Ed25519PrivateKey = field(repr=False)

    @property
    def vkey(self) -> str:
        """The verifier key, as `parse_vkey` reads it."""
        return vkey_for(self.name, self.private.public_key().public_bytes_raw())

    def sign(self, text: str) -> str:
        """Return the note of `text` with this key's signature."""
        return sign_note(text, self.name, self.private)


def encode_note_key(key: NoteKey) -> bytes:
    """Return the file of a private key: one line."""
    key_id = parse_vkey(key.vkey).key_id.hex()
    encoded = base64std.encode(bytes([ED25519]) + key.private.private_bytes_raw())
    return f"{_PREFIX}{key.name}+{key_id}+{encoded}\n".encode()


def parse_note_key(data: bytes) -> NoteKey:
    """Return the private key in a file.

    The key id must be the one that signed-note derives from name and key.  Raises
    `MalformedError` (code "note_key"), which carries nothing of the key.
    """
    try:
        line = data[: MAX_KEY_BYTES + 1].decode("utf-8")
    except UnicodeDecodeError:
        raise _malformed() from None
    if len(data) > MAX_KEY_BYTES or not line.startswith(_PREFIX) or not line.endswith("\n"):
        raise _malformed()
    try:
        name, key_id, encoded = split_vkey(line.removeprefix(_PREFIX)[:-1])
    except MalformedError:
        raise _malformed() from None
    if encoded[0] != ED25519 or len(encoded) != 1 + _SEED_BYTES:
        raise _malformed()
    key = NoteKey(name=name, private=Ed25519PrivateKey.from_private_bytes(encoded[1:]))
    if key_id != parse_vkey(key.vkey).key_id:
        raise _malformed()
    return key


def _malformed() -> MalformedError:
    return MalformedError(
        "this is no private key of signed notes",
        code="note_key",
        expected=f"the line {_PREFIX}<name>+<8 hex digits>+<base64> of an Ed25519 key",
        hint="`attested policy key` makes one",
    )
