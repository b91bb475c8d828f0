"""`attested serve` starts with what an operator needs to see, or says what is wrong."""

from __future__ import annotations

import hashlib
import re
import secrets
import socket
from pathlib import Path
from typing import Any

import httpx2
import pytest

from attestation.encoding.strict_json import parse_json_object
from tests.e2e.conftest import Engines, Serve
from tests.support.serving import add_key, attested, start, wait_until, write_config

pytestmark = pytest.mark.slow

# Nothing listens there: these gateways never get as far as asking an engine.
ENGINE = "http://127.0.0.1:9"


def refused(folder: Path, *arguments: str, **variables: str) -> tuple[int, str]:
    """Exit code and message of a gateway that must not start."""
    done = attested(folder, "serve", *arguments, variables=variables)
    text = done.stderr.decode()
    assert done.stdout == b""
    assert "Traceback" not in text
    assert text.startswith("attested: ")
    return done.returncode, text


def test_start_block_names_address_keys_settings_and_that_the_evidence_is_simulated(
    serve: Serve, standin: Engines
) -> None:
    engine = standin()
    served = serve(engine)
    lines = served.lines
    checked = attested(served.folder, "config", "check", "--config", "gateway.toml")
    assert checked.stdout.decode().strip().endswith(lines["config digest"])
    assert lines["engine"] == engine
    assert lines["evidence"].startswith("simulated (SIMULATED")
    assert lines["channel"].startswith("plain HTTP")
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", lines["address"])
    answer = httpx2.get(f"{served.url}/v1/attestation", trust_env=False).json()
    assert answer["keyset_digest"] == lines["keyset digest"]
    assert answer["log_origin"] == lines["log origin"]
    assert [event["event"] for event in served.events] == ["boot.started", "listening"]
    assert served.stdout == ""
    assert httpx2.get(f"{served.url}/readyz", trust_env=False).json()["status"] == "ready"


def test_only_the_settled_surface_answers(serve: Serve, standin: Engines) -> None:
    served = serve(standin())
    for path in ("/", "/docs", "/openapi.json", "/metrics", "/v1", "/v1/models/x", "/version"):
        answer = httpx2.get(served.url + path, trust_env=False)
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "not_found"
    assert httpx2.get(f"{served.admin}/metrics", trust_env=False).status_code == 200


def test_flags_and_environment_win_over_the_file(serve: Serve, tmp_path: Path) -> None:
    folder = tmp_path / "g"
    folder.mkdir()
    served = serve(ENGINE, "--set", "limits.max_n=3", "--set", "tls.mode=off", folder=folder)
    shown = attested(
        folder,
        *("config", "check", "--config", "gateway.toml"),
        variables={"ATTESTED_LIMITS__MAX_N": "3"},
    )
    assert shown.stdout.decode().strip().endswith(served.lines["config digest"])


def test_without_settings_the_message_says_which_are_missing(tmp_path: Path) -> None:
    code, text = refused(tmp_path)
    assert code == 2
    for name in ("upstream", "access", "notary", "evidence"):
        assert name in text


SECRET = "zq" + secrets.token_hex(8)
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "unknown-setting": ({"limits": {"max_m": 3}}, "did you mean limits.max_n?"),
    "unknown-section": ({"limit": {"max_n": 3}}, "limit"),
    "wrong-type": ({"limits": {"max_n": SECRET}}, "limits.max_n"),
    "out-of-range": ({"limits": {"max_n": 0}}, "greater than or equal to 1"),
    "two-engines": ({"upstream": {"uds": "/run/engine.sock"}}, "set exactly one of url and uds"),
    "engine-with-path": ({"upstream": {"url": f"http://e/{SECRET}"}}, "without path"),
    "engine-with-user": ({"upstream": {"url": f"http://u:{SECRET}@e"}}, "user"),
    "plain-http-for-all": ({"listen": {"host": "0.0.0.0"}}, "plain HTTP is refused"),  # noqa: S104
    "plain-http-for-a-name": ({"listen": {"host": "gateway.example"}}, "plain HTTP is refused"),
    "admin-for-all": ({"admin": {"host": "0.0.0.0"}}, "loopback"),  # noqa: S104
    "unknown-provider": ({"evidence": {"provider": "paper:"}}, "provider"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_settings_are_named_and_their_values_are_not_repeated(
    tmp_path: Path, case: str
) -> None:
    tables, expected = WRONG[case]
    write_config(tmp_path, ENGINE, **tables)
    add_key(tmp_path)
    code, text = refused(tmp_path, "--config", "gateway.toml")
    assert code == 2
    assert expected in text
    assert SECRET not in text
    assert not (tmp_path / "data").exists()


def test_file_that_is_not_toml_is_refused_with_the_line(tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text(f"[listen]\nport = 1\nhost = {SECRET}\n")
    code, text = refused(tmp_path, "--config", "gateway.toml")
    assert code == 2
    assert "not TOML" in text
    assert SECRET not in text


def test_absent_file_is_refused_by_name(tmp_path: Path) -> None:
    code, text = refused(tmp_path, "--config", "nowhere.toml")
    assert (code, "nowhere.toml" in text) == (2, True)


def test_unknown_variable_is_refused_with_a_suggestion(tmp_path: Path) -> None:
    write_config(tmp_path, ENGINE)
    code, text = refused(tmp_path, "--config", "gateway.toml", ATTESTED_LIMITS__MAX_M=SECRET)
    assert code == 2
    assert "ATTESTED_LIMITS__MAX_N" in text
    assert SECRET not in text


def test_missing_keys_file_is_refused_with_how_to_make_one(tmp_path: Path) -> None:
    write_config(tmp_path, ENGINE)
    code, text = refused(tmp_path, "--config", "gateway.toml")
    assert code == 14
    assert "attested keys add" in text


def test_keys_file_that_others_may_write_is_refused(tmp_path: Path) -> None:
    write_config(tmp_path, ENGINE)
    add_key(tmp_path)
    (tmp_path / "keys.json").chmod(0o666)
    code, text = refused(tmp_path, "--config", "gateway.toml")
    assert (code, "chmod 600" in text) == (2, True)


def test_malformed_keys_file_is_refused(tmp_path: Path) -> None:
    write_config(tmp_path, ENGINE)
    (tmp_path / "keys.json").write_text(f'{{"keys": "{SECRET}"}}')
    (tmp_path / "keys.json").chmod(0o600)
    code, text = refused(tmp_path, "--config", "gateway.toml")
    assert code == 13
    assert SECRET not in text


def test_data_folder_that_others_can_enter_is_refused(tmp_path: Path) -> None:
    write_config(tmp_path, ENGINE)
    add_key(tmp_path)
    (tmp_path / "data").mkdir(mode=0o755)
    code, text = refused(tmp_path, "--config", "gateway.toml")
    assert (code, "chmod 700" in text) == (14, True)


def test_port_that_is_taken_is_refused(tmp_path: Path) -> None:
    add_key(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        write_config(tmp_path, ENGINE, listen={"port": taken.getsockname()[1]})
        code, text = refused(tmp_path, "--config", "gateway.toml")
    assert (code, "another process" in text) == (2, True)


def digests(boot: Path) -> dict[Path, str]:
    """Every file of a boot with the digest of its bytes."""
    files = (path for path in boot.rglob("*") if path.is_file())
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_restart_is_another_boot_and_leaves_the_files_of_the_earlier_one_alone(
    serve: Serve, tmp_path: Path
) -> None:
    folder = tmp_path / "g"
    folder.mkdir()
    first = serve(ENGINE, folder=folder)
    origin, keyset = first.lines["log origin"], first.lines["keyset digest"]
    assert first.stop() == 0
    old = first.boot
    before = digests(old)
    second = serve(ENGINE, folder=folder)
    assert (second.lines["log origin"], second.lines["keyset digest"]) != (origin, keyset)
    assert second.stop() == 0
    assert digests(old) == before
    assert digests(second.boot).keys().isdisjoint(before)
    assert {path.stat().st_mode & 0o077 for path in second.data.rglob("*")} == {0}


def test_gateway_listens_on_a_unix_socket(serve: Serve, standin: Engines, tmp_path: Path) -> None:
    path = tmp_path / "gateway.sock"
    served = serve(standin(), listen={"uds": str(path)})
    assert served.url == f"unix:{path}"
    with httpx2.Client(transport=httpx2.HTTPTransport(uds=str(path))) as client:
        assert client.get("http://localhost/healthz").json() == {"status": "ok"}
    assert served.connect().result.verdict == "SIMULATED"


@pytest.mark.parametrize("workers", ["0", "2"])
def test_core_files_are_off_in_every_process(serve: Serve, workers: str) -> None:
    served = serve(ENGINE, "--workers", workers)
    pids = [pid for named in served.pids.values() for pid in named]
    assert len(pids) == (1 if workers == "0" else 4)
    for pid in pids:
        require_no_core_files(pid)


def require_no_core_files(pid: int) -> None:
    limits = Path(f"/proc/{pid}/limits").read_text()
    (line,) = (line for line in limits.splitlines() if line.startswith("Max core file size"))
    assert line.split()[-3:-1] == ["0", "0"]


def test_tls_key_is_nowhere_on_disk(serve: Serve) -> None:
    served = serve(ENGINE, tls={"mode": "self-signed"})
    for path in served.folder.rglob("*"):
        if path.is_file():
            assert b"PRIVATE" not in path.read_bytes()


def test_keys_commands_act_on_the_running_gateway(serve: Serve, standin: Engines) -> None:
    served = serve(standin())
    key = add_key(served.folder, "--label", "short-lived")
    bearer = {"authorization": f"Bearer {key}"}

    def status() -> int:
        answer = httpx2.get(f"{served.url}/v1/models", headers=bearer, trust_env=False)
        return answer.status_code

    wait_until(lambda: status() == 200)
    listed = attested(served.folder, "keys", "list", "--config", "gateway.toml", "--json")
    labels = [one["label"] for one in parse_json_object(listed.stdout)["keys"]]
    assert labels == ["first", "short-lived"]
    assert key.encode() not in listed.stdout + (served.folder / "keys.json").read_bytes()
    revoked = attested(served.folder, "keys", "revoke", "--config", "gateway.toml", "short-lived")
    assert revoked.returncode == 0
    wait_until(lambda: status() == 401)


def test_second_gateway_does_not_disturb_a_first_that_holds_the_socket(
    serve: Serve, tmp_path: Path
) -> None:
    path = tmp_path / "gateway.sock"
    first = serve(ENGINE, listen={"uds": str(path)})
    other = tmp_path / "other"
    other.mkdir()
    write_config(other, ENGINE, listen={"uds": str(path)})
    second = start(other)
    assert second.process.wait(60) == 2
    with httpx2.Client(transport=httpx2.HTTPTransport(uds=str(path))) as client:
        assert client.get("http://localhost/healthz").status_code == 200
    assert first.process.poll() is None
