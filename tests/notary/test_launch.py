"""What an image measures before its gateway has keys, and what a start makes of it."""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.encoding import jcs
from attestation.encoding.digest import Digest
from attestation.errors import MalformedError, UnavailableError, UsageError
from attestation.statement.model_lock import LockedEngine
from attestation.tdx.eventlog import replay
from attestation.tdx.quote import parse_quote
from attestation.tdx.runtime import MeasuredEvent
from gateway.attester.base import open_provider
from gateway.attester.configfs_tsm import open_configfs_tsm
from gateway.attester.simulated.platform import SimulatedPlatform
from gateway.notary.boot import BootSecrets, start_boot
from gateway.notary.launch import (
    MAX_PACKAGE_FILES,
    PackRoots,
    config_of,
    engine_of,
    measure,
    measured_file,
    model_root_of,
    package_of,
    parse_pack_roots,
    ready_of,
)
from gateway.notary.parts import NotaryParts
from gateway.notary.runtime_log import RuntimeLog
from gateway.settings.model import Settings
from tests.notary.test_measured_model import LOCK, measured
from tests.support.notaries import notary_parts
from tests.support.tdx_kernel import TdxKernel

A, B = "a" * 64, "b" * 64
ONE = MeasuredEvent(name="gateway.package", sha256=Digest.of(b"package"))
TWO = MeasuredEvent(name="engine", sha256=Digest.of(b"engine"))
READY = MeasuredEvent(name="ready", sha256=Digest.of(b"ready"))


@pytest.fixture
def kernel() -> TdxKernel:
    return TdxKernel(SimulatedPlatform(now=int(time.time())))


def parts_in(folder: Path, kernel: TdxKernel, **plan: object) -> NotaryParts:
    """A notary of this guest, whose plan notes RTMR3's events where the image noted its own."""
    provider = open_configfs_tsm("", {}, time.time, kernel=kernel)
    parts = notary_parts(folder, provider=provider, collateral=kernel.platform.collateral())
    changed = replace(parts.plan, runtime_log=folder / "log.json", **plan)  # type: ignore[arg-type]
    return replace(parts, plan=changed)


def names(log: RuntimeLog) -> list[str]:
    return [event.name for event in log.events]


# -- measuring --------------------------------------------------------------------------------


def test_steps_extend_the_register_and_the_start_goes_on_behind_them(
    tmp_path: Path, kernel: TdxKernel
) -> None:
    parts = parts_in(tmp_path, kernel, model=measured(LOCK))
    path = tmp_path / "log.json"
    assert measure(parts.provider, path, [ONE, TWO])
    boot = start_boot(parts.provider, parts.plan, BootSecrets.draw())
    assert names(RuntimeLog.load(path)) == [
        *("gateway.package", "engine", "model.lock", "engine.args"),
        "receipt.key",
    ]
    record = boot.evidence.event_log
    assert record is not None
    assert replay(record.parse())[3] == kernel.rtmr3 == boot.quote.body.rtmrs[3]
    assert boot.evidence.statement.unextended == ()


def test_model_that_the_image_measured_is_not_measured_again(
    tmp_path: Path, kernel: TdxKernel
) -> None:
    parts = parts_in(tmp_path, kernel, model=measured(LOCK))
    path = tmp_path / "log.json"
    measure(parts.provider, path, [ONE, *parts.plan.measured])
    measure(parts.provider, path, [READY])
    boot = start_boot(parts.provider, parts.plan, BootSecrets.draw())
    assert names(RuntimeLog.load(path))[-3:] == ["engine.args", "ready", "receipt.key"]
    assert boot.model == parts.plan.model


def test_second_start_leaves_the_images_events_as_they_are(
    tmp_path: Path, kernel: TdxKernel
) -> None:
    parts = parts_in(tmp_path, kernel)
    measure(parts.provider, tmp_path / "log.json", [ONE, READY])
    for _ in range(2):
        start_boot(parts.provider, parts.plan, BootSecrets.draw())
    assert names(RuntimeLog.load(tmp_path / "log.json")) == [
        *("gateway.package", "ready", "receipt.key", "receipt.key")
    ]


def test_nothing_is_measured_after_keys(tmp_path: Path, kernel: TdxKernel) -> None:
    parts = parts_in(tmp_path, kernel)
    start_boot(parts.provider, parts.plan, BootSecrets.draw())
    before = kernel.rtmr3
    with pytest.raises(UnavailableError, match="bound keys"):
        measure(parts.provider, tmp_path / "log.json", [ONE])
    assert kernel.rtmr3 == before


@pytest.mark.parametrize("events", [[ONE, ONE], [TWO, ONE], [READY, ONE]], ids=str)
def test_events_that_repeat_or_are_out_of_order_extend_nothing(
    tmp_path: Path, kernel: TdxKernel, events: list[MeasuredEvent]
) -> None:
    parts = parts_in(tmp_path, kernel)
    with pytest.raises(UnavailableError, match="cannot be measured here"):
        measure(parts.provider, tmp_path / "log.json", events)
    assert kernel.rtmr3 == bytes(48)
    assert not (tmp_path / "log.json").exists()


def test_later_step_of_an_earlier_place_is_refused(tmp_path: Path, kernel: TdxKernel) -> None:
    parts = parts_in(tmp_path, kernel)
    measure(parts.provider, tmp_path / "log.json", [TWO])
    before = kernel.rtmr3
    with pytest.raises(UnavailableError):
        measure(parts.provider, tmp_path / "log.json", [ONE])
    assert kernel.rtmr3 == before


def test_register_that_something_else_extended_ends_the_launch(
    tmp_path: Path, kernel: TdxKernel
) -> None:
    parts = parts_in(tmp_path, kernel)
    measure(parts.provider, tmp_path / "log.json", [ONE])
    kernel.rtmr3 = b"\x01" * 48
    with pytest.raises(UnavailableError, match="accounts for"):
        measure(parts.provider, tmp_path / "log.json", [TWO])
    with pytest.raises(UnavailableError, match="accounts for"):
        start_boot(parts.provider, parts.plan, BootSecrets.draw())


def test_log_whose_keys_the_register_does_not_hold_is_refused(
    tmp_path: Path, kernel: TdxKernel
) -> None:
    parts = parts_in(tmp_path, kernel)
    start_boot(parts.provider, parts.plan, BootSecrets.draw())
    kernel.rtmr3 = bytes(48)
    with pytest.raises(UnavailableError, match="accounts for"):
        start_boot(parts.provider, parts.plan, BootSecrets.draw())


def test_simulated_domain_that_begins_anew_is_extended_by_what_was_noted(tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    for event in (ONE, TWO):
        assert measure(open_provider("simulated:"), path, [event])
    parts = notary_parts(tmp_path)
    parts = replace(parts, plan=replace(parts.plan, runtime_log=path))
    boot = start_boot(parts.provider, parts.plan, BootSecrets.draw())
    record = boot.evidence.event_log
    assert record is not None
    assert [event.name for event in record.parse().events] == [
        *("gateway.package", "engine", "receipt.key")
    ]


def test_changed_settings_start_no_boot(tmp_path: Path, kernel: TdxKernel) -> None:
    parts = parts_in(tmp_path, kernel)
    other = MeasuredEvent(name="gateway.config", sha256=Digest.of(b"other settings"))
    measure(parts.provider, tmp_path / "log.json", [other])
    before = kernel.rtmr3
    with pytest.raises(UnavailableError, match="settings are not those"):
        start_boot(parts.provider, parts.plan, BootSecrets.draw())
    assert kernel.rtmr3 == before


# -- kernels without registers ----------------------------------------------------------------


def test_kernel_without_registers_notes_the_events_and_the_statement_lists_them(
    tmp_path: Path, kernel: TdxKernel
) -> None:
    kernel.registers_at = None
    parts = parts_in(tmp_path, kernel, model=measured(LOCK))
    config = MeasuredEvent(name="gateway.config", sha256=parts.plan.config_digest)
    assert not measure(parts.provider, tmp_path / "log.json", [config, ONE, TWO])
    boot = start_boot(parts.provider, parts.plan, BootSecrets.draw())
    statement = boot.evidence.statement
    assert [event.name for event in statement.unextended] == [
        *("gateway.config", "gateway.package", "engine", "model.lock", "engine.args")
    ]
    assert boot.evidence.event_log is None
    assert boot.quote.body.rtmrs[3] == bytes(48)
    # No register stands behind it, so no receipt may name the model.
    assert statement.model_digest is None
    assert boot.model is None
    assert parse_quote(boot.evidence.quote).body.report_data == statement.report_data


def test_kernel_without_registers_and_without_an_image_states_nothing(
    tmp_path: Path, kernel: TdxKernel
) -> None:
    kernel.registers_at = None
    parts = parts_in(tmp_path, kernel, model=measured(LOCK))
    boot = start_boot(parts.provider, parts.plan, BootSecrets.draw())
    assert boot.evidence.statement.unextended == ()


def test_changed_settings_are_refused_without_registers_too(
    tmp_path: Path, kernel: TdxKernel
) -> None:
    kernel.registers_at = None
    parts = parts_in(tmp_path, kernel)
    other = MeasuredEvent(name="gateway.config", sha256=Digest.of(b"other settings"))
    measure(parts.provider, tmp_path / "log.json", [other])
    with pytest.raises(UnavailableError, match="settings are not those"):
        start_boot(parts.provider, parts.plan, BootSecrets.draw())


class Keeping:
    """A platform that keeps the log itself."""

    can_extend_rtmr3 = True

    def event_log(self) -> object:
        return object()


def test_platform_that_keeps_the_log_measures_by_itself(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="keeps the log"):
        measure(Keeping(), tmp_path / "log.json", [ONE])  # type: ignore[arg-type]


# -- what the events hash ---------------------------------------------------------------------


def test_event_of_the_settings_is_the_statements_config_digest(tmp_path: Path) -> None:
    settings = Settings.model_validate(
        {
            "upstream": {"uds": "/run/vllm/engine.sock"},
            "access": {"keys_file": tmp_path / "keys.json"},
            "notary": {"data_dir": tmp_path},
            "evidence": {"provider": "simulated:"},
        }
    )
    thing = config_of(settings)
    assert thing.event.sha256 == settings.config_digest
    assert thing.document is not None
    assert Digest.of(thing.document) == settings.config_digest


def installed(folder: Path) -> Path:
    root = folder / "installed"
    (root / "lib").mkdir(parents=True)
    (root / "lib" / "a.py").write_text("a = 1\n")
    (root / "lib" / "b.so").write_bytes(b"\x7fELF")
    (root / "python").symlink_to("/usr/bin/python3")
    return root


def test_package_is_every_file_below_its_folder(tmp_path: Path) -> None:
    thing = package_of(installed(tmp_path))
    assert thing.document is not None
    told = json.loads(thing.document)
    assert thing.document == jcs.canonicalize(told)
    assert [entry["path"] for entry in told["files"]] == ["lib/a.py", "lib/b.so", "python"]
    assert told["files"][0] == {
        "executable": False,
        "path": "lib/a.py",
        "sha256": Digest.of(b"a = 1\n").hex,
        "size": 6,
    }
    assert told["files"][2] == {"link": "/usr/bin/python3", "path": "python"}


def _change(root: Path) -> None:
    (root / "lib" / "a.py").write_text("a = 2\n")


def _add(root: Path) -> None:
    (root / "lib" / "sitecustomize.py").write_text("")


def _remove(root: Path) -> None:
    (root / "lib" / "b.so").unlink()


def _rename(root: Path) -> None:
    (root / "lib" / "a.py").rename(root / "lib" / "c.py")


def _point_elsewhere(root: Path) -> None:
    (root / "python").unlink()
    (root / "python").symlink_to("/opt/python3")


def _make_executable(root: Path) -> None:
    (root / "lib" / "a.py").chmod(0o755)


@pytest.mark.parametrize(
    "change", [_change, _add, _remove, _rename, _point_elsewhere, _make_executable]
)
def test_whatever_changes_in_the_installation_changes_its_event(
    tmp_path: Path, change: object
) -> None:
    root = installed(tmp_path)
    before = package_of(root).event.sha256
    assert package_of(root).event.sha256 == before
    change(root)  # type: ignore[operator]
    assert package_of(root).event.sha256 != before


def test_times_and_folders_without_files_are_not_the_installation(tmp_path: Path) -> None:
    root = installed(tmp_path)
    before = package_of(root)
    os.utime(root / "lib" / "a.py", (1, 1))
    (root / "empty").mkdir()
    assert package_of(root) == before


def test_installation_with_a_pipe_is_refused(tmp_path: Path) -> None:
    root = installed(tmp_path)
    os.mkfifo(root / "pipe")
    with pytest.raises(UnavailableError, match="neither file"):
        package_of(root)


def test_folder_that_is_none_or_is_empty_is_no_installation(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="cannot be measured"):
        package_of(tmp_path / "nowhere")
    with pytest.raises(UnavailableError, match="no file"):
        package_of(tmp_path)


def test_endless_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.notary.launch.MAX_PACKAGE_FILES", 1)
    assert MAX_PACKAGE_FILES > 10_000
    with pytest.raises(UnavailableError, match="too many"):
        package_of(installed(tmp_path))


def test_engine_is_its_command_its_environment_and_its_pack() -> None:
    engine = LockedEngine(name="vllm", version="0.32.0", arguments=("serve",))
    newer = replace(engine, version="0.33.0")
    base = engine_of(engine, ("/e", "serve"), {"A": "1"}, None)
    others = {
        engine_of(engine, ("/f", "serve"), {"A": "1"}, None).event.sha256,
        engine_of(engine, ("/e", "serve"), {"A": "2"}, None).event.sha256,
        engine_of(engine, ("/e", "serve"), {"A": "1"}, Digest.of(b"")).event.sha256,
        engine_of(newer, ("/e", "serve"), {"A": "1"}, None).event.sha256,
    }
    assert len(others | {base.event.sha256}) == 5


def test_other_things_are_measured_as_they_are() -> None:
    root = Digest.from_hex(A, what="root")
    assert model_root_of(root).event == MeasuredEvent(name="model.root", sha256=root)
    assert measured_file("gpu.policy", b"x").event.sha256 == Digest.of(b"x")
    assert ready_of(("/b", "/a")) == ready_of(("/a", "/b"))


# -- the command line -------------------------------------------------------------------------


def test_pack_roots_are_those_of_the_command_line() -> None:
    line = f"roothash={B} ro attested.engine={A} quiet attested.model={B}\n"
    assert parse_pack_roots(line) == PackRoots(
        engine=Digest.from_hex(A, what="a"), model=Digest.from_hex(B, what="b")
    )
    assert parse_pack_roots("ro quiet") == PackRoots()
    assert parse_pack_roots(f"attested.modelx={A} xattested.engine={A}") == PackRoots()


@pytest.mark.parametrize(
    "line",
    [
        f"attested.model={A} attested.model={A}",
        f"attested.model={A} attested.model={B}",
        "attested.model=",
        f"attested.engine={A[:-1]}",
        f"attested.engine={A}0",
        f"attested.engine={A.upper()}",
        f"attested.engine={A},{B}",
    ],
)
def test_command_line_that_names_no_one_root_hash_is_refused(line: str) -> None:
    with pytest.raises(MalformedError, match="one root hash"):
        parse_pack_roots(line)


@given(st.text(max_size=200))
def test_any_command_line_is_read_or_refused(line: str) -> None:
    with contextlib.suppress(MalformedError):
        assert isinstance(parse_pack_roots(line), PackRoots)
