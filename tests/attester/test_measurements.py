"""Registers through the kernel's files: what they then hold decides what happened."""

from __future__ import annotations

import errno
import hashlib
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import UnavailableError, UsageError
from attestation.tdx.quote import parse_quote
from gateway.attester.configfs_tsm import open_configfs_tsm
from gateway.attester.guest import GuestProvider
from gateway.attester.measurements import FOLDERS, REGISTERS, MeasurementRegisters, find_registers
from gateway.attester.simulated.platform import SimulatedPlatform
from tests.refusals import refusal
from tests.support.tdx_kernel import TdxKernel

PLATFORM = SimulatedPlatform(now=1_763_668_800, seed=b"measurements")
DIGEST = hashlib.sha384(b"event").digest()
EXTENDED = hashlib.sha384(bytes(48) + DIGEST).digest()


@pytest.fixture
def kernel() -> TdxKernel:
    return TdxKernel(PLATFORM)


@pytest.fixture
def registers(kernel: TdxKernel) -> MeasurementRegisters:
    found = find_registers(kernel)
    assert found is not None
    return found


def provider(kernel: TdxKernel, **options: str) -> GuestProvider:
    return open_configfs_tsm("", options, lambda: 0.0, kernel=kernel)


def extend(one: GuestProvider, digest: bytes = DIGEST) -> None:
    one.extend_rtmr3(digest, name="test", content=b"event")


def test_extension_shows_in_the_register_and_in_the_next_quote(kernel: TdxKernel) -> None:
    one = provider(kernel)
    assert one.can_extend_rtmr3
    assert one.read_rtmr3() == bytes(48)
    extend(one)
    assert one.read_rtmr3() == EXTENDED
    assert parse_quote(one.quote(bytes(64))).body.rtmrs[3] == EXTENDED
    assert not kernel.open_files


def test_every_register_is_what_the_quote_says(
    kernel: TdxKernel, registers: MeasurementRegisters
) -> None:
    body = parse_quote(kernel.quote(bytes(64))).body
    shown = registers.read_all()
    assert tuple(shown) == REGISTERS
    assert [shown[f"rtmr{index}"] for index in range(4)] == list(body.rtmrs)
    assert (shown["mrtd"], shown["mrconfigid"]) == (body.mrtd, body.mr_config_id)
    assert (shown["mrowner"], shown["mrownerconfig"]) == (body.mr_owner, body.mr_owner_config)


@pytest.mark.parametrize("folder", FOLDERS)
def test_registers_are_found_at_both_of_the_kernels_names(
    kernel: TdxKernel, folder: object
) -> None:
    kernel.registers_at = folder  # type: ignore[assignment]
    found = find_registers(kernel)
    assert found is not None
    assert found.folder == folder


@pytest.mark.parametrize("size", [0, 47, 49])
def test_digest_of_another_size_never_reaches_the_kernel(kernel: TdxKernel, size: int) -> None:
    assert refusal(extend, provider(kernel), bytes(size), error=UsageError) == "length"
    assert kernel.rtmr3 == bytes(48)


def test_interrupted_extension_is_made_again_and_counts_once(kernel: TdxKernel) -> None:
    one = provider(kernel)
    kernel.faults.calls["write rtmr3:sha384"] = deque([errno.EINTR, errno.EINTR])
    extend(one)
    assert kernel.rtmr3 == EXTENDED


@pytest.mark.parametrize("number", [errno.EINTR, errno.EIO])
def test_extension_that_failed_only_in_its_answer_is_not_made_twice(
    kernel: TdxKernel, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    one, write = provider(kernel), kernel.write

    def write_and_fail(descriptor: int, data: bytes) -> int:
        write(descriptor, data)
        raise OSError(number, "after the fact")

    monkeypatch.setattr(kernel, "write", write_and_fail)
    extend(one)
    assert kernel.rtmr3 == EXTENDED


def test_extension_that_is_always_interrupted_is_given_up(kernel: TdxKernel) -> None:
    one = provider(kernel)
    kernel.faults.calls["write rtmr3:sha384"] = deque([errno.EINTR] * 9)
    assert refusal(extend, one, error=UnavailableError) == "rtmr_extend"
    assert kernel.rtmr3 == bytes(48)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EIO, errno.EACCES])
def test_refused_extension_is_told_and_not_repeated(kernel: TdxKernel, number: int) -> None:
    one = provider(kernel)
    kernel.faults.calls["write rtmr3:sha384"] = deque([number])
    with pytest.raises(UnavailableError) as caught:
        extend(one)
    assert caught.value.code == "rtmr_extend"
    assert errno.errorcode[number] in caught.value.observed
    assert kernel.rtmr3 == bytes(48)


def test_write_that_took_less_than_a_digest_is_not_continued(
    kernel: TdxKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, written = provider(kernel), list[bytes]()

    def take_half(_descriptor: int, data: bytes) -> int:
        written.append(data)
        return 24

    monkeypatch.setattr(kernel, "write", take_half)
    with pytest.raises(UnavailableError) as caught:
        extend(one)
    assert (caught.value.code, caught.value.observed) == ("rtmr_extend", "a write of 24 bytes")
    assert written == [DIGEST]


@pytest.mark.parametrize("before", [True, False])
def test_extension_by_somebody_else_at_the_same_time_is_noticed(
    kernel: TdxKernel, monkeypatch: pytest.MonkeyPatch, before: bool
) -> None:
    one, write = provider(kernel), kernel.write
    other = hashlib.sha384(b"somebody else").digest()

    def write_both(descriptor: int, data: bytes) -> int:
        for digest in (other, data) if before else (data, other):
            write(descriptor, digest)
        return 48

    monkeypatch.setattr(kernel, "write", write_both)
    assert refusal(extend, one, error=UnavailableError) == "rtmr_conflict"


@pytest.mark.parametrize("value", [b"", bytes(47), bytes(49), bytes(4096)])
def test_register_of_another_size_is_refused(
    kernel: TdxKernel, monkeypatch: pytest.MonkeyPatch, value: bytes
) -> None:
    one = provider(kernel)
    monkeypatch.setattr(kernel, "_content", lambda _path: value)
    code = refusal(one.read_rtmr3, error=UnavailableError)
    assert code == ("register" if len(value) < 49 else "overlong")


def test_register_that_cannot_be_read_is_told(kernel: TdxKernel) -> None:
    one = provider(kernel)
    kernel.faults.calls["open rtmr3:sha384"] = deque([errno.EACCES])
    with pytest.raises(UnavailableError) as caught:
        one.read_rtmr3()
    assert caught.value.code == "register"
    assert "EACCES" in caught.value.observed


def no_registers(kernel: TdxKernel) -> None:
    kernel.registers_at = None
    kernel.version = "6.11.0-29-generic"


def test_kernel_before_6_16_gives_quotes_and_says_why_it_cannot_extend(kernel: TdxKernel) -> None:
    no_registers(kernel)
    one = provider(kernel)
    assert not one.can_extend_rtmr3
    assert one.read_rtmr3() is None
    assert "6.16" in one.rtmr3_reason
    assert "6.11.0-29-generic" in one.rtmr3_reason
    with pytest.raises(UnavailableError) as caught:
        extend(one)
    assert (caught.value.code, caught.value.observed) == ("rtmr3", one.rtmr3_reason)
    assert parse_quote(one.quote(bytes(64))).body.rtmrs[3] == bytes(48)


def test_registers_can_be_demanded(kernel: TdxKernel) -> None:
    assert provider(kernel, rtmr3="on").can_extend_rtmr3
    no_registers(kernel)
    assert refusal(provider, kernel, error=UnavailableError, rtmr3="on") == "rtmr3"


def test_registers_can_be_left_alone(kernel: TdxKernel) -> None:
    one = provider(kernel, rtmr3="off")
    assert not one.can_extend_rtmr3
    assert "rtmr3=off" in one.rtmr3_reason
    assert refusal(extend, one, error=UnavailableError) == "rtmr3"
    assert kernel.rtmr3 == bytes(48)


@pytest.mark.parametrize("choice", ["auto", "on"])
def test_registers_that_may_not_be_written_are_not_passed_over_in_silence(
    kernel: TdxKernel, choice: str
) -> None:
    kernel.writable = False
    with pytest.raises(UnavailableError) as caught:
        provider(kernel, rtmr3=choice)
    assert caught.value.code == "rtmr3_permission"
    assert "chown" in caught.value.hint
    assert provider(kernel, rtmr3="off").can_extend_rtmr3 is False


@given(st.lists(st.binary(min_size=48, max_size=48), max_size=8))
def test_register_replays_whatever_was_extended(digests: list[bytes]) -> None:
    kernel = TdxKernel(PLATFORM)
    one, value = provider(kernel), bytes(48)
    for digest in digests:
        extend(one, digest)
        value = hashlib.sha384(value + digest).digest()
    assert one.read_rtmr3() == value
