"""TD reports from the device: the request's bytes, and every field at its place."""

from __future__ import annotations

import errno
from collections import deque
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import UnavailableError, UsageError
from attestation.tdx.quote import parse_quote
from gateway.attester.simulated.facts import Domain, Machine, Writing
from gateway.attester.simulated.platform import SimulatedPlatform
from gateway.attester.tdreport import GET_REPORT0, pack_request, take_report, unpack_answer
from tests.refusals import refusal
from tests.support.tdx_kernel import DEVICE, TdxKernel, td_report

DATA = bytes(range(64))
# Every field another value, so that none can stand in for its neighbour.
MACHINE = Machine(
    mr_seam=b"\x01" * 48,
    mr_signer_seam=b"\x02" * 48,
    seam_attributes=b"\x03" * 8,
    tee_tcb_svn=b"\x04" * 16,
    tee_tcb_svn2=b"\x05" * 16,
)
DOMAIN = Domain(
    mrtd=b"\x11" * 48,
    mr_config_id=b"\x12" * 48,
    mr_owner=b"\x13" * 48,
    mr_owner_config=b"\x14" * 48,
    rtmrs=(b"\x20" * 48, b"\x21" * 48, b"\x22" * 48, b"\x23" * 48),
    mr_service_td=b"\x15" * 48,
)
PLATFORM = SimulatedPlatform(
    now=1_763_668_800, seed=b"tdreport", machine=MACHINE, domain=DOMAIN, writing=Writing(version=5)
)
QUOTE = parse_quote(PLATFORM.quote(DATA)).body


def test_request_number_is_the_kernels() -> None:
    # linux/tdx-guest.h: TDX_CMD_GET_REPORT0 = _IOWR('T', 1, struct tdx_report_req)
    assert GET_REPORT0 == 0xC4405401


def test_request_is_report_data_and_room_for_the_report() -> None:
    assert pack_request(DATA) == DATA + bytes(1024)


@pytest.mark.parametrize("size", [0, 63, 65])
def test_report_data_of_another_size_is_a_usage_error(size: int) -> None:
    assert refusal(pack_request, bytes(size), error=UsageError) == "length"


def test_report_has_every_field_of_a_quote_over_it() -> None:
    report = unpack_answer(DATA + td_report(PLATFORM, DOMAIN, DATA))
    assert report.differences(QUOTE) == ()
    assert (report.report_data, report.rtmrs) == (DATA, DOMAIN.rtmrs)
    assert (report.mr_service_td, report.tee_tcb_svn2) == (b"\x15" * 48, b"\x05" * 16)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("report_data", bytes(64)),
        ("tee_tcb_svn", bytes(16)),
        ("mr_seam", bytes(48)),
        ("mr_signer_seam", bytes(48)),
        ("seam_attributes", bytes(8)),
        ("td_attributes", 0),
        ("xfam", 0),
        ("mrtd", bytes(48)),
        ("mr_config_id", bytes(48)),
        ("mr_owner", bytes(48)),
        ("mr_owner_config", bytes(48)),
        ("rtmrs", (*DOMAIN.rtmrs[:3], bytes(48))),
        ("tee_tcb_svn2", bytes(16)),
        ("mr_service_td", bytes(48)),
    ],
)
def test_quote_that_differs_in_one_field_is_told_apart(name: str, value: object) -> None:
    report = unpack_answer(DATA + td_report(PLATFORM, DOMAIN, DATA))
    body = replace(QUOTE, **{name: value})  # type: ignore[arg-type]
    assert report.differences(body) == (name,)


def test_fields_that_a_quote_of_version_4_lacks_are_not_compared() -> None:
    report = unpack_answer(DATA + td_report(PLATFORM, DOMAIN, DATA))
    older = PLATFORM.but(writing=Writing(version=4))
    assert report.differences(parse_quote(older.quote(DATA)).body) == ()


@given(st.binary(max_size=1200).filter(lambda data: len(data) != 1088))
def test_answer_of_another_size_is_refused(argument: bytes) -> None:
    assert refusal(unpack_answer, argument, error=UnavailableError) == "tdreport"


@given(st.binary(min_size=1023, max_size=1023))
def test_any_bytes_behind_the_report_type_are_a_report(rest: bytes) -> None:
    report = unpack_answer(DATA + b"\x81" + rest)
    assert report.raw[1:] == rest
    assert report.report_data == rest[127:191]


def test_report_of_another_technology_is_refused() -> None:
    raw = td_report(PLATFORM, DOMAIN, DATA)
    argument = DATA + b"\x00" + raw[1:]
    assert refusal(unpack_answer, argument, error=UnavailableError) == "tdreport"


def test_device_gives_a_report_over_the_report_data() -> None:
    kernel = TdxKernel(PLATFORM)
    kernel.faults.calls["ioctl"] = deque([errno.EINTR, errno.EINTR])
    assert take_report(kernel, DEVICE, DATA).differences(QUOTE) == ()
    assert not kernel.open_files


def test_device_that_reports_other_data_is_refused() -> None:
    kernel = TdxKernel(PLATFORM)
    kernel.write_report = lambda _report: td_report(PLATFORM, DOMAIN, bytes(64))
    assert refusal(take_report, kernel, DEVICE, DATA, error=UnavailableError) == "tdreport"


@pytest.mark.parametrize(
    ("call", "number", "code", "word"),
    [
        ("open tdx_guest", errno.EACCES, "tdx_permission", "udev"),
        ("open tdx_guest", errno.EPERM, "tdx_permission", "udev"),
        ("open tdx_guest", errno.ENXIO, "tdx_device", "modprobe"),
        ("ioctl", errno.ENOTTY, "tdx_device", "another device"),
        ("ioctl", errno.EIO, "tdx_device", "dmesg"),
    ],
)
def test_failure_of_the_device_says_what_to_do(
    call: str, number: int, code: str, word: str
) -> None:
    kernel = TdxKernel(PLATFORM)
    kernel.faults.calls[call] = deque([number])
    with pytest.raises(UnavailableError) as caught:
        take_report(kernel, DEVICE, DATA)
    assert caught.value.code == code
    assert errno.errorcode[number] in caught.value.observed
    assert word in caught.value.hint
    assert not kernel.open_files


def test_missing_device_says_what_to_do() -> None:
    with pytest.raises(UnavailableError) as caught:
        take_report(TdxKernel(PLATFORM), Path("/dev/none"), DATA)
    assert caught.value.code == "tdx_device"
    assert "modprobe tdx_guest" in caught.value.hint
