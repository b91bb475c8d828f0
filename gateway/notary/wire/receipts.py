"""SEALED: the receipt of a request, once it is durable.

    jti 16 ‖ leaf index u64 ‖ receipt digest 32 ‖ which keys u8 ‖ pieces u8
    ‖ keys 32 each ‖ {length u16 ‖ inserted bytes} ‖ token

Bit n of `which keys` is the n-th label of openings.  Packed, not JSON, as all that crosses the
socket for every request.
"""

from __future__ import annotations

import struct
from typing import Final

from attestation.encoding.digest import Digest
from attestation.encoding.making import maker_of
from attestation.receipt import text
from attestation.receipt.commitments import LABELS, Openings
from gateway.notary.interface import SealedReceipt
from gateway.notary.wire.values import refused

_openings = maker_of(Openings)
_sealed = maker_of(SealedReceipt)
_HEAD: Final = struct.Struct(">16sQ32sBB")
_BITS: Final = tuple((label, 1 << place) for place, label in enumerate(LABELS))
_MAX_TOKEN: Final = 4096


def encode_sealed(sealed: SealedReceipt) -> bytes:
    """Return the payload of SEALED."""
    openings, which = sealed.openings, 0
    parts = [b""]
    for label, bit in _BITS:
        key = openings.keys.get(label)
        if key is not None:
            which |= bit
            parts.append(key)
    for piece in openings.inserted:
        parts += (len(piece).to_bytes(2, "big"), piece)
    parts.append(sealed.token.encode("ascii"))
    parts[0] = _HEAD.pack(
        bytes.fromhex(sealed.jti), sealed.index, sealed.digest.value, which, len(openings.inserted)
    )
    return b"".join(parts)


def decode_sealed(payload: bytes) -> SealedReceipt:
    """Return the receipt of a SEALED, or raise `MalformedError`."""
    if len(payload) < _HEAD.size:
        raise refused("a sealed receipt")
    jti, index, digest, which, count = _HEAD.unpack_from(payload)
    if not 1 <= index <= text.MAX_INTEGER or which >> len(LABELS) or count > text.MAX_SPLICES:
        raise refused("index, keys and pieces of a sealed receipt")
    at = _HEAD.size
    keys: dict[str, bytes] = {}
    pieces: list[bytes] = []
    for label, bit in _BITS:
        if which & bit:
            keys[label] = payload[at : at + 32]
            at += 32
    for _ in range(count):
        length = int.from_bytes(payload[at : at + 2], "big")
        pieces.append(payload[at + 2 : at + 2 + length])
        at += 2 + length
    token = payload[at:]
    if at > len(payload) or len(token) > _MAX_TOKEN or not token.isascii():
        raise refused("keys, inserted bytes and token of a sealed receipt")
    return _sealed(
        jti=jti.hex(),
        token=token.decode("ascii"),
        openings=_openings(keys, tuple(pieces)),
        index=index,
        digest=Digest(digest),
    )
