"""Quotes through the kernel's report entries, on a model of the kernel that fails as it does."""

from __future__ import annotations

import errno
import os
import threading
from collections import deque
from pathlib import Path

import pytest

from attestation.errors import UnavailableError, UsageError
from attestation.tdx.quote import MAX_QUOTE_BYTES, canonical_quote, parse_quote
from gateway.attester.base import QuoteProvider
from gateway.attester.configfs_tsm import MAX_OUTBLOB, open_configfs_tsm
from gateway.attester.guest import GuestProvider
from gateway.attester.simulated.facts import Writing
from gateway.attester.simulated.platform import SimulatedPlatform
from tests.refusals import refusal
from tests.support.tdx_kernel import CONFIGFS, REPORTS, TSM, Entry, TdxKernel

DATA = bytes(range(64))
PLATFORM = SimulatedPlatform(now=1_763_668_800, seed=b"configfs")


@pytest.fixture
def kernel() -> TdxKernel:
    return TdxKernel(PLATFORM)


def provider(kernel: TdxKernel, address: str = "", **options: str) -> GuestProvider:
    return open_configfs_tsm(address, options, lambda: 0.0, kernel=kernel)


def quote_fails(kernel: TdxKernel, **options: str) -> UnavailableError:
    """Ask an opened provider for a quote, which must fail and leave nothing behind."""
    one = provider(kernel, **options)
    with pytest.raises(UnavailableError) as caught:
        one.quote(DATA)
    assert not kernel.entries
    assert not kernel.open_files
    return caught.value


def open_fails(kernel: TdxKernel, address: str = "") -> UnavailableError:
    with pytest.raises(UnavailableError) as caught:
        provider(kernel, address)
    assert not kernel.open_files
    return caught.value


def test_quote_is_over_the_report_data_and_leaves_no_entry(kernel: TdxKernel) -> None:
    one: QuoteProvider = provider(kernel)
    assert parse_quote(one.quote(DATA)).body.report_data == DATA
    assert not kernel.entries
    assert not kernel.open_files
    assert (one.name, one.anchor(), one.collateral(), one.event_log()) == (
        "configfs-tsm", None, None, None,
    )  # fmt: skip


def test_every_quote_has_an_entry_of_its_own_that_nobody_can_guess(kernel: TdxKernel) -> None:
    names: list[str] = []
    kernel.faults.during_outblob = lambda _entry: names.extend(kernel.entries)
    one = provider(kernel)
    for _ in range(3):
        one.quote(DATA)
    assert len(set(names)) == len(names) == 3
    assert all(len(name.rpartition("-")[2]) == 32 for name in names)


@pytest.mark.parametrize("size", [0, 32, 63, 65])
def test_report_data_of_another_size_is_a_usage_error(kernel: TdxKernel, size: int) -> None:
    one = provider(kernel)
    assert refusal(one.quote, bytes(size), error=UsageError) == "length"
    assert kernel.reports_made == 0


@pytest.mark.parametrize("chunk", [1, 7, 63, 4096])
def test_short_reads_and_writes_are_continued(kernel: TdxKernel, chunk: int) -> None:
    kernel.faults.chunk = chunk
    assert parse_quote(provider(kernel).quote(DATA)).body.report_data == DATA


@pytest.mark.parametrize(
    "call", ["read outblob", "write inblob", "read generation", "read provider"]
)
def test_interrupted_calls_are_made_again(kernel: TdxKernel, call: str) -> None:
    one = provider(kernel)
    kernel.faults.calls[call] = deque([errno.EINTR, errno.EINTR])
    assert parse_quote(one.quote(DATA)).body.report_data == DATA


def test_driver_that_says_interrupted_for_ever_is_given_up(kernel: TdxKernel) -> None:
    kernel.faults.making = deque([errno.EINTR] * 100_000)
    error = quote_fails(kernel, patience="5")
    assert error.code == "tsm_busy"
    assert "EINTR" in error.observed


def test_busy_driver_is_asked_again_with_growing_pauses(kernel: TdxKernel) -> None:
    kernel.faults.making = deque([errno.EBUSY] * 7)
    assert parse_quote(provider(kernel).quote(DATA)).body.report_data == DATA
    assert kernel.slept == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert kernel.reports_made == 8


def test_signal_while_the_driver_waits_leaves_it_busy_and_both_are_sat_out(
    kernel: TdxKernel,
) -> None:
    kernel.faults.making = deque([errno.EINTR, errno.EBUSY, errno.ETIMEDOUT, errno.EBUSY])
    assert parse_quote(provider(kernel).quote(DATA)).body.report_data == DATA


def test_driver_that_stays_busy_is_given_up_within_the_patience(kernel: TdxKernel) -> None:
    kernel.faults.making = deque([errno.EBUSY] * 1000)
    error = quote_fails(kernel, patience="5")
    assert error.code == "tsm_busy"
    assert "EBUSY" in error.observed
    assert sum(kernel.slept) <= 5


@pytest.mark.parametrize("number", [errno.EIO, errno.EFBIG, errno.ENXIO, errno.ENOMEM])
def test_other_failures_of_the_driver_are_told_at_once(kernel: TdxKernel, number: int) -> None:
    kernel.faults.making = deque([number])
    error = quote_fails(kernel)
    assert error.code == "tsm_failed"
    assert errno.errorcode[number] in error.observed
    assert error.hint
    assert not kernel.slept


def write_between(kernel: TdxKernel, entry: Entry) -> None:
    kernel.store(entry, bytes(64))


def test_another_writer_before_the_quote_is_read_is_noticed(kernel: TdxKernel) -> None:
    kernel.faults.after_inblob = lambda entry: write_between(kernel, entry)
    error = quote_fails(kernel)
    assert error.code == "tsm_conflict"
    assert (error.expected, error.observed) == ("generation 1", "generation 2")


def test_another_writer_while_the_quote_is_made_is_noticed(kernel: TdxKernel) -> None:
    kernel.faults.during_outblob = lambda entry: write_between(kernel, entry)
    assert quote_fails(kernel).code == "tsm_conflict"


def test_report_data_the_kernel_did_not_take_on_closing_is_noticed(kernel: TdxKernel) -> None:
    kernel.faults.calls["store inblob"] = deque([errno.ENOMEM])
    error = quote_fails(kernel)
    assert error.code == "tsm_conflict"
    assert "did not take" in error.hint
    assert kernel.reports_made == 0


def test_entry_removed_by_somebody_else_is_a_failure(kernel: TdxKernel) -> None:
    kernel.faults.after_inblob = lambda _entry: kernel.entries.clear()
    error = quote_fails(kernel)
    assert error.code == "tsm_failed"
    assert "removed" in error.hint


@pytest.mark.parametrize("size", [5006, 8000, MAX_QUOTE_BYTES, 128 * 1024, 700_000])
def test_zero_padding_of_any_size_is_tolerated(kernel: TdxKernel, size: int) -> None:
    plain = PLATFORM.quote(DATA)
    kernel.write_quotes = lambda quote: quote.ljust(size, b"\x00")
    assert canonical_quote(provider(kernel).quote(DATA)) == canonical_quote(plain)


def test_longer_quote_of_version_5_comes_whole() -> None:
    platform = PLATFORM.but(writing=Writing(version=5, auth_data=bytes(6000)))
    quote = provider(TdxKernel(platform)).quote(DATA)
    assert len(quote) > 8192
    assert parse_quote(quote).body.report_data == DATA


@pytest.mark.parametrize(
    ("tail", "code"),
    [
        (b"\x00" * MAX_QUOTE_BYTES + b"\x01", "overlong"),
        (b"\x01" * 200_000, "overlong"),
        (b"\x00" * MAX_OUTBLOB, "overlong"),
    ],
)
def test_over_long_output_is_refused(kernel: TdxKernel, tail: bytes, code: str) -> None:
    kernel.write_quotes = lambda quote: quote + tail
    assert quote_fails(kernel).code == code


@pytest.mark.parametrize("output", [b"", b"\x00" * 8000])
def test_empty_output_is_refused(kernel: TdxKernel, output: bytes) -> None:
    kernel.write_quotes = lambda _quote: output
    assert quote_fails(kernel).code == "empty"


def test_generation_that_is_no_number_is_refused(kernel: TdxKernel) -> None:
    one = provider(kernel)
    kernel.faults.after_inblob = lambda entry: setattr(entry, "written", "many")
    assert refusal(one.quote, DATA, error=UnavailableError) == "tsm_generation"


def test_permission_lost_is_told_with_what_to_do(kernel: TdxKernel) -> None:
    kernel.faults.calls["open inblob"] = deque([errno.EACCES])
    error = quote_fails(kernel)
    assert error.code == "tsm_permission"
    assert "CAP_DAC_OVERRIDE" in error.hint


def test_one_quote_at_a_time(kernel: TdxKernel) -> None:
    one, most = provider(kernel), 0

    def count(_entry: Entry) -> None:
        nonlocal most
        most = max(most, len(kernel.entries))

    kernel.faults.during_outblob = count
    threads = [threading.Thread(target=one.quote, args=(DATA,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (kernel.reports_made, most) == (8, 1)


def test_stale_entries_of_ours_are_swept_and_nobody_elses(kernel: TdxKernel) -> None:
    kernel.processes = {4711}
    gone, lives = f"attested-4710-{'a' * 32}", f"attested-4711-{'b' * 32}"
    before_us = f"attested-{os.getpid()}-{'c' * 32}"
    foreign = ["com.intel.dcap", "attested-x", "attested-4710-zz", f"xattested-4710-{'a' * 32}"]
    kernel.entries = {name: Entry() for name in [gone, lives, before_us, *foreign]}
    provider(kernel)
    assert sorted(kernel.entries) == sorted([lives, *foreign])


def test_entry_that_cannot_be_removed_does_not_spoil_its_quote(kernel: TdxKernel) -> None:
    one = provider(kernel)
    kernel.faults.calls["remove_folder"] = deque([errno.EBUSY])
    assert parse_quote(one.quote(DATA)).body.report_data == DATA
    assert len(kernel.entries) == 1
    provider(kernel)
    assert not kernel.entries


# what is missing


def test_kernel_without_configfs_is_told(kernel: TdxKernel) -> None:
    kernel.paths, kernel.mounted = set(), set()
    error = open_fails(kernel)
    assert (error.code, error.message) == ("tsm_missing", "this kernel has no configfs")
    assert "modprobe configfs" in error.hint


def test_configfs_that_is_not_mounted_is_told(kernel: TdxKernel) -> None:
    kernel.paths, kernel.mounted = {CONFIGFS}, set()
    error = open_fails(kernel)
    assert (error.code, error.message) == ("tsm_missing", "configfs is not mounted")
    assert error.hint == "mount -t configfs none /sys/kernel/config"


@pytest.mark.parametrize(
    ("version", "message"),
    [("6.6.12-generic", "too old"), ("6.7.0", "no driver"), ("6.18-x", "no driver"), ("7", "old")],
)
@pytest.mark.parametrize("paths", [{CONFIGFS}, {CONFIGFS, TSM}])
def test_missing_report_folder_is_told_by_the_age_of_the_kernel(
    kernel: TdxKernel, version: str, message: str, paths: set[Path]
) -> None:
    kernel.paths, kernel.version = set(paths), version
    error = open_fails(kernel)
    assert error.code == "tsm_missing"
    assert message in error.message
    assert version in error.observed
    assert error.observed.startswith(f"no {TSM if TSM not in paths else REPORTS} ")


def test_interface_without_a_driver_is_told(kernel: TdxKernel) -> None:
    kernel.driver = False
    error = open_fails(kernel)
    assert error.code == "tsm_driver"
    assert "modprobe tdx_guest" in error.hint


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_missing_permission_is_told(kernel: TdxKernel, number: int) -> None:
    kernel.faults.calls["make_folder"] = deque([number])
    error = open_fails(kernel)
    assert error.code == "tsm_permission"
    assert errno.errorcode[number] in error.observed


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.ENOMEM])
def test_kernel_that_takes_no_entry_is_told(kernel: TdxKernel, number: int) -> None:
    kernel.faults.calls["make_folder"] = deque([number])
    error = open_fails(kernel)
    assert error.code == "tsm_failed"
    assert errno.errorcode[number] in error.observed


@pytest.mark.parametrize(
    ("name", "words"),
    [("sev_guest", "AMD SEV-SNP"), ("arm_cca_guest", "Arm CCA"), ("other", "not a TDX"), ("", "")],
)
def test_report_interface_of_another_technology_is_told(
    kernel: TdxKernel, name: str, words: str
) -> None:
    kernel.provider = name
    error = open_fails(kernel)
    assert error.code == "tsm_provider"
    assert words in error.message
    assert not kernel.entries


def test_address_names_another_report_folder(kernel: TdxKernel) -> None:
    other = Path("/run/config/tsm/report")
    kernel.paths = {other}
    assert provider(kernel, str(other)).quote(DATA)
    assert open_fails(kernel).code == "tsm_missing"


@pytest.mark.parametrize(
    ("address", "options"),
    [
        ("report", {}),
        ("/x\x00", {}),
        ("", {"colour": "red"}),
        ("", {"patience": "0"}),
        ("", {"patience": "601"}),
        ("", {"patience": "-1"}),
        ("", {"patience": "1e2"}),
        ("", {"patience": "inf"}),
        ("", {"patience": "123456789"}),
        ("", {"rtmr3": "yes"}),
    ],
)
def test_option_out_of_bounds_is_a_usage_error(
    kernel: TdxKernel, address: str, options: dict[str, str]
) -> None:
    assert refusal(provider, kernel, address, error=UsageError, **options) == "provider"
