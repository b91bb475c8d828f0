"""`attested doctor` and a notary apart: two users, a folder between them, a closed data folder."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.cli import main as program
from gateway.cli.checkup.apart import Part, Viewer, apart_findings, viewer_of
from gateway.cli.checkup.finding import Finding, Level
from gateway.settings import Settings, load_settings
from tests.gateway_cli.doctors import UNAVAILABLE, config
from tests.support.users import Users, find_users


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """Folders and settings of a notary apart; `users` are real ones."""

    folder: Path
    users: Users
    arguments: tuple[str, ...]

    @property
    def run(self) -> Path:
        return self.folder / "run"

    def doctor(self, user: int, *more: str) -> tuple[int, str]:
        """How the command ends that this user starts, and what it says."""
        done = subprocess.run(
            [
                *(self.users.python, "-m", "gateway.cli.main", "doctor"),
                *(*self.arguments, *more),
            ],
            **self.users.options(user),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.stderr == ""
        return done.returncode, done.stdout

    def found(self, user: int) -> tuple[int, dict[str, dict[str, Any]]]:
        code, said = self.doctor(user, "--json")
        document = json.loads(said)
        assert document["exit_code"] == code
        return code, {each["id"]: each for each in document["findings"]}


@pytest.fixture
def house(engine: str) -> Iterator[House]:
    users = find_users()
    users.need_several()
    # Not below pytest's own folder, which is closed to other users.
    folder = Path(tempfile.mkdtemp(prefix="doctor-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        arguments = config(folder, engine)
        for name, mode, owner in (
            ("data", 0o700, users.notary),
            ("run", 0o750, users.notary),
            ("kept", 0o700, users.gateway),
        ):
            (folder / name).mkdir(exist_ok=True)
            os.chown(folder / name, owner, owner)
            (folder / name).chmod(mode)
        os.chown(folder / "keys.json", users.gateway, users.gateway)
        for name, value in _apart(folder, users.notary, users.gateway).items():
            arguments += ["--set", f"{name}={value}"]
        yield House(folder=folder, users=users, arguments=tuple(arguments))
    finally:
        shutil.rmtree(folder)


def _apart(folder: Path, notary: int | str, gateway: int | str) -> dict[str, str]:
    return {
        "notary.socket": str(folder / "run" / "notary.sock"),
        "notary.user": str(notary),
        "notary.gateway_user": str(gateway),
        "access.budgets_file": str(folder / "kept" / "budgets.json"),
    }


def test_gateways_user_looks_at_its_part_and_is_not_told_to_reach_the_data_folder(
    house: House,
) -> None:
    code, found = house.found(house.users.gateway)
    assert code == 0
    assert found["service.users"]["data"]["parts"] == ["gateway"]
    assert f"this is {house.users.gateway}" in found["service.users"]["seen"]
    assert found["service.notary_socket"]["level"] == "ok"
    data = found["service.data_dir"]
    assert (data["level"], data["todo"]) == ("ok", None)
    assert "closed to the gateway's user, as it should be" in data["seen"]
    assert "service.fsync" not in found
    assert [found[f"service.{name}"]["level"] for name in ("keys", "engine")] == ["ok", "ok"]
    for name in ("evidence.quote", "service.model"):
        assert found[name]["seen"].startswith("not looked at")
        assert found[name]["todo"] == f"run attested doctor as {house.users.notary} too"
    assert not any("run as the user of the gateway" in str(each) for each in found.values())
    assert "of what this user can look at" in house.doctor(house.users.gateway)[1]


def test_notarys_user_looks_at_data_folder_and_quotes_and_not_at_keys(house: House) -> None:
    code, found = house.found(house.users.notary)
    assert code == 0
    assert found["service.users"]["data"]["parts"] == ["notary"]
    assert {found[f"service.{name}"]["level"] for name in ("data_dir", "fsync")} <= {"ok", "warn"}
    assert "service.keys" not in found
    assert "service.engine" not in found
    assert found["service.callers"]["seen"].startswith("not looked at")
    assert "evidence.signatures" in found


def test_root_is_told_that_it_is_neither(house: House) -> None:
    code, found = _as_root(house)
    assert code == 0
    assert found["service.users"]["data"]["parts"] == ["gateway", "notary"]
    assert "root: what root can reach, they may not" in found["service.users"]["seen"]
    assert found["service.data_dir"]["seen"].startswith("not looked at")
    assert "service.fsync" not in found
    assert list((house.folder / "data").iterdir()) == []


def _as_root(house: House) -> tuple[int, dict[str, dict[str, Any]]]:
    done = subprocess.run(
        [house.users.python, "-m", "gateway.cli.main", "doctor", "--json", *house.arguments],
        env=house.users.options(house.users.stranger)["env"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, {each["id"]: each for each in json.loads(done.stdout)["findings"]}


def test_third_user_looks_at_nothing_of_theirs(house: House) -> None:
    _, found = house.found(house.users.stranger)
    assert found["service.users"]["data"]["parts"] == []
    assert "neither of them" in found["service.users"]["seen"]
    assert not {"service.keys", "service.fsync", "service.engine"} & found.keys()


def test_absent_folder_of_the_socket_fails_for_everybody_with_the_command_that_makes_it(
    house: House,
) -> None:
    house.run.rmdir()
    users = house.users
    for code, found in (*map(house.found, (users.notary, users.gateway)), _as_root(house)):
        assert code == UNAVAILABLE
        place = found["service.notary_socket"]
        assert place["level"] == "fail"
        assert f"{house.run} is not there" in place["seen"]
        assert f"install -d -m 0750 -o {users.notary} " in place["todo"]


def test_group_without_the_gateways_user_fails(house: House) -> None:
    os.chown(house.run, house.users.notary, house.users.stranger)
    code, found = house.found(house.users.gateway)
    assert code == UNAVAILABLE
    place = found["service.notary_socket"]
    assert place["level"] == "fail"
    assert f"which {house.users.gateway} is not in" in place["seen"]


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o700, 0o740])
def test_mode_that_the_notary_would_refuse_or_the_gateway_not_pass_fails(
    house: House, mode: int
) -> None:
    house.run.chmod(mode)
    code, found = house.found(house.users.notary)
    assert code == UNAVAILABLE
    assert f"mode {mode:04o}" in found["service.notary_socket"]["seen"]
    assert found["service.notary_socket"]["todo"] == f"chmod 0750 {house.run}"


def test_folder_of_another_owner_fails(house: House) -> None:
    os.chown(house.run, house.users.gateway, house.users.notary)
    code, found = house.found(house.users.notary)
    assert code == UNAVAILABLE
    assert f"is of user {house.users.gateway}" in found["service.notary_socket"]["seen"]


def test_data_folder_that_the_gateways_user_can_enter_fails(house: House) -> None:
    (house.folder / "data").chmod(0o755)
    code, found = house.found(house.users.gateway)
    assert code == UNAVAILABLE
    assert "open to the gateway's user" in found["service.data_dir"]["seen"]


def test_data_folder_of_another_user_is_to_be_given_to_the_notarys(house: House) -> None:
    os.chown(house.folder / "data", 0, 0)
    code, found = house.found(house.users.notary)
    assert code == UNAVAILABLE
    assert found["service.fsync"]["todo"].startswith(f"chown -R {house.users.notary} ")


# Without other users' processes.


def settings(folder: Path, notary: int | str, gateway: int | str) -> Settings:
    arguments = config(folder, "http://127.0.0.1:9")
    return load_settings(Path(arguments[1]), _apart(folder, notary, gateway)).settings


def looked(folder: Path, notary: int | str, gateway: int | str, uid: int) -> dict[str, Finding]:
    loaded = settings(folder, notary, gateway)
    found = apart_findings(loaded, viewer_of(loaded, uid))
    return {each.id.partition(".")[2]: each for each in found}


def open_folder(folder: Path, mode: int = 0o750) -> int:
    """The socket's folder, of this user; which that is."""
    (folder / "run").mkdir()
    (folder / "run").chmod(mode)
    return os.geteuid()


@pytest.mark.parametrize(("user", "gateway"), [("root", "0"), ("7", "7"), ("gone", "gone")])
def test_one_user_for_both_is_a_failure(tmp_path: Path, user: str, gateway: str) -> None:
    found = looked(tmp_path, user, gateway, 0)["users"]
    assert found.level is Level.FAIL
    assert "of different users" in found.seen


def test_user_that_is_not_on_this_machine_is_a_failure(tmp_path: Path) -> None:
    own = open_folder(tmp_path)
    found = looked(tmp_path, own, "nobody-here", own)
    assert found["users"].level is Level.FAIL
    assert "nobody-here" in found["users"].seen
    assert found["notary_socket"].level is Level.WARN


def test_gateways_user_without_a_name_may_be_in_the_group_or_not(tmp_path: Path) -> None:
    own = open_folder(tmp_path)
    place = looked(tmp_path, own, 61_977, own)["notary_socket"]
    assert place.level is Level.WARN
    assert "whether 61977 is in it cannot be told" in place.seen


def test_gateways_user_with_a_name_is_looked_up(tmp_path: Path) -> None:
    own = open_folder(tmp_path)
    other = next(each for each in pwd.getpwall() if each.pw_uid != own)
    groups = os.getgrouplist(other.pw_name, other.pw_gid)
    inside = (tmp_path / "run").stat().st_gid in groups
    place = looked(tmp_path, own, other.pw_name, own)["notary_socket"]
    assert place.level is (Level.OK if inside else Level.FAIL)


def test_file_in_place_of_the_folder_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    assert looked(tmp_path, 7, 8, 7)["notary_socket"].level is Level.FAIL


def test_gateway_as_root_can_look_into_everything(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("not root")
    data = looked(tmp_path, 7, 0, 0)["data_dir"]
    assert data.level is Level.FAIL
    assert "another user than root" in data.todo


def test_settings_without_a_notary_apart_are_everybodys_to_look_at(tmp_path: Path) -> None:
    arguments = config(tmp_path, "http://127.0.0.1:9")
    loaded = load_settings(Path(arguments[1])).settings
    viewer = viewer_of(loaded, 4711)
    assert viewer == Viewer(uid=4711)
    assert viewer.sees(Part.NOTARY)
    assert viewer.sees(Part.GATEWAY)
    assert list(apart_findings(loaded, viewer)) == []


def test_help_says_to_run_it_as_both_users(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["doctor", "--help"]) == 0
    assert "run it as both users" in capsys.readouterr().out
