"""What the injections change, and what is demanded of the guest's registers afterwards."""

from __future__ import annotations

import base64
import struct
import uuid
from pathlib import Path

import image_cases
import image_changes
import image_insider
import pytest
from image_cases import Case, cases
from image_changes import Partition, add_boot_option, spoil_settings
from image_files import ImageError
from image_injections import describe, require_panic, require_registers
from image_insider import require_dormant, require_end

from attestation.measure.efivars import GLOBAL, parse_variable_store, variable_data
from attestation.measure.hostpart import LoggedEvent
from tests.measure.builders import variable_store

ESP = Partition(number=1, offset=1 << 20, size=300 << 20, uuid=uuid.UUID(int=7))
KERNEL_COMMAND_LINE = 2048


def with_option(store: bytes) -> bytes:
    return add_boot_option(store, esp=ESP, file="/EFI/BOOT/BOOTX64.EFI", arguments="init=/bin/sh")


def test_boot_option_starts_the_file_with_arguments_at_the_next_boot() -> None:
    found = parse_variable_store(with_option(variable_store({})))
    option = found[GLOBAL, "Boot0099"]
    assert found[GLOBAL, "BootNext"] == struct.pack("<H", 0x99)
    assert "\\EFI\\BOOT\\BOOTX64.EFI".encode("utf-16-le") in option
    assert option.endswith("init=/bin/sh\0".encode("utf-16-le"))
    assert ESP.uuid.bytes_le in option


def test_boot_option_leaves_the_variables_that_are_there() -> None:
    before = variable_store({(GLOBAL, "PK"): b"owner"})
    after = parse_variable_store(with_option(before))
    assert after[GLOBAL, "PK"] == b"owner"
    assert len(after) == 3


def test_boot_option_is_not_written_over_what_is_not_erased() -> None:
    store = bytearray(variable_store({}))
    store[200] = 0
    with pytest.raises(ImageError, match="room"):
        with_option(bytes(store))


def test_spoiled_settings_differ_in_one_bit_of_the_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Partition(number=2, offset=512, size=1024, uuid=uuid.UUID(int=1))
    monkeypatch.setattr(image_changes, "partitions", lambda _: {"root-x86-64": root})
    before = b"# Settings of the disk".ljust(612, b"x") + b"# Settings of the demo".ljust(924)
    disk = tmp_path / "disk"
    disk.write_bytes(before)
    spoil_settings(disk, tmp_path)
    after = disk.read_bytes()
    assert [i for i in range(len(before)) if before[i] != after[i]] == [612]


def test_root_without_the_settings_is_not_spoiled_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Partition(number=2, offset=0, size=64, uuid=uuid.UUID(int=1))
    monkeypatch.setattr(image_changes, "partitions", lambda _: {"root-x86-64": root})
    (tmp_path / "disk").write_bytes(bytes(64))
    with pytest.raises(ImageError, match="settings"):
        spoil_settings(tmp_path / "disk", tmp_path)


def test_registers_that_differ_are_exactly_those_expected() -> None:
    assert require_registers({"pcr9"}, {"pcr9": ["missing initrd"]}) == "PCR9: missing initrd"
    assert require_registers((), {}) == ""


@pytest.mark.parametrize(
    ("wanted", "found"),
    [({"pcr9"}, {}), ((), {"pcr9": ["extra"]}), ({"pcr9"}, {"pcr12": ["event 1"]})],
)
def test_other_registers_than_those_expected_are_a_failure(
    wanted: set[str], found: dict[str, list[str]]
) -> None:
    with pytest.raises(ImageError, match="expected other values of"):
        require_registers(wanted, found)


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-8"])
def test_text_of_an_event_is_told(codec: str) -> None:
    event = LoggedEvent(type=0xD, digest=bytes(48), data="init=/bin/sh\0".encode(codec))
    assert describe(event) == "EV_IPL 'init=/bin/sh'"


def test_event_that_is_no_text_is_told_by_its_type() -> None:
    data = variable_data(GLOBAL, "BootNext", b"\x99\x00\xff")
    assert describe(LoggedEvent(type=0xD, digest=bytes(48), data=data)) == "EV_IPL"


def test_program_of_the_host_is_a_program_and_fits_on_the_command_line() -> None:
    words = image_insider.opening()
    _, _, text = words.rpartition(":")
    lines = base64.b64decode(text).decode().splitlines()
    program = lines[0].split(" ", 6)[6].replace("\\n", "\n")
    compile(program, "x", "exec")
    recipe = Path(image_cases.__file__).parents[1] / "mkosi.conf"
    assert len(words) + len(recipe.read_text().partition("KernelCommandLine=")[2]) + 200 < (
        KERNEL_COMMAND_LINE
    )


@pytest.fixture
def every(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Case, ...]:
    monkeypatch.setattr(image_cases, "make_addon", lambda _: b"MZ")
    for suffix in ("efi", "raw"):
        (tmp_path / f"attested-gateway-cpu.{suffix}").write_bytes(b"")
    return cases("cpu", tmp_path, tmp_path)


def test_case_that_only_changes_measurements_says_which(every: tuple[Case, ...]) -> None:
    for case in every:
        assert bool(case.registers) == (case.end in {"measured", "opened"}), case.name


def test_every_case_injects_something_of_its_own(every: tuple[Case, ...]) -> None:
    assert all(case.extra or case.change or case.variables for case in every)
    assert len({case.name for case in every}) == len(every)


class Ended:
    """A machine that has ended, and what was on its console."""

    def __init__(self, console: bytes) -> None:
        self._console = console

    def console(self) -> bytes:
        return self._console

    def wait_ended(self, seconds: float) -> bool:
        return seconds > 0

    def execute(self, command: str, **arguments: object) -> None:
        assert command == "block_resize"
        assert arguments


class Running(Ended):
    """The same of one that goes on."""

    def wait_ended(self, seconds: float) -> bool:
        return seconds <= 0


CORRUPTED = b"device-mapper: verity: 254:2: data block 39687 is corrupted\n"
PANIC = b"Kernel panic - not syncing: dm-verity device corrupted\n"
NOTARY = (
    b"INJECTED-BY-THE-HOST kills the notary\n",
    b"systemd[1]: attested-notary.service: Failed with result 'signal'.\n",
    b"reboot: Power down\n",
)


def test_root_that_was_altered_ends_in_a_panic_of_dm_verity() -> None:
    assert "panicked" in require_panic(Ended(CORRUPTED + PANIC))
    for console in (CORRUPTED, PANIC, CORRUPTED + b"reboot: Power down\n"):
        with pytest.raises(ImageError, match="not for dm-verity's sake"):
            require_panic(Ended(console))


def test_killed_notary_ends_boot_unit_and_machine() -> None:
    assert "powered off" in require_end(Ended(b"".join(NOTARY)))


@pytest.mark.parametrize("left_out", range(len(NOTARY)))
def test_machine_that_ended_otherwise_is_a_failure(left_out: int) -> None:
    console = b"".join(line for at, line in enumerate(NOTARY) if at != left_out)
    with pytest.raises(ImageError, match="not for the notary's sake"):
        require_end(Ended(console))


def test_program_of_the_host_that_runs_uninvited_is_a_failure() -> None:
    with pytest.raises(ImageError, match="nothing of the host's"):
        require_dormant(Running(b"INJECTED-BY-THE-HOST runs\n"))


def test_gateway_that_ends_with_a_credential_of_the_hosts_is_a_failure() -> None:
    with pytest.raises(ImageError, match="expected the gateway to go on"):
        require_dormant(Ended(b""))
