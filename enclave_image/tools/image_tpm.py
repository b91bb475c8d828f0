"""PCR values of a guest's TPM, asked of it as the guest itself would, and held against a log.

Sources: TPM 2.0 Library, Part 3, TPM2_PCR_Read, with the structures of Part 2 (all big-endian); TCG
PC Client Platform TPM Profile, Command Response Buffer interface (its registers are little-endian).
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from image_files import ImageError

from attestation.measure.compare import read_tpm_log
from attestation.tdx.events import DIGEST_BYTES, extend

_NO_SESSIONS = 0x8001
_PCR_READ = 0x0000017E
_SHA384 = 0x000C
_SELECT_BYTES = 3  # 24 PCRs
_HEADER = struct.Struct(">HII")
_SELECTION = struct.Struct(">IHB3s")
_COUNT = struct.Struct(">I")
_SIZE = struct.Struct(">H")

_BASE = 0xFED40000  # locality 0
_LOC_STATE, _LOC_CONTROL = _BASE, _BASE + 0x08
_REQUEST, _STATUS, _START = _BASE + 0x40, _BASE + 0x44, _BASE + 0x4C
_BUFFER = _BASE + 0x80
_BUFFER_BYTES = 0xF80
_ASSIGNED, _REQUEST_ACCESS, _RELINQUISH = 2, 1, 2
_READY, _GO_IDLE, _IDLE, _INVOKE = 1, 2, 2, 1
_ANSWER_SECONDS = 30.0


class Memory(Protocol):
    """A machine's physical memory, device registers among it."""

    def read(self, address: int, size: int) -> bytes: ...
    def write(self, address: int, data: bytes) -> None: ...


class Probe:
    """Physical memory of a QEMU that was started with `-qtest unix:…`, as its devices see it."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(_ANSWER_SECONDS)
        self._socket.connect(str(path))
        self._lines = self._socket.makefile("rb")

    def close(self) -> None:
        self._lines.close()
        self._socket.close()

    def read(self, address: int, size: int) -> bytes:
        """A register (4 bytes) in one access, or a piece of a buffer."""
        if size == 4:
            return int(self._ask(f"readl {address:#x}"), 16).to_bytes(4, "little")
        return bytes.fromhex(self._ask(f"read {address:#x} {size:#x}").removeprefix("0x"))

    def write(self, address: int, data: bytes) -> None:
        """Likewise."""
        if len(data) == 4:
            self._ask(f"writel {address:#x} {int.from_bytes(data, 'little'):#x}")
        else:
            self._ask(f"write {address:#x} {len(data):#x} 0x{data.hex()}")

    def _ask(self, command: str) -> str:
        verb = command.partition(" ")[0]
        try:
            self._socket.sendall(command.encode() + b"\n")
            answer = self._lines.readline().decode(errors="replace").split()
        except OSError as error:
            raise ImageError(f"QEMU does not answer {verb}: {error}") from error
        if answer[:1] != ["OK"]:
            raise ImageError(f"QEMU refuses {verb}: {' '.join(answer)}")
        return answer[-1]


def pcr_read(pcrs: Iterable[int]) -> bytes:
    """The command TPM2_PCR_Read for these PCRs (0 to 23) of the SHA-384 bank."""
    selected = sum(1 << pcr for pcr in set(pcrs)).to_bytes(_SELECT_BYTES, "little")
    body = _SELECTION.pack(1, _SHA384, _SELECT_BYTES, selected)
    return _HEADER.pack(_NO_SESSIONS, _HEADER.size + len(body), _PCR_READ) + body


def parse_pcr_read(response: bytes) -> tuple[int, dict[int, bytes]]:
    """The counter of changes and the values, 48 bytes each, in the response; or `ImageError`.

    A TPM returns at most 8 values, those of the lowest PCRs asked for.
    """
    try:
        tag, size, code = _HEADER.unpack_from(response)
        if code:
            raise ImageError(f"the TPM refuses TPM2_PCR_Read: response code {code:#x}")
        at = _HEADER.size
        (counter,) = _COUNT.unpack_from(response, at)
        at += _COUNT.size
        selection = _SELECTION.unpack_from(response, at)
        at += _SELECTION.size
        (count,) = _COUNT.unpack_from(response, at)
        at += _COUNT.size
        digests = []
        for _ in range(min(count, 8)):
            (length,) = _SIZE.unpack_from(response, at)
            at += _SIZE.size + length
            digests.append(response[at - length : at])
    except struct.error as error:
        raise ImageError(f"TPM2_PCR_Read: the response ends early: {response.hex()}") from error
    shape = (tag, size, selection[:3], at)
    expected = (_NO_SESSIONS, len(response), (1, _SHA384, _SELECT_BYTES), len(response))
    bits = int.from_bytes(selection[3], "little")
    pcrs = [pcr for pcr in range(8 * _SELECT_BYTES) if bits >> pcr & 1]
    if shape != expected or len(pcrs) != count or {len(one) for one in digests} - {DIGEST_BYTES}:
        raise ImageError(
            f"TPM2_PCR_Read: expected one SHA-384 value for each PCR, seen {response.hex()}"
        )
    return counter, dict(zip(pcrs, digests, strict=True))


def read_pcrs(transact: Callable[[bytes], bytes], pcrs: Iterable[int]) -> dict[int, bytes]:
    """The values of these PCRs, all of one moment; `transact` has the TPM answer a command."""
    found: dict[int, bytes] = {}
    counters = set()
    while left := set(pcrs) - found.keys():
        counter, values = parse_pcr_read(transact(pcr_read(left)))
        if not values or not values.keys() <= left:
            raise ImageError(f"the TPM's SHA-384 bank: expected {sorted(left)}, seen {[*values]}")
        found |= values
        counters.add(counter)
    if len(counters) > 1:
        raise ImageError("the TPM's registers changed while they were read; is the machine halted?")
    return found


def ask_tpm(memory: Memory, command: bytes) -> bytes:
    """The TPM's response to `command`, through registers that are left as they were.

    The guest has to be halted, and not within a command of its own.
    """
    if _register(memory, _START) & _INVOKE:
        raise ImageError(
            "the guest waits for its TPM at this moment; take the log earlier or later"
        )
    with _locality(memory), _ready(memory):
        memory.write(_BUFFER, command)
        _set(memory, _START, _INVOKE)
        _await(lambda: not _register(memory, _START) & _INVOKE, "an answer")
        (size,) = struct.unpack_from(">I", memory.read(_BUFFER, _HEADER.size), 2)
        if not _HEADER.size <= size <= _BUFFER_BYTES:
            raise ImageError(f"the TPM answers with a size of {size} bytes")
        return memory.read(_BUFFER, size)


@contextmanager
def _locality(memory: Memory) -> Iterator[None]:
    held = _register(memory, _LOC_STATE) & _ASSIGNED
    if not held:
        _set(memory, _LOC_CONTROL, _REQUEST_ACCESS)
        _await(lambda: bool(_register(memory, _LOC_STATE) & _ASSIGNED), "locality 0")
    yield
    if not held:
        _set(memory, _LOC_CONTROL, _RELINQUISH)


@contextmanager
def _ready(memory: Memory) -> Iterator[None]:
    idle = _register(memory, _STATUS) & _IDLE
    if idle:
        _set(memory, _REQUEST, _READY)
        _await(lambda: not _register(memory, _STATUS) & _IDLE, "readiness")
    yield
    if idle:
        _set(memory, _REQUEST, _GO_IDLE)


def _register(memory: Memory, address: int) -> int:
    return int.from_bytes(memory.read(address, 4), "little")


def _set(memory: Memory, address: int, value: int) -> None:
    memory.write(address, value.to_bytes(4, "little"))


def _await(seen: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + _ANSWER_SECONDS
    while not seen():
        if time.monotonic() > end:
            raise ImageError(f"expected {what} of the TPM within {_ANSWER_SECONDS:.0f} s")
        time.sleep(0.01)


def require_replayed(log: bytes, values: Mapping[int, bytes]) -> None:
    """The log leads from zero to each of these PCR values; `ImageError` names the others."""
    events = read_tpm_log(log)
    wrong = []
    for pcr, value in sorted(values.items()):
        replayed = bytes(DIGEST_BYTES)
        for event in events.get(f"pcr{pcr}", ()):
            replayed = extend(replayed, event.digest)
        if replayed != value:
            wrong.append(f"pcr{pcr}: the log leads to {replayed.hex()}, the TPM has {value.hex()}")
    if wrong:
        raise ImageError("the event log is not what the TPM was extended by: " + "; ".join(wrong))
