"""A second reader of C2SP logs, written from the texts of c2sp.org alone.

signed-note, tlog-checkpoint, tlog-tiles, tlog-proof and RFC 6962 section 2.1, as plainly as they
are written there: recursive definitions over whole lists, no incremental tricks.  It imports
nothing of this project, so that a misreading would have to be made twice to go unseen.
"""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

Read = Callable[[str], bytes | None]


class WrongError(Exception):
    """Something is not as the specification says."""


def require(holds: bool, what: str) -> None:
    if not holds:
        raise WrongError(what)


@dataclass(frozen=True)
class Head:
    origin: str
    size: int
    root: bytes


# c2sp.org/signed-note


def b64(text: str) -> bytes:
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (ValueError, UnicodeError):
        raise WrongError("not base64") from None
    require(base64.b64encode(data).decode() == text, "base64 in another spelling")
    return data


def open_vkey(vkey: str) -> tuple[str, bytes, Ed25519PublicKey]:
    """`<key name>+<hash[:4] in hex>+<base64 of signature type and public key>`."""
    name, key_id, encoded = vkey.split("+", 2)
    blob = b64(encoded)
    require(len(blob) == 33 and blob[0] == 1, "not an Ed25519 key")
    derived = hashlib.sha256(name.encode() + b"\n" + blob).digest()[:4]
    require(derived.hex() == key_id, "the key id is not derived from name and key")
    return name, derived, Ed25519PublicKey.from_public_bytes(blob[1:])


def open_note(note: bytes, vkey: str) -> str:
    """Return the text that `vkey` has signed."""
    name, key_id, key = open_vkey(vkey)
    try:
        decoded = note.decode("utf-8")
    except UnicodeDecodeError:
        raise WrongError("not UTF-8") from None
    require(all(c >= " " or c == "\n" for c in decoded), "a control character")
    head, separator, tail = decoded.rpartition("\n\n")
    require(bool(separator) and tail.endswith("\n"), "no signature block")
    text, signed = head + "\n", False
    for line in tail[:-1].split("\n"):
        dash, signer, *rest = line.split(" ")
        require(dash == "\N{EM DASH}" and len(rest) == 1, "not a signature line")
        blob = b64(rest[0])
        if signer != name or blob[:4] != key_id:
            continue
        try:
            key.verify(blob[4:], text.encode())
        except InvalidSignature:
            raise WrongError("the signature does not verify") from None
        signed = True
    require(signed, "not signed by this key")
    return text


# c2sp.org/tlog-checkpoint


def open_checkpoint(note: bytes, vkey: str) -> Head:
    text = open_note(note, vkey)
    lines = text.split("\n")
    require(len(lines) >= 4, "fewer than three lines")
    origin, size, root = lines[:3]
    require(size.isascii() and size.isdigit() and str(int(size)) == size, "not a decimal")
    require(origin == vkey.split("+", maxsplit=1)[0], "another origin than the key's name")
    digest = b64(root)
    require(len(digest) == 32, "a root of another length")
    return Head(origin, int(size), digest)


# RFC 6962 section 2.1


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def power_below(n: int) -> int:
    k = 1
    while 2 * k < n:
        k *= 2
    return k


def mth(entries: list[bytes]) -> bytes:
    """MTH({}) = SHA-256(), MTH({d}) = SHA-256(0x00 || d), otherwise split at k."""
    if not entries:
        return sha(b"")
    if len(entries) == 1:
        return sha(b"\x00" + entries[0])
    k = power_below(len(entries))
    return sha(b"\x01" + mth(entries[:k]) + mth(entries[k:]))


def path(m: int, entries: list[bytes]) -> list[bytes]:
    """PATH(m, D[n]), section 2.1.1."""
    n = len(entries)
    if n == 1:
        return []
    k = power_below(n)
    if m < k:
        return [*path(m, entries[:k]), mth(entries[k:])]
    return [*path(m - k, entries[k:]), mth(entries[:k])]


def subproof(m: int, entries: list[bytes], whole: bool) -> list[bytes]:
    """SUBPROOF(m, D[n], b), section 2.1.2."""
    n = len(entries)
    if m == n:
        return [] if whole else [mth(entries)]
    k = power_below(n)
    if m <= k:
        return [*subproof(m, entries[:k], whole), mth(entries[k:])]
    return [*subproof(m - k, entries[k:], False), mth(entries[:k])]


def root_by_path(leaf: bytes, m: int, n: int, proof: list[bytes]) -> bytes:
    """The root that an audit path leads to, by the definition of PATH read backwards."""
    if n == 1:
        require(not proof, "the path is too long")
        return leaf
    require(bool(proof), "the path is too short")
    k = power_below(n)
    if m < k:
        return sha(b"\x01" + root_by_path(leaf, m, k, proof[:-1]) + proof[-1])
    return sha(b"\x01" + proof[-1] + root_by_path(leaf, m - k, n - k, proof[:-1]))


# c2sp.org/tlog-tiles


def resource(level: int | str, index: int, width: int) -> str:
    digits = f"{index:03}"
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    groups = [digits[at : at + 3] for at in range(0, len(digits), 3)]
    named = [f"x{group}" for group in groups[:-1]] + groups[-1:]
    partial = "" if width == 256 else f".p/{width}"
    return f"tile/{level}/{'/'.join(named)}{partial}"


def fetch(read: Read, level: int | str, index: int, width: int) -> tuple[bytes, int]:
    """The resource and its width: the full one where the partial one is gone."""
    for held in (width, 256):
        data = read(resource(level, index, held))
        if data is not None:
            return data, held
    raise WrongError(f"there is no {resource(level, index, width)}")


def bundle(data: bytes, width: int) -> list[bytes]:
    entries = []
    while data:
        require(len(data) >= 2, "half a length")
        (size,) = struct.unpack(">H", data[:2])
        require(len(data) >= 2 + size, "half an entry")
        entries.append(data[2 : 2 + size])
        data = data[2 + size :]
    require(len(entries) == width, "another number of entries")
    return entries


def rows(size: int) -> list[tuple[int, int, int]]:
    """Level, index and width of every tile of a tree: floor(s / 256**l) hashes on level l."""
    tiles = []
    level = 0
    while size // 256**level:
        hashes = size // 256**level
        tiles += [(level, n, 256) for n in range(hashes // 256)]
        tiles += [(level, hashes // 256, hashes % 256)] if hashes % 256 else []
        level += 1
    return tiles


def read_log(read: Read, vkey: str) -> tuple[Head, list[bytes]]:
    """Check every resource that the checkpoint's size demands, and return it with the entries.

    Each hash of a tile is compared with MTH(D[(n*256+i)*256**l : (n*256+i+1)*256**l]).
    """
    note = read("checkpoint")
    require(note is not None, "there is no checkpoint")
    assert note is not None
    head = open_checkpoint(note, vkey)
    entries: list[bytes] = []
    for level, n, width in rows(head.size):
        if level == 0:
            data, held = fetch(read, "entries", n, width)
            entries += bundle(data, held)[:width]
    known: dict[tuple[int, int], bytes] = {}
    for level, n, width in rows(head.size):
        data, held = fetch(read, level, n, width)
        require(len(data) == 32 * held, "a tile of another length")
        for i in range(width):
            number = n * 256 + i
            if level == 0:
                known[level, number] = mth([entries[number]])
            else:
                known[level, number] = tree_of(
                    [known[level - 1, number * 256 + j] for j in range(256)]
                )
            shown = data[32 * i : 32 * i + 32]
            require(shown == known[level, number], f"hash {i} of {resource(level, n, width)}")
    require(mth(entries) == head.root, "the entries do not have the signed root")
    return head, entries


def tree_of(hashes: list[bytes]) -> bytes:
    """The root over hashes that are roots of equal trees already."""
    if len(hashes) == 1:
        return hashes[0]
    half = len(hashes) // 2
    return sha(b"\x01" + tree_of(hashes[:half]) + tree_of(hashes[half:]))


# c2sp.org/tlog-proof


def check_proof(text: str, entry: bytes, vkey: str) -> Head:
    """The magic line, an extra line perhaps, index, hashes, an empty line, a checkpoint."""
    lines, _, note = text.partition("\n\n")
    magic, *rest = lines.split("\n")
    require(magic == "c2sp.org/tlog-proof@v1", "another magic line")
    if rest and rest[0].startswith("extra "):
        b64(rest.pop(0).removeprefix("extra "))
    require(bool(rest) and rest[0].startswith("index "), "no index line")
    index = rest[0].removeprefix("index ")
    require(index.isascii() and index.isdigit() and str(int(index)) == index, "not an index")
    head = open_checkpoint(note.encode(), vkey)
    require(int(index) < head.size, "an index beyond the tree")
    proof = [b64(line) for line in rest[1:]]
    root = root_by_path(sha(b"\x00" + entry), int(index), head.size, proof)
    require(root == head.root, "the path leads to another root")
    return head
