"""`attested endorsements status|export`, and stores as `--endorsements`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from attestation.bundle import Bundle, parse_bundle
from attestation.cli import endorsements_export
from attestation.cli.endorsement_files import load_sets
from attestation.cli.main import main
from attestation.tdx.collateral import Collateral, encode_dcap_collateral, parse_dcap_collateral
from attestation.tdx.dates import DAY_SECONDS
from gateway.attester.simulated.facts import DAY, Endorsements, Machine
from gateway.attester.simulated.platform import SimulatedPlatform
from tests.cli.support import Folder, printed
from tests.house.conftest import module_trees
from tests.house.test_purity import imported
from tests.support.bundles import NOW

AT = ["--at", str(NOW)]
PLATFORM = SimulatedPlatform(now=NOW, seed=b"endorsements")
GOOD = PLATFORM.collateral()


def issued(**changes: Any) -> Collateral:
    return PLATFORM.but(endorsements=Endorsements(**changes)).collateral()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    return folder


def keep(store: Path, *sets: Collateral) -> None:
    for one in sets:
        (store / f"{one.digest.hex}.json").write_bytes(encode_dcap_collateral(one))


def status(*arguments: str) -> int:
    return main(["endorsements", "status", *arguments])


def export(store: Path, *arguments: str) -> int:
    return main(["endorsements", "export", "--store", str(store), *AT, *arguments])


def test_status_of_nothing_asks_for_a_file_or_a_store(capsys: pytest.CaptureFixture[str]) -> None:
    assert status() == 2
    assert "name a FILE or --store DIR" in capsys.readouterr().err


def test_status_shows_every_part_with_its_dates(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(store, GOOD)
    assert status("--store", str(store), *AT) == 15
    shown = capsys.readouterr().out
    assert "SIMULATED" in shown
    assert GOOD.digest.hex in shown
    rows = {line[2:22].strip(): line.split()[-2:] for line in shown.splitlines()[5:13]}
    assert rows["TCB info"] == ["30", "ok"]
    assert rows["root CA"][1] == "ok"
    assert len(rows) == 8


@pytest.mark.parametrize(
    ("at", "state", "code"),
    [
        (NOW, "ok", 15),
        (NOW + 24 * DAY_SECONDS, "soon", 15),
        (NOW + 31 * DAY_SECONDS, "expired", 11),
        (NOW - DAY_SECONDS, "not yet", 11),
    ],
)
def test_status_says_by_its_exit_code_whether_something_is_out_of_date(
    store: Path, capsys: pytest.CaptureFixture[str], at: int, state: str, code: int
) -> None:
    keep(store, GOOD)
    assert status("--store", str(store), "--at", str(at), "--json") == code
    document = printed(capsys)
    assert (document["at"], document["exit_code"]) == (at, code)
    (one,) = document["sets"]
    assert one["state"] == state
    assert one["trust_domain"] == "simulated"
    assert one["not_after"] == NOW + 30 * DAY - 1
    assert {part["name"] for part in one["parts"]} >= {"TCB info", "root CRL", "root CA"}
    assert status("--store", str(store), "--at", str(at)) == code
    assert state.split(maxsplit=1)[0] in capsys.readouterr().out.lower()


def test_soon_is_as_long_before_the_end_as_asked(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(store, GOOD)
    status("--store", str(store), *AT, "--soon", "31", "--json")
    assert printed(capsys)["sets"][0]["state"] == "soon"
    assert status("--store", str(store), *AT, "--soon", "-1") == 2


def test_status_of_sets_in_date_under_the_root_that_is_compiled_in_is_0(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(store, GOOD)
    monkeypatch.setattr("attestation.tdx.anchor.INTEL_ANCHOR", PLATFORM.anchor)
    assert status("--store", str(store), *AT) == 0
    assert "SIMULATED" not in capsys.readouterr().out


def test_status_of_a_folder_is_that_of_the_store(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(store, GOOD, issued(evaluation_number=21, qe_evaluation_number=21))
    assert status("--store", str(store), *AT) == 15
    named = capsys.readouterr().out
    assert status(str(store), *AT) == 15
    assert capsys.readouterr().out == named


def test_status_of_a_store_that_is_not_there_says_why(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status("--store", str(store / "absent"), *AT) == 2
    told = capsys.readouterr().err
    assert "No such file or directory" in told
    assert "--contents" not in told


def test_status_looks_into_bundles(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    assert status(folder["bundle.json"], *AT, "--json") == 15
    (one,) = printed(capsys)["sets"]
    assert [one["digest"]] == [digest.hex for digest in folder.gateway.bundle().collateral]


def test_status_of_a_set_whose_signatures_do_not_hold_is_rejected(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forged = issued(signer="pck")
    keep(store, forged, GOOD)
    assert status("--store", str(store), *AT) == 10
    assert "NOBODY" in capsys.readouterr().out


def test_status_of_a_malformed_file_shows_the_others_all_the_same(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, broken = store / "good.json", store / "broken.json"
    good.write_bytes(encode_dcap_collateral(GOOD))
    broken.write_bytes(b'{"tcb_info":1}')
    assert status(str(broken), str(good), *AT) == 13
    shown = capsys.readouterr().out
    assert GOOD.digest.hex in shown
    assert shown.count(str(broken)) == 1
    assert "MALFORMED" in shown
    assert status(str(broken), *AT, "--json") == 13
    (told,) = printed(capsys)["malformed"]
    assert set(told) == {"code", "expected", "hint", "message", "name", "observed"}
    assert told["name"] == str(broken)
    assert str(broken) in told["message"]
    for part in ("message", "expected"):
        assert told[part]
        assert told[part] in shown


def test_status_of_nothing_is_a_mistake(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status() == 2
    assert status("--store", str(store)) == 2
    assert status("--store", str(store / "absent")) == 2
    assert main(["endorsements"]) == 2
    assert "fetch" in capsys.readouterr().err


def test_export_writes_the_newest_set_in_date(store: Path, tmp_path: Path) -> None:
    newer = issued(evaluation_number=21, qe_evaluation_number=21)
    keep(store, GOOD, newer, issued(evaluation_number=22, qe_evaluation_number=22, tcb_expires=-1))
    out = tmp_path / "out.json"
    assert export(store, "-o", str(out)) == 0
    assert parse_dcap_collateral(out.read_bytes()) == newer
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.json", "store"]


def test_export_of_a_set_out_of_date_warns(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep(store, GOOD)
    assert main(["endorsements", "export", "--store", str(store), "--at", "2030-01-01"]) == 0
    told = capsys.readouterr()
    assert told.err.startswith("WARNING")
    assert parse_dcap_collateral(told.out.encode()) == GOOD


def test_export_wants_to_know_which_platform_is_meant(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = SimulatedPlatform(
        now=NOW,
        seed=b"other",
        machine=Machine(fmspc=b"\xff" * 6),
        endorsements=Endorsements(fmspc=b"\xff" * 6),
    ).collateral()
    keep(store, GOOD, other)
    assert export(store) == 2
    assert "ffffffffffff (platform)" in capsys.readouterr().err
    for arguments in (["--fmspc", "FFFFFFFFFFFF"], ["--digest", other.digest.hex[:8]]):
        assert export(store, *arguments, "--ca", "platform") == 0
        assert parse_dcap_collateral(capsys.readouterr().out.encode()) == other
    refused = (
        ["--fmspc", "000000000001"],
        ["--fmspc", "ffffffffffff", "--ca", "processor"],
        ["--digest", other.digest.hex[:7]],
    )
    for arguments in refused:
        assert export(store, *arguments) == 2


def test_export_that_cannot_write_leaves_nothing_behind(store: Path, tmp_path: Path) -> None:
    keep(store, GOOD)
    target = tmp_path / "taken"
    target.mkdir()
    assert export(store, "-o", str(target), "--force") == 2
    for name in (str(tmp_path / "absent" / "out"), "a\0b"):
        assert export(store, "-o", name) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store", "taken"]


def test_export_replaces_a_file_only_when_told_to(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(store, GOOD)
    out = tmp_path / "out.json"
    out.write_bytes(b"theirs")
    assert export(store, "-o", str(out)) == 2
    assert "exists" in (told := capsys.readouterr().err)
    assert "--force replaces it; or give -o another name" in told
    assert out.read_bytes() == b"theirs"
    assert export(store, "-o", str(out), "--force") == 0
    assert parse_dcap_collateral(out.read_bytes()) == GOOD


def test_export_refuses_before_it_looks_at_the_store(store: Path, tmp_path: Path) -> None:
    (tmp_path / "out.json").write_bytes(b"theirs")
    (store / f"{'0' * 64}.json").write_bytes(b"broken")
    assert export(store, "-o", str(tmp_path / "out.json")) == 2


def test_file_that_is_made_while_an_export_goes_on_stays(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(store, GOOD)
    out = tmp_path / "out.json"
    out.write_bytes(b"theirs")
    monkeypatch.setattr(endorsements_export, "require_absent", lambda _: None)
    assert export(store, "-o", str(out)) == 2
    assert out.read_bytes() == b"theirs"


def test_set_under_another_name_than_its_digest_is_malformed(store: Path) -> None:
    (store / f"{'0' * 64}.json").write_bytes(encode_dcap_collateral(GOOD))
    assert status("--store", str(store)) == 13
    assert export(store) == 13


def test_pipe_under_the_name_of_a_set_is_not_waited_for(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(store, GOOD)
    os.mkfifo(store / f"{'0' * 64}.json")
    assert status("--store", str(store), *AT) == 2
    assert "not a regular file" in capsys.readouterr().err


def test_other_files_in_a_store_are_left_alone(store: Path) -> None:
    keep(store, GOOD)
    (store / "README").write_bytes(b"x")
    (store / f".{GOOD.digest.hex}.partial").write_bytes(b"{")
    assert status("--store", str(store), *AT) == 15


def test_store_gives_what_is_in_date_first(store: Path, tmp_path: Path) -> None:
    later = PLATFORM.collateral(at=NOW + 20 * DAY)
    single = tmp_path / "one.json"
    single.write_bytes(encode_dcap_collateral(GOOD))
    keep(store, GOOD, later)
    assert load_sets([str(store)], NOW, [PLATFORM.anchor]) == [GOOD, later]
    assert load_sets([str(store)], NOW + 21 * DAY, [PLATFORM.anchor]) == [later, GOOD]
    assert load_sets([str(single), str(store)], NOW + 21 * DAY, [PLATFORM.anchor]) == [
        GOOD,
        later,
        GOOD,
    ]


def test_receipt_is_verified_long_after_with_the_endorsements_of_a_store(
    folder: Folder, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(store, folder.gateway.machine.collateral(at=NOW + 60 * DAY))
    late = ["--at", str(NOW + 61 * DAY), "--root", folder["root.pem"], "--json"]
    file = [folder["bundle.json"], "--policy", folder["policy.toml"]]
    assert main(["verify", *file, *late]) != 15
    capsys.readouterr()
    assert main(["verify", *file, *late, "--endorsements", str(store)]) == 15


def test_bundle_takes_endorsements_out_of_a_store(folder: Folder, store: Path) -> None:
    fresh = folder.gateway.machine.collateral(at=NOW - 60)
    keep(store, fresh)
    out = folder["merged.json"]
    arguments = [folder["bundle.json"], "--endorsements", str(store), "-o", out]
    assert main(["bundle", *arguments]) == 0
    assert list(parse_bundle(Path(out).read_bytes()).collateral) == [fresh.digest]


_AUDITED = """
import json, sys
seen = []
def hook(event, arguments):
    if event.startswith(("socket.", "urllib.", "http.", "subprocess.", "os.exec", "os.posix")):
        seen.append(event)
sys.addaudithook(hook)
from attestation.cli.main import main
code = main(sys.argv[1:])
print(json.dumps([code, seen]))
"""


def audited(*arguments: str, program: str = _AUDITED) -> list[Any]:
    """Exit code, and what the interpreter was seen to open, in a fresh process."""
    told = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True
    )
    value: list[Any] = json.loads(told.stdout.splitlines()[-1])
    return value


def test_verifying_opens_no_socket_even_where_endorsements_are_missing(
    folder: Folder, store: Path
) -> None:
    keep(store, GOOD)
    bare = replace(folder.gateway.evidence, collateral=None)
    file = folder.write("bare.json", Bundle(boots=(bare,)).encode())
    root = ["--root", folder["root.pem"], "--policy", folder["policy.toml"], *AT]
    for arguments in (root, [*root, "--endorsements", str(store)], AT):
        code, opened = audited("verify", file, *arguments)
        assert code in (10, 12, 15)
        assert opened == []


def test_socket_would_be_noticed() -> None:
    opening = _AUDITED.replace("main(sys.argv[1:])", "__import__('socket').socket().close()")
    _, opened = audited(program=opening)
    assert opened == ["socket.__new__"]


def test_commands_on_files_import_nothing_that_speaks_over_a_network() -> None:
    banned = {"socket", "ssl", "http", "ftplib", "smtplib", "socketserver", "asyncio", "xmlrpc"}
    found = [
        (path, name)
        for path, tree in module_trees("attestation")
        for _, name in imported(tree)
        if name.split(".")[0] in banned or name == "urllib.request"
    ]
    assert found == []
