"""Changing inputs along their structure, so that what is wrong sits deep inside what is right.

`mutate(rng, data, shape, others)` is a function of its arguments: equal seeds, equal inputs.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from random import Random
from typing import Any

from attestation.encoding import base64url, jcs
from attestation.errors import AttestationError

MAX_BYTES = 1 << 17
TOKENS = (
    b"", b"\x00", b"\xff" * 4, b"\n", b"\r\n", b"\n\n", b"=", b"==", b".", b"..", b"+", b" ", b"-",
    b"{}", b"[]", b"null", b"true", b"NaN", b"1e999", b"-0", b"0", b"1", b"18446744073709551616",
    b'"\\ud800"', b"\\u0000", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xe2\x80\x94 ", b"A" * 43,
    b": receipt ", b"data: [DONE]\n\n", b"index 1\n", b"extra AA==\n", b"\xc3\xa9",
    b"-----BEGIN CERTIFICATE-----\n",
    b"\x00\x00\x00\x80", b"\xff\xff\xff\x7f", b"\x06\x00", b"\x05\x00", b"2" * 64, b"ab" * 48,
)  # fmt: skip
NUMBERS = (0, 1, -1, 2, 255, 256, 2**31, 2**32, 2**53 - 1, 2**53, 2**63, 2**64 - 1, -(2**63))
TEXTS = ("", "\x00", "é", "\u2028", "A", "AA", "a" * 64, "0" * 64, "x" * 300, "1.0", "\U0001f600")
VALUES: tuple[object, ...] = (None, True, False, 1.5, [], {}, [[]], {"a": None}, *NUMBERS, *TEXTS)


def mutate(rng: Random, data: bytes, shape: str, others: list[bytes]) -> bytes:
    """Return `data` with one to four changes, most of them of the kind that `shape` allows."""
    for _ in range(rng.randint(1, 4)):
        by_shape = SHAPES.get(shape) if rng.random() < 0.7 else None
        changed = by_shape(rng, data) if by_shape else None
        data = _bytes(rng, data, others) if changed is None else changed
    return data[:MAX_BYTES]


def _bytes(rng: Random, data: bytes, others: list[bytes]) -> bytes:
    start = rng.randint(0, len(data))
    end = min(len(data), start + rng.choice((0, 1, 1, 2, 4, 8, 64)))
    piece = data[start:end]
    operation = rng.randrange(7)
    if operation == 0 and piece:
        piece = bytes([piece[0] ^ 1 << rng.randrange(8)]) + piece[1:]
    elif operation == 1:
        piece = rng.choice(TOKENS)
    elif operation == 2:
        piece = piece * rng.choice((0, 2, 3))
    elif operation == 3:
        piece = rng.randbytes(len(piece))
    elif operation == 4:
        return data[:start]
    elif operation == 5:
        other = rng.choice(others)
        return data[:start] + other[rng.randint(0, len(other)) :]
    else:
        piece = piece[::-1]
    return data[:start] + piece + data[end:]


def _json(rng: Random, data: bytes) -> bytes | None:
    """Change one value of the document, or how one is written; None if it is no document."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if rng.random() < 0.1:
        return _doubled_member(rng, data)
    changed = _change_value(rng, [copy.deepcopy(document)])[0]
    try:
        return jcs.canonicalize_full(changed)
    except AttestationError:
        return json.dumps(changed, separators=(",", ":")).encode()


def _doubled_member(rng: Random, data: bytes) -> bytes:
    places = [index for index, byte in enumerate(data) if byte == ord("{")]
    place = rng.choice(places or [0]) + 1
    return data[:place] + b'"a":1,"a":2,' + data[place:]


def _change_value(rng: Random, holder: list[Any]) -> list[Any]:
    """Walk down at random from `holder[0]` and change what is reached."""
    container: list[object] | dict[str, object] = holder
    key: int | str = 0
    while True:
        inner = container[key]  # type: ignore[index]
        if not isinstance(inner, (dict, list)) or not inner or rng.random() < 0.2:
            break
        container = inner
        key = rng.choice(list(inner)) if isinstance(inner, dict) else rng.randrange(len(inner))
    operation = rng.randrange(4)
    if operation == 0 and container is not holder:
        del container[key]  # type: ignore[arg-type]
    elif operation == 1 and container is not holder:
        _copy_beside(rng, container, key)
    elif operation == 2:
        container[key] = rng.choice(VALUES)  # type: ignore[index]
    else:
        container[key] = _varied(rng, container[key])  # type: ignore[index]
    return holder


def _copy_beside(rng: Random, container: list[object] | dict[str, object], key: int | str) -> None:
    if isinstance(container, list):
        container.insert(rng.randint(0, len(container)), container[int(key)])
    else:
        container[rng.choice((*TEXTS, *container))] = container[str(key)]


def _varied(rng: Random, value: object) -> object:
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, int):
        return value + rng.choice((-1, 1, 256))
    if isinstance(value, str):
        encoded = value.encode("utf-8", "replace")
        token = _jws(rng, encoded) if value.count(".") == 2 else None
        changed = token or _bytes(rng, encoded, [b"x"])
        return changed.decode("utf-8", "replace")
    return [value]


def _jws(rng: Random, data: bytes) -> bytes | None:
    """Change one part of a token: the JSON inside it, or its bytes."""
    parts = data.split(b".")
    if len(parts) != 3:
        return None
    position = rng.randrange(3)
    inner = _json64(rng, parts[position])
    parts[position] = _bytes(rng, parts[position], [b"e30"]) if inner is None else inner
    return b".".join(parts)


def _json64(rng: Random, data: bytes) -> bytes | None:
    try:
        document = base64url.decode(data.decode("ascii"))
    except (AttestationError, UnicodeDecodeError):
        return None
    changed = _json(rng, document)
    return None if changed is None else base64url.encode(changed).encode()


def _lines(rng: Random, data: bytes) -> bytes:
    lines = data.split(b"\n")
    first, second = rng.randrange(len(lines)), rng.randrange(len(lines))
    operation = rng.randrange(4)
    if operation == 0:
        del lines[first]
    elif operation == 1:
        lines.insert(first, lines[second])
    elif operation == 2:
        lines[first], lines[second] = lines[second], lines[first]
    else:
        lines[first] = _bytes(rng, lines[first], [b"x"])
    return b"\n".join(lines)


SHAPES: dict[str, Callable[[Random, bytes], bytes | None]] = {
    "json": _json,
    "json64": _json64,
    "jws": _jws,
    "text": _lines,
}
