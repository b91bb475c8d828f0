"""`--high-water FILE`: what verifications remember, and that no file is ever lowered."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import BinaryIO, cast

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.cli import high_water as cli
from attestation.cli.durable import create_durably, write_durably
from attestation.cli.high_water import HighWaterFile
from attestation.cli.main import main
from attestation.errors import MalformedError, UsageError
from attestation.result import AttestationResult
from attestation.tdx.anchor import INTEL_ANCHOR
from attestation.tdx.endorsed import Endorsed, SignedPart
from attestation.verifier import HighWater, parse_high_water
from gateway.attester.simulated.facts import Endorsements
from gateway.attester.simulated.platform import SimulatedPlatform
from tests.cli.support import AT, Folder, check_of, printed
from tests.refusals import refusal
from tests.support.bundles import NOW, Gateway

PLATFORM = SimulatedPlatform(now=NOW, seed=b"platform")


class Files:
    """Bundles of one platform, by evaluation number, and the file that remembers."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.mark = path / "seen.json"
        self.root = path / "root.pem"
        self.root.write_bytes(PLATFORM.anchor.certificate.public_bytes(Encoding.PEM))
        self.policy = path / "policy.toml"

    def bundle(self, number: int, *, forged: bool = False) -> str:
        numbers = Endorsements(evaluation_number=number, qe_evaluation_number=number)
        made = Gateway(platform=PLATFORM.but(endorsements=numbers))
        made.plain()
        self.policy.write_bytes(made.policy_toml().encode())
        data = made.bundle().encode()
        if forged:
            quote = json.loads(data)["boots"][0]["quote"]
            data = data.replace(quote.encode(), (quote[:400] + _other(quote[400:])).encode())
        path = self.path / f"{number}{'-forged' if forged else ''}.json"
        path.write_bytes(data)
        return str(path)

    def verify(self, *files: str, mark: bool = True) -> int:
        remembered = ["--high-water", str(self.mark)] if mark else []
        grounds = ["--policy", str(self.policy), "--root", str(self.root), *AT]
        return main(["verify", *files, *grounds, *remembered, "--json"])

    @property
    def number(self) -> int:
        (entry,) = parse_high_water(self.mark.read_bytes()).seen.values()
        assert entry.tcb_info.number == entry.qe_identity.number
        return entry.tcb_info.number


def _other(text: str) -> str:
    return ("A" if text[0] != "A" else "B") + text[1:]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_missing_file_is_made_and_that_is_said(
    files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    assert files.verify(files.bundle(20)) == 15
    assert "nothing was seen before" in capsys.readouterr().err
    assert files.number == 20
    assert files.verify(files.bundle(20)) == 15
    assert capsys.readouterr().err == ""


def test_file_that_another_command_makes_meanwhile_is_read(
    files: Files, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert files.verify(files.bundle(20)) == 15
    kept = files.mark.read_bytes()
    files.mark.unlink()
    capsys.readouterr()

    def behind_another(path: Path, data: bytes) -> None:
        files.mark.write_bytes(kept)
        create_durably(path, data)

    monkeypatch.setattr(cli, "create_durably", behind_another)
    assert HighWaterFile(str(files.mark)).open() == parse_high_water(kept)
    assert files.mark.read_bytes() == kept
    assert capsys.readouterr().err == ""


def test_older_endorsements_are_refused_from_then_on(
    files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    older, newer = files.bundle(19), files.bundle(20)
    assert files.verify(older) == 15
    assert files.verify(newer) == 15
    capsys.readouterr()
    assert files.verify(older) == 11
    check = check_of(printed(capsys), "COLLATERAL-FRESH")
    assert "rolled back" in check["reason"]
    assert files.number == 20
    assert files.verify(older, mark=False) == 15


def test_files_of_one_command_are_judged_by_what_was_known_before_it(files: Files) -> None:
    older, newer = files.bundle(19), files.bundle(20)
    assert files.verify(newer, older) == 15
    assert files.number == 20
    assert files.verify(newer, older) == 11


def test_forged_and_unreadable_evidence_raises_nothing(files: Files) -> None:
    assert files.verify(files.bundle(20)) == 15
    before, place = files.mark.read_bytes(), files.mark.stat().st_ino
    assert files.verify(files.bundle(99, forged=True)) == 10
    (files.path / "broken").write_bytes(b"{")
    assert files.verify(str(files.path / "broken")) == 13
    assert main(["verify", files.bundle(99), "--high-water", str(files.mark), *AT]) == 10
    assert files.mark.read_bytes() == before
    assert files.mark.stat().st_ino == place


def test_evidence_that_the_policy_refuses_raises_it_all_the_same(files: Files) -> None:
    bundle = files.bundle(21)
    files.policy.write_text(files.policy.read_text() + "\n[endorsements]\nmax_age_days = 1\n")
    later = ["--at", str(NOW + 2 * 86_400)]
    grounds = ["--policy", str(files.policy), "--root", str(files.root), *later]
    assert main(["verify", bundle, *grounds, "--high-water", str(files.mark)]) == 11
    assert files.number == 21


def test_quote_uses_the_same_file(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    def quote(number: int) -> list[str]:
        numbers = Endorsements(evaluation_number=number, qe_evaluation_number=number)
        one = PLATFORM.but(endorsements=numbers)
        (files.path / "quote.bin").write_bytes(one.quote(bytes(64)))
        collateral = files.path / "collateral.json"
        collateral.write_text(json.dumps(one.collateral().to_json()))
        return [str(files.path / "quote.bin"), "--collateral", str(collateral)]

    def appraised(number: int) -> int:
        grounds = ["--root", str(files.root), *AT, "--high-water", str(files.mark)]
        return main(["quote", *quote(number), *grounds, "--json"])

    assert appraised(20) == 12
    assert appraised(19) == 11
    assert files.number == 20
    capsys.readouterr()
    assert files.verify(files.bundle(19)) == 11


def test_intels_entry_is_never_touched_by_simulated_roots(files: Files) -> None:
    entry = Endorsed(
        root=INTEL_ANCHOR.name,
        fmspc=PLATFORM.machine.fmspc,
        tcb_info=SignedPart(number=50, issued=1),
        qe_identity=SignedPart(number=50, issued=1),
    )
    files.mark.write_bytes(HighWater().raised([entry]).encode())
    assert files.verify(files.bundle(20)) == 15
    known = parse_high_water(files.mark.read_bytes())
    assert known.of(entry) == entry
    assert len(known.seen) == 2


@pytest.mark.parametrize("content", [b"", b"{}", b"x", b'{"schema":"other","seen":[]}'])
def test_broken_file_is_malformed_and_left_alone(
    files: Files, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    files.mark.write_bytes(content)
    assert files.verify(files.bundle(20)) == 13
    told = capsys.readouterr()
    assert told.out == ""
    assert str(files.mark) in told.err
    assert "--high-water" in told.err
    assert files.mark.read_bytes() == content


def test_place_that_cannot_be_written_is_a_usage_error(tmp_path: Path) -> None:
    for name in (str(tmp_path / "no" / "folder"), "a\0b", str(tmp_path)):
        assert refusal(HighWaterFile(name).open, error=UsageError) in {"high_water", "file"}


def test_disk_that_fails_is_a_usage_error(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for name in ("create_durably", "write_durably"):
        monkeypatch.setattr(cli, name, full)
    with pytest.raises(UsageError, match="No space left on device"):
        HighWaterFile(str(files.mark)).open()
    assert not files.mark.exists()
    files.mark.write_bytes(HighWater().encode())
    part = SignedPart(number=9, issued=9)
    entry = Endorsed(root="intel", fmspc=bytes(6), tcb_info=part, qe_identity=part)
    seen = cast("AttestationResult", SimpleNamespace(endorsed=(entry,)))
    with pytest.raises(UsageError, match="No space left on device"):
        HighWaterFile(str(files.mark)).raise_by(seen.endorsed)


def test_file_named_like_standard_input_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    HighWaterFile("-").open()
    assert HighWaterFile("-").open() == HighWater()
    assert (tmp_path / "-").exists()


WRITER = """
import sys
from dataclasses import replace
from types import SimpleNamespace
from attestation.cli.high_water import HighWaterFile
from attestation.tdx.endorsed import Endorsed, SignedPart
file = HighWaterFile(sys.argv[1])
for number in range(int(sys.argv[2]), 60, 3):
    part = SignedPart(number=number, issued=number)
    common = Endorsed(root="intel", fmspc=b"\\xff" * 6, tcb_info=part, qe_identity=part)
    one = replace(common, fmspc=bytes([int(sys.argv[2])]) * 6)
    file.raise_by([one, common])
"""


def test_writers_at_the_same_time_lose_nothing(files: Files) -> None:
    HighWaterFile(str(files.mark)).open()
    command = [sys.executable, "-c", WRITER, str(files.mark)]
    writers = [subprocess.Popen([*command, str(first)]) for first in range(3)]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0, 0]
    known = parse_high_water(files.mark.read_bytes()).seen
    assert list(files.mark.parent.glob("*seen*")) == [files.mark]
    highest = {key[1][0]: entry.tcb_info.number for key, entry in known.items()}
    assert highest == {0: 57, 1: 58, 2: 59, 0xFF: 59}


def test_what_is_written_is_what_is_there_when_the_lock_is_had(files: Files) -> None:
    """A verification that read before another one raised the file does not put it back."""
    file = HighWaterFile(str(files.mark))
    file.open()
    part = SignedPart(number=9, issued=9)
    entry = Endorsed(root="intel", fmspc=bytes(6), tcb_info=part, qe_identity=part)
    files.mark.write_bytes(HighWater().raised([entry]).encode())
    file.raise_by([])
    assert parse_high_water(files.mark.read_bytes()).of(entry) == entry
    with files.mark.open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def behind(change: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have `change` done while the first lock is waited for."""
    lock, waits = fcntl.flock, [change]

    def waiting(file: BinaryIO, how: int) -> None:
        lock(file, how)
        if waits:
            waits.pop()()

    monkeypatch.setattr(fcntl, "flock", waiting)


def test_lock_is_on_the_file_that_is_there_and_not_on_one_that_was_replaced(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or two verifications hold locks at the same time, and one puts back what it read before."""
    file = HighWaterFile(str(files.mark))
    file.open()
    behind(lambda: write_durably(files.mark, HighWater().encode()), monkeypatch)
    with file._locked(), files.mark.open("rb") as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_file_that_is_taken_away_while_its_lock_is_waited_for_is_a_usage_error(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = HighWaterFile(str(files.mark))
    file.open()
    behind(files.mark.unlink, monkeypatch)
    assert refusal(file.raise_by, [], error=UsageError) == "high_water"
    assert refusal(file.raise_by, [], error=UsageError) == "high_water"
    assert not files.mark.exists()


def test_first_uses_at_the_same_time_make_one_file(files: Files) -> None:
    program = "import sys\nfrom attestation.cli.high_water import HighWaterFile\n"
    program += "HighWaterFile(sys.argv[1]).open()\n"
    command = [sys.executable, "-c", program + WRITER, str(files.mark)]
    writers = [subprocess.Popen([*command, str(first)]) for first in range(3)]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0, 0]
    assert len(parse_high_water(files.mark.read_bytes()).seen) == 4


def test_file_that_broke_meanwhile_is_malformed(files: Files) -> None:
    file = HighWaterFile(str(files.mark))
    file.open()
    files.mark.write_bytes(b"x")
    with pytest.raises(MalformedError):
        file.raise_by([])


def test_empty_name_is_refused_and_never_read_as_no_flag(
    files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    """A script whose variable is unset must not verify without what it asked for."""
    bundle = files.bundle(20)
    for flag in ("--high-water", "--model-lock", "--policy", "--endorsements"):
        assert main(["verify", bundle, f"{flag}=", *AT]) == 2
    for flag in ("--high-water", "--collateral"):
        assert main(["quote", bundle, f"{flag}=", *AT]) == 2
    assert main(["endorsements", "status", "", *AT]) == 2
    assert capsys.readouterr().out == ""


def test_help_of_both_commands_names_the_flag(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("verify", "quote"):
        assert main([command, "--help"]) == 0
        assert "--high-water" in capsys.readouterr().out


def test_mark_behind_a_link_is_raised_under_both_names(files: Files) -> None:
    files.mark.write_bytes(HighWater().encode())
    link = files.path / "link.json"
    link.symlink_to(files.mark.name)
    real, files.mark = files.mark, link
    assert files.verify(files.bundle(20)) == 15
    assert link.is_symlink()
    files.mark = real
    assert files.verify(files.bundle(19)) == 11


def test_mark_that_cannot_be_written_is_refused_before_anything_is_verified(
    files: Files, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files.mark.write_bytes(HighWater().encode())
    real = Path.open

    def denied(path: Path, mode: str = "r") -> BinaryIO:
        if path == files.mark and "+" in mode:
            raise PermissionError(13, "Permission denied")
        return cast("BinaryIO", real(path, mode))

    bundle = files.bundle(20)
    monkeypatch.setattr(Path, "open", denied)
    assert files.verify(bundle) == 2
    seen = capsys.readouterr()
    assert "as a high-water file" in seen.err
    assert seen.out == ""
