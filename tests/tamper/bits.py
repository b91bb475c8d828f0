"""Changes to bytes: bits, truncations, additions, in the file and in the bodies beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from attestation.encoding import base64url
from tests.tamper.cases import Case, Changes
from tests.tamper.document import Path, get, named, paths, put
from tests.tamper.folder import AuditFolder

ALL_BITS = tuple(range(8))
_ADDITIONS = (b" ", b"\n", b"\x00", b"{}", b"\xef\xbb\xbf", b"x" * 64)

Reading = tuple[str, bytes, Callable[[bytes], str]]


def flipped(data: bytes, at: int, bit: int) -> bytes:
    """Return `data` with one bit of the byte at `at` changed."""
    changed = bytearray(data)
    changed[at] ^= 1 << bit
    return bytes(changed)


def file_bits(folder: AuditFolder, *, everywhere: bool) -> Iterator[Case]:
    """Every bit of receipts and openings as they stand in the file; elsewhere one bit a byte.

    `everywhere`: every bit of every byte.
    """
    changes, data = Changes(folder), folder.bundle
    secret = frozenset(at for span in _receipt_ranges(changes) for at in span)
    for at in range(len(data)):
        for bit in ALL_BITS if everywhere or at in secret else (at % 8,):
            kind = "file bit: receipt, openings" if at in secret else "file bit"
            yield changes.file(kind, f"byte {at} bit {bit}", partial(flipped, data, at, bit))


def file_lengths(folder: AuditFolder) -> Iterator[Case]:
    """Every truncation of the file, at either end, and a few additions."""
    changes, data = Changes(folder), folder.bundle
    for size in range(len(data)):
        yield changes.file("file truncated", f"{size}", partial(bytes, data[:size]))
    for size in (1, 2, 3, 17, len(data) // 2):
        yield changes.file("file beheaded", f"{size}", partial(bytes, data[size:]))
    for extra in _ADDITIONS:
        for whole in (data + extra, extra + data):
            yield changes.file("file extended", f"{extra[:4]!r}", partial(bytes, whole))


def body_bits(folder: AuditFolder) -> Iterator[Case]:
    """Every bit of every body."""
    changes = Changes(folder)
    for name, body in folder.bodies.items():
        for at in range(len(body)):
            for bit in ALL_BITS:
                make = partial(_body_bit, name, body, at, bit)
                yield changes.bodies("body bit", f"{name} byte {at} bit {bit}", make)


def body_lengths(folder: AuditFolder) -> Iterator[Case]:
    """Every truncation of every body, a few additions, bodies missing and exchanged."""
    changes, names = Changes(folder), list(folder.bodies)

    def case(kind: str, where: str, **bodies: bytes | None) -> Case:
        return changes.bodies(kind, where, lambda: bodies)

    for name, body in folder.bodies.items():
        for size in range(len(body)):
            yield case("body truncated", f"{name} to {size}", **{name: body[:size]})
        for extra in _ADDITIONS:
            yield case("body extended", f"{name} by {extra[:4]!r}", **{name: body + extra})
            yield case("body extended", f"{name} before {extra[:4]!r}", **{name: extra + body})
        yield case("body missing", name, **{name: None})
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            swapped = {one: folder.bodies[other], other: folder.bodies[one]}
            yield case("body swapped", f"{one} {other}", **swapped)


def token_bits(folder: AuditFolder) -> Iterator[Case]:
    """Every bit of header, claims and signature of every receipt, encoded again."""
    changes = Changes(folder)
    for index, part, data, joined in _token_parts(changes):
        for at in range(len(data)):
            for bit in ALL_BITS:
                make = partial(_token_bit, joined, data, at, bit)
                where = f"{index} part {part} byte {at} bit {bit}"
                yield changes.rewritten("receipt bit, encoded again", where, make)


def token_lengths(folder: AuditFolder) -> Iterator[Case]:
    """Every truncation of every receipt, as text and of each part before it is encoded."""
    changes = Changes(folder)
    for index, item in enumerate(changes.document["receipts"]):
        token, path = item["receipt"], ("receipts", index, "receipt")
        for size in range(len(token)):
            yield changes.value("receipt truncated", path, token[:size], f"to {size}")
    for index, part, data, joined in _token_parts(changes):
        for size in range(len(data)):
            yield changes.rewritten(
                "receipt part truncated",
                f"{index} part {part} to {size}",
                partial(joined, data[:size]),
            )


def leaf_bits(folder: AuditFolder, *, everywhere: bool) -> Iterator[Case]:
    """Bits of every text and of every binary value in the document, written anew afterwards.

    The file is canonical again and collateral stands under its new digest, so that only
    signatures and bindings are left to notice.
    """
    changes = Changes(folder)
    for path in paths(changes.document):
        value = get(changes.document, path)
        if type(value) is int:
            for other in (value + 1, value - 1, value ^ 2, 0, -1, 2**53 - 1, 2**53, True):
                yield changes.value("number", path, other, f"{other}")
        for label, data, encode in _readings(path, value):
            for at in range(len(data)):
                for bit in ALL_BITS if everywhere else (at % 8,):
                    yield changes.rewritten(
                        f"{label} bit, rewritten",
                        f"{named(path)} byte {at} bit {bit}",
                        partial(_with_bit, changes, path, encode, data, (at, bit)),
                    )


def _with_bit(
    changes: Changes,
    path: Path,
    encode: Callable[[bytes], str],
    data: bytes,
    where: tuple[int, int],
) -> object:
    try:
        return put(changes.document, path, encode(flipped(data, *where)))
    except UnicodeDecodeError:
        # Not a text any more: there is no such document, which stands for no change.
        return changes.document


def _body_bit(name: str, body: bytes, at: int, bit: int) -> dict[str, bytes | None]:
    return {name: flipped(body, at, bit)}


def _token_bit(joined: Callable[[bytes], object], data: bytes, at: int, bit: int) -> object:
    return joined(flipped(data, at, bit))


def _token_parts(
    changes: Changes,
) -> Iterator[tuple[int, int, bytes, Callable[[bytes], object]]]:
    for index, item in enumerate(changes.document["receipts"]):
        texts = item["receipt"].split(".")
        for part, text in enumerate(texts):

            def joined(data: bytes, index: int = index, part: int = part) -> object:
                old = changes.document["receipts"][index]["receipt"].split(".")
                token = ".".join([*old[:part], base64url.encode(data), *old[part + 1 :]])
                return put(changes.document, ("receipts", index, "receipt"), token)

            yield index, part, base64url.decode(text), joined


def _receipt_ranges(changes: Changes) -> Iterator[range]:
    for item in changes.document["receipts"]:
        keys = item["openings"] or {}
        inserted = keys.get("ins", [])
        for text in (item["receipt"], *(keys[name] for name in keys if name != "ins"), *inserted):
            start = changes.folder.bundle.index(text.encode())
            yield range(start, start + len(text))


def _readings(path: Path, value: object) -> Iterator[Reading]:
    if not isinstance(value, str):
        return
    yield "text", value.encode(), bytes.decode
    if path[-1] in ("quote", "root_ca_crl", "pck_crl") or str(path[-1]).endswith("_signature"):
        yield "binary", base64url.decode(value), base64url.encode
    elif "openings" in path:
        yield "openings", base64url.decode(value), base64url.encode
