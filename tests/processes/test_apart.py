"""A notary apart: another user's process, which the gateway finds and cannot look into."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from attestation.errors import UnavailableError
from gateway.access import keyfile
from gateway.access.principal import Grant
from gateway.notary.wire.client import RemoteNotary
from tests.processes.conftest import QUESTION, Fleet, alive, kill
from tests.support.serving import PATIENCE, Served, wait_until, write_config
from tests.support.users import Users, find_users

pytestmark = pytest.mark.slow
AWAITED = '"gateway.awaited"'


@pytest.fixture(scope="module")
def users() -> Users:
    # Notary and gateway of one user are refused.
    found = find_users()
    found.need_several()
    return found


@dataclass(slots=True, kw_only=True)
class House:
    """Folders and settings of a notary apart, and the processes that run on them."""

    folder: Path
    users: Users
    key: str = ""
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def socket(self) -> Path:
        return self.folder / "run" / "notary.sock"

    @property
    def state(self) -> Path:
        return self.folder / "data"

    def furnish(self, engine: str, **tables: dict[str, Any]) -> None:
        """What the image's units and its sysusers make, for the users of these tests."""
        users = self.users
        for name, mode, owner in (
            ("data", 0o700, users.notary),
            ("run", 0o750, users.notary),
            ("kept", 0o700, users.gateway),
        ):
            path = self.folder / name
            path.mkdir()
            os.chown(path, owner, owner)
            path.chmod(mode)
        self.write(engine, tables)
        keys = self.folder / "keys.json"
        self.key = keyfile.add_key(keys, label="first", grant=Grant(), now=int(time.time()))
        keys.chmod(0o644)

    def write(self, engine: str, tables: dict[str, dict[str, Any]]) -> None:
        notary = {
            "socket": str(self.socket),
            "user": str(self.users.notary),
            "gateway_user": str(self.users.gateway),
            **tables.get("notary", {}),
        }
        budgets = {"budgets_file": str(self.folder / "kept" / "budgets.json")}
        whole = tables | {"notary": notary, "access": budgets}
        write_config(self.folder, engine, **whole).chmod(0o644)

    def start(self, command: str, user: int, *, said: str, **more: str) -> subprocess.Popen[bytes]:
        """Start one of the two commands; what it says goes to a file."""
        options = self.users.options(user)
        options["env"] |= more
        with (self.folder / said).open("wb") as out:
            process = subprocess.Popen(
                [
                    *(self.users.python, "-m", "gateway.cli.main", command),
                    *("--config", str(self.folder / "gateway.toml")),
                ],
                **options,
                stdout=subprocess.DEVNULL,
                stderr=out,
            )
        self.started.append(process)
        return process

    def says(self, said: str) -> str:
        return (self.folder / said).read_text()

    def start_notary(self, **more: str) -> subprocess.Popen[bytes]:
        """Start the notary and wait until it waits."""
        process = self.start("notary", self.users.notary, said="notary", **more)
        wait_until(lambda: AWAITED in self.says("notary") or process.poll() is not None)
        assert process.poll() is None, self.says("notary")
        return process

    def start_gateway(self, **more: str) -> Fleet:
        """Start the gateway and wait until it serves."""
        process = self.start("serve", self.users.gateway, said="stderr", **more)
        served = Served(folder=self.folder, process=process, key=self.key)
        served.wait_ready()
        return Fleet(served=served)

    def end(self) -> None:
        for process in reversed(self.started):
            if process.poll() is None:
                process.kill()
            process.wait(PATIENCE)


@pytest.fixture
def house(users: Users) -> Iterator[House]:
    # Not below pytest's own folder, which is closed to other users.
    folder = Path(tempfile.mkdtemp(prefix="apart-", dir="/tmp"))
    folder.chmod(0o755)
    one = House(folder=folder, users=users)
    try:
        yield one
    finally:
        one.end()
        shutil.rmtree(folder)


Standin = Callable[..., str]


def owner_of(pid: int) -> int:
    """The user that a process runs as."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("Uid:")]
    real, effective, saved, _ = map(int, line.split()[1:])
    assert real == effective == saved
    return real


def test_workers_of_another_user_serve_with_the_notarys_receipts(
    house: House, standin: Standin
) -> None:
    house.furnish(standin(), tls={"mode": "self-signed"})
    notary = house.start_notary()
    gateway = house.start_gateway(ATTESTED_WORKERS="2")
    served = gateway.served
    assert served.pids["notary"] == [notary.pid]
    assert f"root.pem, which only {house.users.notary} can read" in served.stderr
    assert owner_of(notary.pid) == house.users.notary
    runs = [served.process.pid, *served.pids["workers"]]
    assert len(runs) == 3
    assert {owner_of(pid) for pid in runs} == {house.users.gateway}
    # Its every answer is verified, and the keyset names the key of the channel.
    session = served.connect()
    checks = {check.id: str(check.status) for check in session.result.checks}
    assert checks["CHANNEL"] == "pass"
    headers = gateway.headers
    with session.http_client() as client:
        answer = client.post(f"{session.base_url}/chat/completions", json=QUESTION, headers=headers)
    assert answer.status_code == 200
    assert len(session.calls) == 1
    name = 'attested_receipts_total{end="complete",route="/v1/chat/completions"}'
    assert served.metrics()[name] == 1
    assert served.stop() == 0
    assert notary.wait(PATIENCE) == 0
    assert [str(receipt.claims.response.end) for receipt in gateway.kept()] == ["complete"]
    assert not house.socket.exists()


def test_gateways_user_reaches_neither_keys_nor_log(house: House, standin: Standin) -> None:
    house.furnish(standin())
    notary = house.start_notary()
    gateway = house.start_gateway()
    assert gateway.ask().status_code == 200
    look = "import os, sys; print(len(os.listdir(sys.argv[1])))"
    users, state = house.users, str(house.state)
    assert users.ask(users.notary, look, state).returncode == 0
    for user in (users.gateway, users.stranger):
        done = users.ask(user, look, state)
        assert done.returncode == 1
        assert "PermissionError" in done.stderr
    memory = "import sys; open(f'/proc/{sys.argv[1]}/mem', 'rb')"
    # The notary's own user as well is kept from its memory.
    for user in (users.notary, users.gateway):
        assert "PermissionError" in users.ask(user, memory, str(notary.pid)).stderr
    for sample in sorted(house.state.rglob("*")):
        assert sample.stat().st_uid == users.notary


CONNECT = """
import asyncio, sys
from pathlib import Path
from gateway.notary.wire.client import RemoteNotary
asyncio.run(RemoteNotary.connect(Path(sys.argv[1]), uid=int(sys.argv[2]), seconds=10))
print("in")
"""


def test_third_user_is_refused_by_folder_and_socket(house: House, standin: Standin) -> None:
    house.furnish(standin())
    notary = house.start_notary()
    users, place = house.users, (str(house.socket), str(house.users.notary))
    # Before there is a boot, and with the folder open to all: the socket itself asks who comes.
    house.socket.parent.chmod(0o755)
    house.socket.chmod(0o666)
    assert "cannot be reached" in users.ask(users.stranger, CONNECT, *place).stderr
    wait_until(lambda: '"gateway.refused"' in house.says("notary"))
    assert '"user"' in house.says("notary")
    gateway = house.start_gateway()
    assert gateway.ask().status_code == 200
    for user in (users.stranger, users.notary):
        done = users.ask(user, CONNECT, *place)
        assert (done.returncode, done.stdout) == (1, "")
        assert "UnavailableError" in done.stderr
    assert users.ask(users.gateway, CONNECT, *place).stdout == "in\n"
    # With the modes of the image a stranger does not get that far.
    house.socket.chmod(0o660)
    house.socket.parent.chmod(0o750)
    reach = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    assert "PermissionError" in users.ask(users.stranger, reach, place[0]).stderr
    assert users.ask(users.gateway, reach, place[0]).returncode == 0
    assert gateway.ask().status_code == 200
    assert notary.poll() is None


async def test_root_is_no_peer_of_a_notary_apart(house: House, standin: Standin) -> None:
    house.furnish(standin())
    house.start_notary()
    house.start_gateway()
    with pytest.raises(UnavailableError):
        await RemoteNotary.connect(house.socket, uid=house.users.notary)


def test_killed_notary_ends_the_gateway(house: House, standin: Standin) -> None:
    house.furnish(standin())
    notary = house.start_notary()
    gateway = house.start_gateway()
    assert gateway.ask().status_code == 200
    workers = gateway.workers
    kill(notary.pid)
    assert gateway.served.process.wait(PATIENCE) == 14
    assert "notary_died" in gateway.served.stderr
    wait_until(lambda: not any(alive(pid) for pid in workers))


def test_killed_gateway_ends_the_notary_which_seals_what_was_left(
    house: House, standin: Standin
) -> None:
    house.furnish(standin())
    notary = house.start_notary()
    gateway = house.start_gateway()
    assert gateway.ask().status_code == 200
    kill(gateway.served.process.pid)
    assert notary.wait(PATIENCE) == 0
    assert len(gateway.kept()) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_to_the_notary_ends_both_in_order(
    house: House, standin: Standin, number: int
) -> None:
    house.furnish(standin())
    notary = house.start_notary()
    gateway = house.start_gateway()
    assert gateway.ask().status_code == 200
    notary.send_signal(number)
    assert gateway.served.process.wait(PATIENCE) == 14
    assert notary.wait(PATIENCE) == 0
    assert "notary_stopped" in gateway.served.stderr
    assert "notary_died" not in gateway.served.stderr
    assert len(gateway.kept()) == 1


def test_signal_before_there_is_a_gateway_ends_the_notary(house: House, standin: Standin) -> None:
    house.furnish(standin())
    notary = house.start_notary()
    notary.send_signal(signal.SIGTERM)
    assert notary.wait(PATIENCE) == 0
    assert not house.socket.exists()
    assert list(house.state.iterdir()) == []


def refused(house: House, user: int, command: str = "serve", **more: str) -> tuple[int, str]:
    """How a command ends that must not get far."""
    process = house.start(command, user, said="refused", **more)
    return process.wait(PATIENCE), house.says("refused")


def test_gateway_without_a_notary_says_so_after_its_time(house: House, standin: Standin) -> None:
    house.furnish(standin(), notary={"connect_seconds": 0.4})
    began = time.monotonic()
    code, said = refused(house, house.users.gateway)
    assert time.monotonic() - began > 0.4
    assert code == 14
    assert "the notary cannot be reached" in said
    assert "within 0.4 s" in said
    assert "No such file or directory" in said
    assert "Traceback" not in said


def test_gateway_that_may_not_enter_the_folder_says_so(house: House, standin: Standin) -> None:
    house.furnish(standin(), notary={"connect_seconds": 0.4})
    house.start_notary()
    house.socket.parent.chmod(0o700)
    code, said = refused(house, house.users.gateway)
    assert code == 14
    assert "Permission denied" in said


def test_gateway_waits_for_a_notary_that_comes_later(house: House, standin: Standin) -> None:
    house.furnish(standin(), notary={"connect_seconds": PATIENCE})
    process = house.start("serve", house.users.gateway, said="stderr")
    house.start_notary()
    served = Served(folder=house.folder, process=process, key=house.key)
    served.wait_ready()
    assert Fleet(served=served).ask().status_code == 200


def test_socket_of_another_user_is_no_notary(house: House, standin: Standin) -> None:
    house.furnish(standin())
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as false:
        false.bind(str(house.socket))
        false.listen()
        house.socket.chmod(0o666)
        code, said = refused(house, house.users.gateway)
    assert code == 14
    assert "a socket of user 0" in said


def test_second_gateway_does_not_get_the_same_notary(house: House, standin: Standin) -> None:
    house.furnish(standin())
    notary = house.start_notary()
    gateway = house.start_gateway()
    code, said = refused(house, house.users.gateway)
    assert code == 14
    assert "one that has a gateway already" in said
    assert gateway.ask().status_code == 200
    assert notary.poll() is None


def test_other_measured_settings_are_refused_and_the_notary_waits_on(
    house: House, standin: Standin
) -> None:
    engine = standin()
    house.furnish(engine)
    house.start_notary()
    code, said = refused(house, house.users.gateway, ATTESTED_LIMITS__MAX_N="3")
    assert code == 2
    assert "different measured settings" in said
    assert house.start_gateway().ask().status_code == 200


@pytest.mark.parametrize("command", ["notary", "serve"])
def test_command_of_the_wrong_user_is_refused(house: House, standin: Standin, command: str) -> None:
    house.furnish(standin())
    code, said = refused(house, house.users.stranger, command)
    assert code == 2
    assert "another user than the settings say" in said


@pytest.mark.parametrize("command", ["notary", "serve"])
def test_notary_and_gateway_of_one_user_are_refused(
    house: House, standin: Standin, command: str
) -> None:
    # The same number, once with a zero before it.
    house.furnish(standin(), notary={"gateway_user": f"0{house.users.notary}"})
    code, said = refused(house, house.users.notary, command)
    assert code == 2
    assert "no notary apart" in said
    assert "of different users" in said
    assert AWAITED not in said
    assert not house.socket.exists()


def test_notary_without_its_folder_says_which_one_it_needs(house: House, standin: Standin) -> None:
    house.furnish(standin())
    house.socket.parent.rmdir()
    code, said = refused(house, house.users.notary, "notary")
    assert code == 2
    assert f"the folder {house.socket.parent}, of the notary's own user, mode 0750" in said
    assert "no such folder" in said
    assert f"install -d -m 0750 -o {house.users.notary}" in said


def test_what_prevents_the_boot_is_said_on_both_sides(house: House, standin: Standin) -> None:
    house.furnish(standin())
    (house.state / "foreign").touch()
    shutil.rmtree(house.state)
    house.state.write_text("no folder")
    notary = house.start_notary()
    code, said = refused(house, house.users.gateway)
    assert code == notary.wait(PATIENCE) == 14
    assert said.splitlines()[-1] == house.says("notary").splitlines()[-1]


def test_budgets_without_their_folder_stop_the_start(house: House, standin: Standin) -> None:
    house.furnish(standin())
    notary = house.start_notary()
    absent = str(house.folder / "absent" / "budgets.json")
    code, said = refused(house, house.users.gateway, ATTESTED_ACCESS__BUDGETS_FILE=absent)
    assert code == 14
    assert "a folder that is not there" in said
    assert "Traceback" not in said
    assert notary.wait(PATIENCE) == 0


def test_service_manager_hears_when_the_gateway_may_start(house: House, standin: Standin) -> None:
    house.furnish(standin())
    path = house.folder / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        path.chmod(0o666)
        manager.settimeout(PATIENCE)
        house.start_notary(NOTIFY_SOCKET=str(path))
        assert manager.recv(64) == b"READY=1"
        with socket.socket(socket.AF_UNIX) as caller:
            caller.connect(str(house.socket))
