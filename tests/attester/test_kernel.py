"""Calls on real files, and quotes through a real tree that answers like configfs."""

from __future__ import annotations

import errno
import os
import shutil
import sys
import threading
import time
from pathlib import Path

import pytest

from attestation.errors import UnavailableError
from attestation.tdx.quote import parse_quote
from gateway.attester.configfs_tsm import open_configfs_tsm
from gateway.attester.kernel import Kernel, named, opened, read_all, write_all
from gateway.attester.simulated.platform import SimulatedPlatform
from gateway.attester.tdreport import GET_REPORT0, take_report
from tests.refusals import refusal

DATA = bytes(range(64))
PLATFORM = SimulatedPlatform(now=1_763_668_800, seed=b"kernel")


class TreeKernel(Kernel):
    """Real calls on real files; what the kernel's driver does happens as folders and files do.

    A new folder gets its attributes, a closed inblob becomes a quote in outblob, a removed folder
    loses its attributes first.
    """

    def __init__(self) -> None:
        self.quoted = 0
        self._inblobs: dict[int, Path] = {}

    def make_folder(self, path: Path) -> None:
        super().make_folder(path)
        (path / "provider").write_bytes(b"tdx_guest\n")
        (path / "generation").write_bytes(b"0\n")
        (path / "inblob").touch(0o200)
        (path / "outblob").touch(0o600)

    def remove_folder(self, path: Path) -> None:
        if not path.exists():
            raise FileNotFoundError(errno.ENOENT, "gone")
        shutil.rmtree(path)

    def open(self, path: Path, flags: int) -> int:
        descriptor = super().open(path, flags)
        if path.name == "inblob":
            self._inblobs[descriptor] = path.parent
        return descriptor

    def close(self, descriptor: int) -> None:
        super().close(descriptor)
        entry = self._inblobs.pop(descriptor, None)
        if entry is not None:
            self.quoted += 1
            quote = PLATFORM.quote((entry / "inblob").read_bytes())
            (entry / "outblob").write_bytes(quote.ljust(200_000, b"\x00"))
            (entry / "generation").write_bytes(b"1\n")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "config" / "tsm" / "report"
    root.mkdir(parents=True)
    return root


def test_quotes_come_through_a_real_tree(tree: Path) -> None:
    kernel = TreeKernel()
    one = open_configfs_tsm(str(tree), {"rtmr3": "off"}, time.time, kernel=kernel)
    assert parse_quote(one.quote(DATA)).body.report_data == DATA
    assert kernel.quoted == 1
    assert list(tree.iterdir()) == []


def test_entries_of_processes_that_ended_are_swept_from_a_real_tree(tree: Path) -> None:
    child = os.posix_spawn(sys.executable, [sys.executable, "-c", ""], {})
    os.waitpid(child, 0)
    stale = tree / f"attested-{child}-{'a' * 32}"
    living = tree / f"attested-{os.getppid()}-{'b' * 32}"
    stale.mkdir()
    living.mkdir()
    open_configfs_tsm(str(tree), {"rtmr3": "off"}, time.time, kernel=TreeKernel())
    assert list(tree.iterdir()) == [living]


def test_plain_folder_is_no_report_interface_and_is_left_clean(tree: Path) -> None:
    code = refusal(
        open_configfs_tsm, str(tree), {}, time.time, kernel=Kernel(), error=UnavailableError
    )
    assert code == "tsm_failed"
    assert list(tree.iterdir()) == []


def test_file_is_read_to_its_end_and_no_further_than_allowed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 200_000)
    assert read_all(Kernel(), path, 200_000) == b"x" * 200_000
    assert refusal(read_all, Kernel(), path, 199_999, error=UnavailableError) == "overlong"


def test_slow_pipe_is_read_until_its_writer_closes(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)

    def feed() -> None:
        with path.open("wb", buffering=0) as pipe:
            for part in (b"one ", b"two ", b"three"):
                pipe.write(part)

    thread = threading.Thread(target=feed)
    thread.start()
    assert read_all(Kernel(), path, 100) == b"one two three"
    thread.join()


def test_descriptors_are_closed_whatever_happens(tmp_path: Path) -> None:
    path, kernel = tmp_path / "file", Kernel()
    path.touch()
    seen: list[int] = []

    def fail() -> None:
        with opened(kernel, path, os.O_RDONLY) as descriptor:
            seen.append(descriptor)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(seen[0])


def test_writing_never_makes_a_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_all(Kernel(), tmp_path / "none", b"x")
    assert list(tmp_path.iterdir()) == []


def test_kernel_answers_about_this_machine(tmp_path: Path) -> None:
    kernel = Kernel()
    path = tmp_path / "file"
    path.touch()
    assert kernel.exists(path)
    assert not kernel.exists(tmp_path / "none")
    assert kernel.may_write(path)
    assert not kernel.may_write(tmp_path / "none")
    assert kernel.is_mount(Path("/proc"))
    assert not kernel.is_mount(tmp_path / "none")
    assert kernel.is_process(os.getpid())
    assert kernel.is_process(1)
    assert kernel.release() == os.uname().release
    before = kernel.monotonic()
    kernel.sleep(0)
    assert kernel.monotonic() >= before


def test_another_device_in_the_place_of_the_tdx_device_is_told() -> None:
    kernel = Kernel()
    code = refusal(take_report, kernel, Path("/dev/null"), DATA, error=UnavailableError)
    assert code == "tdx_device"
    with opened(kernel, Path("/dev/null"), os.O_RDWR) as descriptor, pytest.raises(OSError) as seen:
        kernel.ioctl(descriptor, GET_REPORT0, bytearray(1088))
    assert seen.value.errno == errno.ENOTTY


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(errno.EACCES, "Permission denied"), "EACCES (Permission denied)"),
        (OSError("path too long"), "an I/O error"),
        (OSError(99999, "odd"), "an I/O error (odd)"),
    ],
)
def test_errors_are_named_as_people_look_them_up(error: OSError, text: str) -> None:
    assert named(error) == text
