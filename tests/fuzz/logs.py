"""Targets about whole logs: tiles, bundles, a monitor's state, a log read from outside."""

from __future__ import annotations

from functools import cache

from attestation.log import (
    Held,
    MonitorState,
    Resources,
    audit_log,
    parse_state,
    read_checkpoint,
)
from attestation.merkle.tiles import (
    encode_entry_bundle,
    parse_entry_bundle,
    parse_hash_tile,
    parse_tile_path,
)
from tests.support.tiled_logs import TiledLog, gateway_entries

PATHS = [b"tile/0/000", b"tile/entries/x001/x234/067.p/255", b"tile/63/x018/x446/744.p/1"]
_SIZE = 300
_PICK = 2


@cache
def log() -> TiledLog:
    return TiledLog(entries=gateway_entries(_SIZE))


@cache
def state() -> bytes:
    signed = read_checkpoint(log().files["checkpoint"], log().vkey)
    return MonitorState().remember(log().vkey, signed, address="/log", accepted=True).encode()


def resources() -> list[bytes]:
    """Every file of a log, after two bytes that say which one it is."""
    return [
        number.to_bytes(_PICK, "big") + log().files[path]
        for number, path in enumerate(sorted(log().files))
    ]


def run_tile_path(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    assert parse_tile_path(text).path == text


def run_entry_bundle(data: bytes) -> None:
    width, bundle = int.from_bytes(data[:1], "big"), data[1:]
    entries = parse_entry_bundle(bundle, width=width)
    assert len(entries) == width
    assert not width or encode_entry_bundle(entries) == bundle


def run_hash_tile(data: bytes) -> None:
    assert b"".join(parse_hash_tile(data, width=len(data) // 32)) == data


def run_log_state(data: bytes) -> None:
    assert parse_state(data).encode() == data


def run_log_audit(data: bytes) -> None:
    """One file of a log is another one: only the file as it was may be accepted."""
    paths = sorted(log().files)
    path = paths[int.from_bytes(data[:_PICK], "big") % len(paths)]
    changed = _Changed(path, data[_PICK:])
    signed = read_checkpoint(Resources(changed).checkpoint(), log().vkey)
    audit_log(Resources(changed), signed, held=Held())
    assert data[_PICK:] == log().files[path] or path == "checkpoint"
    assert signed.checkpoint == log().checkpoint(_SIZE)


class _Changed:
    def __init__(self, path: str, data: bytes) -> None:
        self._path = path
        self._data = data

    def read(self, path: str, *, limit: int) -> bytes | None:
        return self._data[:limit] if path == self._path else log().read(path, limit=limit)
