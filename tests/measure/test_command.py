"""`attested measure`: files in, `measurements.json` out, and logs held against it."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import pytest

from attestation.cli.main import main
from attestation.measure.compare import events_by_register
from attestation.measure.document import encode_measurements, parse_measurements
from attestation.measure.hostpart import host_part
from attestation.measure.prediction import EV_PLATFORM_CONFIG_FLAGS, Prediction
from attestation.policy.parse import parse_policy
from attestation.tdx.logfile import parse_log_file
from tests.measure import builders, machines
from tests.tdx.test_ccel import header, record


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    files = {
        "OVMF.fd": builders.firmware(),
        "VARS.fd": builders.variable_store({}),
        "gw.efi": builders.uki(),
        "disk.raw": builders.gpt() + bytes(1 << 20),
        "vmlinuz": builders.bzimage(),
        "initrd": b"an initrd",
        "config": b"config",
        **{f"acpi.{part}": data for part, data in machines.ACPI.items()},
        **dict(machines.VARIABLES),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


def guest(folder: Path, *more: str) -> list[str]:
    firmware, image = folder / "OVMF.fd", folder / "gw.efi"
    return [
        "measure",
        "tdx",
        "--firmware",
        str(firmware),
        "--uki",
        str(image),
        "--disk",
        str(folder / "disk.raw"),
        "--memory",
        "4G",
        *more,
    ]


def host(folder: Path) -> list[str]:
    parts = [("--acpi", f"{part}={folder / f'acpi.{part}'}") for part in machines.ACPI]
    parts += [("--boot-variable", f"{name}={folder / name}") for name, _ in machines.VARIABLES]
    return [word for pair in parts for word in pair]


def events(folder: Path) -> list[str]:
    lock = hashlib.sha256(b"lock").hexdigest()
    return ["--event-file", f"gateway.config={folder / 'config'}", "--event", f"model.lock={lock}"]


def written(capfdbinary: pytest.CaptureFixture[bytes], *arguments: str) -> Prediction:
    assert main(arguments) == 0
    return parse_measurements(capfdbinary.readouterr().out)


def test_guest_is_predicted_from_files(
    folder: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    found = written(capfdbinary, *guest(folder, *host(folder), *events(folder)))
    expected = machines.tdx()
    assert found.registers[:3] == expected.registers[:3]
    assert {one.name for one in found.registers[3].events} == {"gateway.config", "model.lock"}
    assert found.mrtd == expected.mrtd
    assert found.settings == {
        "memory": str(4 << 30),
        "boot": "UKI",
        "command_line": "root=/dev/x quiet",
        "stub": "systemd-stub 257.13",
    }
    told = {one.name: one.sha256.hex for one in found.inputs}
    assert told["disk"] == hashlib.sha256((folder / "disk.raw").read_bytes()).hexdigest()
    assert told["event gateway.config"] == hashlib.sha256(b"config").hexdigest()


def test_summary_says_how_every_digest_was_come_by(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(folder / "m.json")
    assert main([*guest(folder), *events(folder), "-o", out]) == 0
    told = capsys.readouterr().out
    assert "no value: 5 digests unknown" in told
    assert "no value: what follows differs from boot to boot" in told
    assert "UKI digest (EV_EFI_BOOT_SERVICES_APPLICATION): Authenticode" in told
    assert "computed  model.lock: canonical JSON" in told
    assert main([*guest(folder), "-o", out]) == 2
    assert "--force" in capsys.readouterr().err
    assert main([*guest(folder, *host(folder)), "-o", out, "--force", "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["unknown"] == []
    assert value["registers"]["rtmr3"] is None
    assert value["sha256"] == hashlib.sha256(Path(out).read_bytes()).hexdigest()
    assert sorted(value["mrtd"]) == ["interleaved", "two-pass"]
    assert main([*guest(folder), "-o", out, "--force", "--json"]) == 0
    assert "rtmr0: ACPI rsdp" in json.loads(capsys.readouterr().out)["unknown"]


def test_log_of_an_earlier_boot_fills_what_only_the_host_knows(
    folder: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    (folder / "ccel").write_bytes(machines.log(machines.logged(machines.tdx())))
    found = written(capfdbinary, *guest(folder), "--observed", str(folder / "ccel"))
    assert found.registers[0].value == machines.tdx().registers[0].value
    assert {one.derivation.value for one in found.registers[0].events} == {"computed", "observed"}


def test_parts_of_the_acpi_tables_that_are_not_given_are_those_of_the_observed_log(
    folder: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    (folder / "ccel").write_bytes(machines.log(machines.logged(machines.tdx())))
    (folder / "acpi.rsdp").write_bytes(b"another rsdp")
    words = ["--observed", str(folder / "ccel"), "--acpi", f"rsdp={folder / 'acpi.rsdp'}"]
    acpi = [
        one
        for one in written(capfdbinary, *guest(folder, *words)).registers[0].events
        if one.name.startswith("ACPI")
    ]
    assert [(one.name, one.derivation.value) for one in acpi] == [
        ("ACPI loader", "observed"),
        ("ACPI rsdp", "given"),
        ("ACPI tables", "observed"),
    ]
    assert [one.digest for one in acpi] == [
        hashlib.sha384(data).digest()
        for data in (machines.ACPI["loader"], b"another rsdp", machines.ACPI["tables"])
    ]


def test_given_parts_of_the_acpi_tables_need_a_log_with_an_event_for_each(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    events = machines.logged(machines.tdx())
    first = next(at for at, one in enumerate(events) if one[1] == EV_PLATFORM_CONFIG_FLAGS)
    words = ["--observed", str(folder / "ccel"), "--acpi", f"rsdp={folder / 'acpi.rsdp'}"]
    for wrong in (events[:first] + events[first + 1 :], [events[first], *events]):
        (folder / "ccel").write_bytes(machines.log(wrong))
        assert main([*guest(folder, *words), "-o", str(folder / "m.json")]) == 2
        told = capsys.readouterr().err
        assert "which part cannot be said" in told
        assert "give each part with --acpi, or none" in told
        assert not (folder / "m.json").exists()
        assert main([*guest(folder, *words[:2]), "-o", str(folder / "m.json"), "--force"]) == 0
        (folder / "m.json").unlink()
        capsys.readouterr()


def test_log_that_says_nothing_of_the_host_is_not_taken_for_a_host_without_events(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    events = machines.logged(machines.tdx())
    (folder / "ccel").write_bytes(machines.log([one for one in events if one[0] != 1]))
    assert main([*guest(folder), "--observed", str(folder / "ccel")]) == 13
    assert "does not say what the host presented" in capsys.readouterr().err
    hidden = {"imr": 0, "event_type": 10, "digest": "", "event": "", "event_payload": ""}
    (folder / "dstack").write_text(json.dumps([hidden]))
    assert main([*guest(folder), "--observed", str(folder / "dstack")]) == 13
    assert "an event without a digest" in capsys.readouterr().err


def test_command_line_is_no_longer_than_the_document_may_have_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["measure", "tdx", "--firmware", str(folder / "OVMF.fd"), "--memory", "2G"]
    words += ["--kernel", str(folder / "vmlinuz"), "--cmdline", "x" * ((1 << 16) + 1)]
    assert main(words) == 2
    assert "at most 65536 characters" in capsys.readouterr().err


def test_standard_input_is_read_for_one_file_only(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = io.TextIOWrapper(io.BytesIO(builders.firmware()))
    monkeypatch.setattr("sys.stdin", given)
    assert main(["measure", "tdx", "--firmware", "-", "--uki", "-", "--memory", "2G"]) == 2
    assert "standard input is named twice" in capsys.readouterr().err


def test_kernel_is_predicted_as_qemu_changes_it_or_as_it_is(
    folder: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    words = [
        "measure",
        "tdx",
        "--firmware",
        str(folder / "OVMF.fd"),
        "--memory",
        "2G",
        "--kernel",
        str(folder / "vmlinuz"),
        "--initrd",
        str(folder / "initrd"),
        "--cmdline",
        "quiet",
    ]
    changed, plain = written(capfdbinary, *words), written(capfdbinary, *words, "--as-is")
    assert changed.registers[1] != plain.registers[1]
    assert changed.registers[2] == plain.registers[2]
    assert changed.settings == {
        "boot": "kernel",
        "command_line": "quiet",
        "memory": str(2 << 30),
    }
    bare = written(capfdbinary, *words[:-4])
    assert len(bare.registers[2].events) == 1


def tpm(folder: Path, *more: str) -> list[str]:
    return [
        "measure",
        "tpm",
        "--variables",
        str(folder / "VARS.fd"),
        "--uki",
        str(folder / "gw.efi"),
        "--disk",
        str(folder / "disk.raw"),
        *more,
    ]


def test_tpm_is_predicted_from_files(
    folder: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    expected = machines.tpm()
    (folder / "log").write_bytes(machines.log(machines.logged(expected)))
    found = written(capfdbinary, *tpm(folder, "--observed", str(folder / "log")))
    assert [one.value for one in found.registers] == [one.value for one in expected.registers]
    assert found.settings["boot"] == "UKI"
    plain = written(capfdbinary, *tpm(folder, "--memory", "2G"))
    assert plain.settings["memory"] == str(2 << 30)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--kernel", "x"], "what is booted is not clear"),
        (["--initrd", "x"], "do not go together"),
        (["--as-is"], "do not go together"),
        (["--memory", "4X"], "no such size"),
        (["--memory", "1M"], "no guest can have"),
        (["--acpi", "loader"], "NAME=VALUE"),
        (["--event", "model.lock=12"], "'model.lock=12' names no SHA-256 digest"),
        (["--event", f"receipt.key={'00' * 32}"], "unusable name"),
        (["--event", f"a={'00' * 32}", "--event", f"a={'11' * 32}"], "named twice"),
        (["--disk", "/nonexistent/disk"], "cannot read"),
        (["--boot-variable", "\u00e9=x"], "printable ASCII"),
        (["--boot-variable", f"{'n' * 65}=x"], "printable ASCII"),
        (["--acpi", "loader=x", "--acpi", "loader=y"], "named twice"),
    ],
)
def test_options_that_make_no_guest_are_refused(
    folder: Path, words: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(guest(folder, *words)) in (2, 13)
    assert expected in capsys.readouterr().err


@pytest.mark.parametrize(
    ("value", "seen", "hint"),
    [
        ("bar", "3 characters: 'bar'", "--event-file NAME=F"),
        ("AB" * 32, "64 characters: 'ABAB", "--event-file NAME=F"),
        ("ab" * 48, "96 characters: 'abab", "that is the SHA-384 by which RTMR3 is extended"),
    ],
)
def test_event_without_a_sha256_is_a_mistake_on_the_command_line(
    folder: Path, value: str, seen: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(guest(folder, "--event", f"gateway.config={value}")) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert f"--event 'gateway.config={value[:40]}" in told.err
    assert f"seen     {seen}" in told.err
    assert hint in told.err


def test_name_of_an_event_that_there_is_not_is_a_mistake_on_the_command_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(guest(folder, "--event", f"receipt.key={'00' * 32}")) == 2
    assert "unusable name" in capsys.readouterr().err


@pytest.mark.parametrize(
    "names", [("ready", "gateway.config"), ("ready", "other"), ("engine.args", "engine")]
)
def test_events_of_an_image_in_another_order_are_refused(
    folder: Path, names: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word for name in names for word in ("--event", f"{name}={'00' * 32}")]
    assert main(guest(folder, *words)) == 2
    told = capsys.readouterr().err
    assert "expected gateway.config, gateway.package, engine, " in told
    assert f"seen     {', '.join(names)}" in told


def test_files_and_digests_of_events_keep_the_order_of_the_words(
    folder: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    config, own = f"gateway.config={folder / 'config'}", f"own={'00' * 32}"
    for words, names in (
        (["--event-file", config, "--event", own], ["gateway.config", "own"]),
        (["--event", own, "--event-file", config], ["own", "gateway.config"]),
    ):
        found = written(capfdbinary, *guest(folder, *words))
        assert [one.name for one in found.registers[3].events] == names


def test_log_of_another_machine_is_warned_about_with_what_it_lacks(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    enrolled = builders.firmware(store=builders.variable_store(machines.ENROLLED))
    other = [one for one in machines.logged(machines.tdx(firmware=enrolled)) if one[2]]
    (folder / "ccel").write_bytes(machines.log(other))
    words = [*guest(folder, "--observed", str(folder / "ccel")), "-o", str(folder / "m.json")]
    assert main(words) == 0
    told = capsys.readouterr().err
    assert "--observed is the log of another machine" in told
    assert " of 8 computed events not in it: rtmr0: variable store, rtmr0: variable " in told
    (folder / "ccel").write_bytes(machines.log(machines.logged(machines.tdx())))
    assert main([*words, "--force"]) == 0
    assert capsys.readouterr().err == ""
    memory = words.index("--memory") + 1
    words[memory] = "5G"
    assert main([*words, "--force"]) == 0
    assert "1 of 8 computed events not in it: rtmr0: TD HOB\n" in capsys.readouterr().err


def test_tpm_log_of_another_machine_is_warned_about(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = builders.variable_store(machines.ENROLLED)
    other = [one for one in machines.logged(machines.tpm(store=store)) if one[2]]
    (folder / "log").write_bytes(machines.log(other))
    words = tpm(folder, "--observed", str(folder / "log"), "-o", str(folder / "m.json"))
    assert main(words) == 0
    told = capsys.readouterr().err
    assert "--observed is the log of another machine" in told
    assert "pcr7: variable PK" in told


@pytest.mark.parametrize("platform", ["tdx", "tpm"])
def test_log_of_the_other_platform_is_said_to_be_that(
    folder: Path, platform: str, capsys: pytest.CaptureFixture[str]
) -> None:
    own, other = machines.tdx(), machines.tpm()
    words = guest(folder)
    if platform == "tpm":
        own, other, words = other, own, tpm(folder)
    log = machines.log(machines.logged(other))
    observe = [*words, "--observed", str(folder / "log"), "-o", str(folder / "none.json")]
    compared = ["measure", "compare", str(folder / "m.json"), str(folder / "log")]
    (folder / "m.json").write_bytes(encode_measurements(own))
    (folder / "log").write_bytes(log)
    for arguments in (compared, observe):
        assert main(arguments) == 2
        told = capsys.readouterr()
        assert told.out == ""
        assert "the event log is of the other platform" in told.err
        assert "expected a" in told.err
        assert "seen " in told.err
    assert not (folder / "none.json").exists()


def test_log_of_neither_platform_is_malformed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = machines.log(machines.logged(machines.tdx()))
    for broken in (log + b"x", header() + record(12, b"x"), header() + record(99, b"x")):
        assert compare(tmp_path, machines.tdx(), broken) == 13
        assert "other platform" not in capsys.readouterr().err


@pytest.mark.parametrize("prediction", [machines.tdx(), machines.tpm()])
def test_comparison_ends_with_what_a_log_does_not_prove(
    tmp_path: Path, prediction: Prediction, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(tmp_path, prediction, machines.log(machines.logged(prediction))) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("a log by itself proves nothing")


def test_kernel_needs_memory_and_no_disk(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["measure", "tpm", "--variables", str(folder / "VARS.fd")]
    words += ["--kernel", str(folder / "vmlinuz")]
    assert main(words) == 2
    assert "depends on the memory" in capsys.readouterr().err
    assert main([*words, "--disk", str(folder / "disk.raw")]) == 2
    assert "do not go together" in capsys.readouterr().err


def compare(folder: Path, prediction: Prediction, log: bytes, *more: str) -> int:
    (folder / "m.json").write_bytes(encode_measurements(prediction))
    (folder / "log").write_bytes(log)
    return main(["measure", "compare", str(folder / "m.json"), str(folder / "log"), *more])


def test_log_as_predicted_is_said_to_be_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = machines.log(machines.logged(machines.tdx()))
    assert compare(tmp_path, machines.tdx(), log) == 0
    told = capsys.readouterr().out
    assert "rtmr1: every event as predicted" in told
    assert "UKI digest (computed)" in told
    assert "ACPI rsdp (given)" in told


def test_log_without_a_predicted_register_is_incomplete(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = machines.log([one for one in machines.logged(machines.tdx()) if one[0] != 3])
    assert compare(tmp_path, machines.tdx(), log) == 12
    assert "rtmr2: events were predicted, and the log has none" in capsys.readouterr().out
    assert compare(tmp_path, machines.tdx(), log, "--json") == 12
    assert json.loads(capsys.readouterr().out)["not_logged"] == ["rtmr2"]


def test_log_that_fills_unknown_events_is_not_said_to_be_as_predicted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = machines.log(machines.logged(machines.tdx()))
    guest = machines.tdx(host=machines.NOTHING)
    assert compare(tmp_path, guest, log) == 12
    told = capsys.readouterr().out
    assert "rtmr0: nothing differs; 6 events without a predicted digest" in told
    total = len(machines.logged(guest)) + 1
    assert f"{total - 6} of {total} logged events as predicted" in told
    assert "6 events in the log: digest neither computed nor given before" in told
    assert compare(tmp_path, guest, log, "--json") == 12
    value: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert value["exit_code"] == 12
    assert [one["unpredicted"] for one in value["registers"]] == [6, 0, 0, 0]
    assert [one["differs"] for one in value["registers"]] == [False] * 4


def test_log_that_is_only_as_in_an_earlier_boot_is_not_said_to_be_as_predicted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = machines.log(machines.logged(machines.tdx()))
    seen = events_by_register(parse_log_file(log))["rtmr0"]
    guest = machines.tdx(host=host_part(acpi={}, variables=[], observed=seen))
    assert compare(tmp_path, guest, log) == 12
    assert "6 events only as in the log of an earlier boot" in capsys.readouterr().out


def test_log_with_more_at_the_end_of_rtmr3_is_not_said_to_be_as_predicted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = machines.log([*machines.logged(machines.tdx()), (4, 0, b"\7" * 48)])
    assert compare(tmp_path, machines.tdx(), log) == 12
    assert "rtmr3: nothing differs; 1 event at the end" in capsys.readouterr().out


def test_log_with_events_where_nothing_was_predicted_is_not_said_to_be_as_predicted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = machines.log(machines.logged(machines.tpm()))
    assert compare(tmp_path, machines.tpm(), log) == 0
    assert "neither computed" not in capsys.readouterr().out
    assert compare(tmp_path, machines.tpm(), log + record(12, b"an addon")) == 12
    told = capsys.readouterr().out
    assert "pcr12: not predicted, 1 event" in told
    assert "1 event in the log: digest neither computed nor given before" in told


def test_difference_is_named_and_every_event_that_nobody_predicted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tpm = machines.tpm(host=machines.NOTHING)
    log = machines.log([one for one in machines.logged(tpm) if one[2]])
    log += record(4, b"another image", kind=0x80000003) + record(0, b"firmware", kind=8)
    assert compare(tmp_path, tpm, log) == 10
    told = capsys.readouterr().out
    assert "pcr4 differs from event 5: EV_EFI_BOOT_SERVICES_APPLICATION was not predicted" in told
    assert "pcr1 differs from event 1: ACPI loader is missing" in told
    assert "pcr0: not predicted, 1 event (EV_S_CRTM_VERSION)" in told
    assert compare(tmp_path, tpm, log, "--json") == 10
    value: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert value["not_predicted"] == ["pcr0"]
    found = {one["name"]: one for one in value["registers"]}
    assert found["pcr4"]["events"][-1]["match"] == "extra"
    assert found["pcr4"]["events"][-1]["predicted"] is None
    assert found["pcr1"]["events"][0]["seen"] is None
    assert found["pcr2"]["differs"] is False


def test_log_without_any_predicted_register_compares_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(tmp_path, machines.tpm(), header() + record(0, b"x")) == 12
    assert "0 of 1 logged event as predicted" in capsys.readouterr().out


def test_policy_is_made_from_measurements(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(folder / "m.json")
    assert main([*guest(folder, *host(folder)), "-o", out]) == 0
    capsys.readouterr()
    assert main(["policy", "import", out, "--format", "attested-gateway"]) == 0
    policy = parse_policy(capsys.readouterr().out.encode())
    assert [one.name for one in policy.reference_values] == [
        "predicted, pages interleaved",
        "predicted, pages two-pass",
    ]
