"""PCR values of a TPM: command and answer, the registers between, and the event log."""

from __future__ import annotations

import hashlib
import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_files import ImageError
from image_tpm import Probe, ask_tpm, parse_pcr_read, pcr_read, read_pcrs, require_replayed

from tests.tdx.test_ccel import header, record

COVERED = (1, 2, 3, 4, 5, 6, 7, 9, 11)
BASE = 0xFED40000


def value(pcr: int) -> bytes:
    return bytes([pcr + 1]) * 48


def answer(
    pcrs: tuple[int, ...], counter: int = 20, digest: Callable[[int], bytes] = value
) -> bytes:
    bits = sum(1 << pcr for pcr in pcrs).to_bytes(3, "little")
    body = struct.pack(">IIHB3sI", counter, 1, 0x0C, 3, bits, len(pcrs))
    body += b"".join(struct.pack(">H", len(digest(one))) + digest(one) for one in pcrs)
    return struct.pack(">HII", 0x8001, 10 + len(body), 0) + body


def selected(command: bytes) -> tuple[int, ...]:
    bits = int.from_bytes(command[-3:], "little")
    return tuple(pcr for pcr in range(24) if bits >> pcr & 1)


def tpm(command: bytes) -> bytes:
    """Answers like a TPM: at most 8 values."""
    return answer(selected(command)[:8])


def test_command_is_that_of_the_specification() -> None:
    # Tag, size, command code; one selection: SHA-384, three bytes, PCR 0, 9 and 23.
    expected = "8001 00000014 0000017e 00000001 000c 03 010280"
    assert pcr_read([23, 0, 9]).hex(" ") == bytes.fromhex(expected).hex(" ")


def test_more_values_than_one_answer_holds_are_asked_for_again() -> None:
    assert read_pcrs(tpm, COVERED) == {pcr: value(pcr) for pcr in COVERED}


def test_registers_that_change_in_between_are_refused() -> None:
    counters = iter((20, 21))
    with pytest.raises(ImageError, match="changed while they were read"):
        read_pcrs(lambda command: answer(selected(command)[:8], next(counters)), COVERED)


def test_bank_that_the_tpm_does_not_have_is_refused() -> None:
    with pytest.raises(ImageError, match="SHA-384 bank"):
        read_pcrs(lambda _: answer(()), COVERED)


def test_values_of_other_registers_than_asked_for_are_refused() -> None:
    with pytest.raises(ImageError, match="SHA-384 bank"):
        read_pcrs(lambda _: answer((0, 1)), (1,))


WHOLE = answer((1, 4))


@pytest.mark.parametrize(
    "response",
    [
        b"",
        WHOLE[:9],
        WHOLE[:-1],
        WHOLE + b"\0",
        b"\x80\x02" + WHOLE[2:],
        WHOLE[:19] + b"\x0b" + WHOLE[20:],  # of the SHA-256 bank
        WHOLE[:21] + b"\x02" + WHOLE[22:],  # one register selected, two values
        answer((1,), digest=lambda _: bytes(32)),
        answer(tuple(range(9))),
    ],
)
def test_answer_of_another_shape_is_refused(response: bytes) -> None:
    with pytest.raises(ImageError, match="TPM2_PCR_Read"):
        parse_pcr_read(response)


def test_refusal_of_the_tpm_is_told_with_its_code() -> None:
    with pytest.raises(ImageError, match="response code 0x101"):
        parse_pcr_read(struct.pack(">HII", 0x8001, 10, 0x101))


@given(data=st.binary(max_size=80), cut=st.integers(0, len(WHOLE)))
def test_any_bytes_are_read_or_refused(data: bytes, cut: int) -> None:
    try:
        _, found = parse_pcr_read(WHOLE[:cut] + data)
    except ImageError:
        return
    assert {len(one) for one in found.values()} <= {48}


class Device:
    """Registers of the command response buffer, as far as a driver has to know them."""

    def __init__(self, *, assigned: bool, idle: bool) -> None:
        self.assigned, self.idle, self.invoked = assigned, idle, False
        self.buffer = bytes(0xF80)
        self.commands: list[bytes] = []

    def read(self, address: int, size: int) -> bytes:
        at = address - BASE
        if at >= 0x80:
            return self.buffer[at - 0x80 : at - 0x80 + size]
        known = {0x00: 2 * self.assigned, 0x44: 2 * self.idle, 0x4C: int(self.invoked)}
        return known[at].to_bytes(4, "little")

    def write(self, address: int, data: bytes) -> None:
        at, number = address - BASE, int.from_bytes(data, "little")
        if at == 0x08:
            self.assigned = number == 1
        elif at == 0x40:
            assert self.assigned
            self.idle = number == 2
        elif at == 0x4C:
            assert self.assigned
            assert not self.idle
            size = int.from_bytes(self.buffer[2:6], "big")
            self.commands.append(self.buffer[:size])
            self.fill(tpm(self.buffer[:size]))
        else:
            assert at == 0x80
            assert self.assigned
            assert not self.idle
            self.fill(data)

    def fill(self, data: bytes) -> None:
        self.buffer = data + self.buffer[len(data) :]


@pytest.mark.parametrize("assigned", [True, False])
@pytest.mark.parametrize("idle", [True, False])
def test_registers_of_the_device_are_left_as_they_were(assigned: bool, idle: bool) -> None:
    device = Device(assigned=assigned, idle=idle)
    assert read_pcrs(partial(ask_tpm, device), COVERED) == {pcr: value(pcr) for pcr in COVERED}
    assert device.commands == [pcr_read(COVERED), pcr_read([11])]
    assert (device.assigned, device.idle) == (assigned, idle)


def test_command_of_the_guests_own_is_not_disturbed() -> None:
    device = Device(assigned=True, idle=False)
    device.invoked = True
    with pytest.raises(ImageError, match="the guest waits for its TPM"):
        ask_tpm(device, pcr_read([1]))
    assert device.commands == []


def test_answer_of_an_impossible_size_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(assigned=True, idle=False)
    fill = device.fill
    monkeypatch.setattr(device, "fill", lambda data: fill(data[:2] + b"\0\1\0\0" + data[6:]))
    with pytest.raises(ImageError, match="a size of 65536 bytes"):
        ask_tpm(device, pcr_read([1]))


def test_log_that_leads_to_the_values_is_the_tpms_and_another_names_the_register() -> None:
    digest = hashlib.sha384(b"a").digest()
    log = header() + record(4, b"a", digests=((0x0C, digest),)) * 2
    value4 = hashlib.sha384(hashlib.sha384(bytes(48) + digest).digest() + digest).digest()
    require_replayed(log, {4: value4, 5: bytes(48)})
    with pytest.raises(ImageError, match=r"pcr5: the log leads to 0{96}, the TPM has (01){48}$"):
        require_replayed(log, {4: value4, 5: b"\1" * 48})
    with pytest.raises(ImageError, match=r"pcr4: (.|\n)*pcr7: "):
        require_replayed(log, {4: bytes(48), 7: b"\1" * 48})


@contextmanager
def qemu(path: Path, replies: list[bytes]) -> Iterator[list[bytes]]:
    """A listener that answers as QEMU's qtest does."""
    heard: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as lines:
                for reply in replies:
                    heard.append(lines.readline())
                    connection.sendall(reply)

        thread = threading.Thread(target=serve)
        thread.start()
        yield heard
        thread.join()


def test_registers_are_read_and_written_by_qtest_in_one_access(tmp_path: Path) -> None:
    replies = [b"OK 0x0000000012345678\n", b"OK 0x0102030405\n", b"OK\n", b"OK\n"]
    with qemu(tmp_path / "s", replies) as heard:
        probe = Probe(tmp_path / "s")
        assert probe.read(BASE, 4) == b"\x78\x56\x34\x12"
        assert probe.read(BASE + 0x80, 5) == b"\1\2\3\4\5"
        probe.write(BASE + 0x40, b"\1\0\0\0")
        probe.write(BASE + 0x80, b"\x80\1\0")
        probe.close()
    assert heard == [
        b"readl 0xfed40000\n",
        b"read 0xfed40080 0x5\n",
        b"writel 0xfed40040 0x1\n",
        b"write 0xfed40080 0x3 0x800100\n",
    ]


@pytest.mark.parametrize("reply", [b"FAIL Unknown command\n", b""])
def test_machine_that_does_not_answer_is_told(tmp_path: Path, reply: bytes) -> None:
    with qemu(tmp_path / "s", [reply]):
        probe = Probe(tmp_path / "s")
        with pytest.raises(ImageError, match="QEMU refuses readl"):
            probe.read(BASE, 4)
        probe.close()


@pytest.fixture
def swtpm(tmp_path: Path) -> Iterator[Callable[[bytes], bytes]]:
    """A software TPM, started up, with all of its default banks."""
    if shutil.which("swtpm") is None:
        pytest.skip("swtpm is not installed")
    here, there = socket.socketpair()
    here.settimeout(30)
    process = subprocess.Popen(
        [
            *("swtpm", "socket", "--tpm2", "--tpmstate", f"dir={tmp_path}"),
            *("--fd", str(there.fileno()), "--flags", "startup-clear"),
        ],
        pass_fds=[there.fileno()],
    )
    there.close()

    def transact(command: bytes) -> bytes:
        here.sendall(command)
        response = here.recv(10, socket.MSG_WAITALL)
        return response + here.recv(int.from_bytes(response[2:6], "big") - 10, socket.MSG_WAITALL)

    yield transact
    here.close()
    process.terminate()
    process.wait(30)


def pcr_extend(pcr: int, digest: bytes) -> bytes:
    """TPM2_PCR_Extend with an empty password, SHA-384 bank alone."""
    session = struct.pack(">IHBH", 0x40000009, 0, 0, 0)
    body = struct.pack(">I", pcr) + struct.pack(">I", len(session)) + session
    body += struct.pack(">IH", 1, 0x0C) + digest
    return struct.pack(">HII", 0x8002, 10 + len(body), 0x182) + body


def test_values_of_a_software_tpm_are_what_its_log_leads_to(
    swtpm: Callable[[bytes], bytes],
) -> None:
    before = read_pcrs(swtpm, COVERED)
    assert before == {pcr: bytes(48) for pcr in COVERED}
    digests = [hashlib.sha384(text).digest() for text in (b"one", b"two", b"three")]
    log = header()
    for pcr, digest in zip((4, 11, 4), digests, strict=True):
        assert swtpm(pcr_extend(pcr, digest))[6:10] == bytes(4)
        log += record(pcr, b"", digests=((0x0C, digest),))
    values = read_pcrs(swtpm, COVERED)
    require_replayed(log, values)
    assert swtpm(pcr_extend(9, digests[0]))[6:10] == bytes(4)
    with pytest.raises(ImageError, match="pcr9: the log leads to 0000"):
        require_replayed(log, read_pcrs(swtpm, COVERED))
