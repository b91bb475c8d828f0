"""DSSE envelopes with Ed25519: a payload of a named type, and who signed it.

Source: secure-systems-lab/dsse, protocol.md and envelope.md, version 1.0.  What is signed is
PAE(type, payload), so a signature over one type can stand for no other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from attestation.encoding import base64std, jcs
from attestation.encoding.members import Members
from attestation.encoding.strict_json import JsonLimits
from attestation.errors import EvidenceError, MalformedError
from attestation.merkle.note import Vkey, parse_vkey

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attestation.merkle.note_key import NoteKey

MAX_PAYLOAD_BYTES: Final = 16 << 20
MAX_ENVELOPE_BYTES: Final = 24 << 20
MAX_SIGNATURES: Final = 16
_LIMITS: Final = JsonLimits(max_bytes=MAX_ENVELOPE_BYTES, max_depth=4, max_members=128)
_TYPE: Final = r"[a-z0-9.+-]+/[A-Za-z0-9.+-]+"
_KEYID: Final = r"[\x21-\x7e]{1,200}"


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvelopeSignature:
    """A signature and the hint at its key: `<name>+<8 hex digits>`, as verifier keys begin."""

    keyid: str
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """A payload, what it is, and its signatures; nothing about them is verified."""

    payload_type: str
    payload: bytes
    signatures: tuple[EnvelopeSignature, ...]

    def encode(self) -> bytes:
        """Return the file: canonical JSON."""
        value: dict[str, Any] = {
            "payload": base64std.encode(self.payload),
            "payloadType": self.payload_type,
            "signatures": [
                {"keyid": one.keyid, "sig": base64std.encode(one.signature)}
                for one in self.signatures
            ],
        }
        return jcs.canonicalize(value)


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return the pre-authentication encoding: `DSSEv1 LEN TYPE LEN PAYLOAD`."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign_envelope(payload_type: str, payload: bytes, keys: Sequence[NoteKey]) -> Envelope:
    """Return the envelope of `payload`, signed by each of `keys`."""
    data = pae(payload_type, payload)
    return Envelope(
        payload_type=payload_type,
        payload=payload,
        signatures=tuple(
            EnvelopeSignature(keyid=_keyid(parse_vkey(key.vkey)), signature=key.private.sign(data))
            for key in keys
        ),
    )


def parse_envelope(data: bytes) -> Envelope:
    """Return the envelope in a file: canonical JSON, closed, 1 to 16 signatures.

    Raises `MalformedError`.
    """
    members = Members(jcs.parse_canonical(data, _LIMITS, what="the envelope"), "envelope")
    text = members.text("payload", max_chars=MAX_ENVELOPE_BYTES)
    found = Envelope(
        payload_type=members.text("payloadType", pattern=_TYPE),
        payload=base64std.decode(text, what="envelope.payload"),
        signatures=tuple(map(_signature, members.array("signatures", max_items=MAX_SIGNATURES))),
    )
    members.close()
    if not found.signatures:
        raise MalformedError(
            "the envelope is not signed",
            code="release_signature",
            expected=f"1 to {MAX_SIGNATURES} signatures",
            observed="none",
        )
    return found


def verify_envelope(envelope: Envelope, vkeys: Sequence[Vkey]) -> tuple[Vkey, ...]:
    """Return the listed keys that signed, in the order of their signatures.

    At least one has, and no signature that names a listed key fails; signatures by others are
    ignored.  Raises `EvidenceError` (code "release_signature").
    """
    data = pae(envelope.payload_type, envelope.payload)
    listed = {_keyid(vkey): vkey for vkey in vkeys}
    signers: list[Vkey] = []
    for one in envelope.signatures:
        vkey = listed.get(one.keyid)
        if vkey is not None:
            _verify(vkey, one.signature, data)
            signers.append(vkey)
    if not signers:
        raise EvidenceError(
            "no listed key has signed the release",
            code="release_signature",
            expected="a signature by " + (", ".join(listed) or "a key"),
            observed="signatures by others only",
        )
    return tuple(dict.fromkeys(signers))


def _verify(vkey: Vkey, signature: bytes, data: bytes) -> None:
    try:
        Ed25519PublicKey.from_public_bytes(vkey.public).verify(signature, data)
    except InvalidSignature:
        raise EvidenceError(
            "a signature on the release does not hold",
            code="release_signature",
            expected=f"the payload to be what {vkey.name} signed",
        ) from None


def _signature(value: Any) -> EnvelopeSignature:  # noqa: ANN401  (one parsed JSON value)
    members = Members(value, "envelope.signatures")
    found = EnvelopeSignature(
        keyid=members.text("keyid", pattern=_KEYID),
        signature=base64std.decode(members.text("sig"), what="a signature of the envelope"),
    )
    members.close()
    return found


def _keyid(vkey: Vkey) -> str:
    return f"{vkey.name}+{vkey.key_id.hex()}"
