"""Several workers are one gateway: one log, one certificate, one answer to who runs."""

from __future__ import annotations

import json
import signal
import socket
import ssl
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.receipt.claims import End
from gateway.notary.log.segments import Kind
from tests.api.test_admin import CHAIN, Authority
from tests.processes.conftest import Fleet, kill, standing_still, worker_of
from tests.support.logs import leaves_of
from tests.support.serving import (
    PROGRAM,
    add_key,
    attested,
    environment,
    wait_until,
    write_config,
)

pytestmark = pytest.mark.slow


def test_workers_share_one_log_without_gap_or_double(
    fleet: Callable[..., Fleet], standin: Callable[..., str]
) -> None:
    gateway = fleet(standin(), workers=3)
    with ThreadPoolExecutor(12) as pool:
        statuses = list(pool.map(lambda _: gateway.ask().status_code, range(120)))
    assert statuses == [200] * 120
    assert gateway.served.stop() == 0
    kept = gateway.kept()
    assert len(kept) == 120
    leaves = leaves_of(gateway.served.boot)
    places = [receipt.claims.log.index for receipt in kept]
    assert places == [at for at, leaf in enumerate(leaves) if leaf.kind is Kind.RECEIPT]
    assert {receipt.claims.log.admission for receipt in kept} == set(range(120))
    assert len({receipt.claims.keyset_digest for receipt in kept}) == 1


@pytest.mark.parametrize("workers", [0, 2])
def test_unmodified_openai_client_gets_verified_answers(
    fleet: Callable[..., Fleet], standin: Callable[..., str], workers: int
) -> None:
    gateway = fleet(standin(delay=0.01), workers=workers)
    session = gateway.served.connect()
    with openai.OpenAI(
        base_url=session.base_url,
        api_key=gateway.served.key,
        http_client=session.http_client(),
        max_retries=0,
    ) as client:
        ask: Any = client.chat.completions.create
        messages = [{"role": "user", "content": "hello"}]
        plain = ask(model="stand-in-1", messages=messages)
        assert plain.choices[0].message.content
        stream = ask(model="stand-in-1", messages=messages, stream=True, max_tokens=40)
        first = next(stream)
        # The stream ends within the drain: the signal changes nothing of it.
        gateway.served.process.send_signal(signal.SIGTERM)
        assert first.choices
        reasons = [chunk.choices[0].finish_reason for chunk in stream if chunk.choices]
    assert reasons[-1] is not None
    assert [call.result.verdict for call in session.calls if call.result is not None] == [
        "SIMULATED"
    ] * 2
    assert gateway.served.process.wait(60) == 0
    assert [receipt.claims.response.end for receipt in gateway.kept()] == [End.COMPLETE] * 2
    assert gateway.served.events[-1]["reason"] == "closed"


def served_leaf(port: int, workers: list[int]) -> tuple[int, bytes]:
    """Which worker answered a new connection, and the certificate that it showed."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port)) as plain,
        context.wrap_socket(plain) as sock,
    ):
        leaf = sock.getpeercert(binary_form=True)
        worker = worker_of(sock.getsockname()[1], workers)
    assert leaf is not None
    return worker, leaf


def leaves_by_worker(gateway: Fleet) -> dict[int, bytes]:
    """The certificate of every worker."""
    workers, found = gateway.workers, {}
    for one in workers:
        with standing_still(pid for pid in workers if pid != one):
            worker, found[one] = served_leaf(gateway.served.port, workers)
        assert worker == one
    return found


def test_installed_certificate_reaches_every_worker_and_those_of_later(
    fleet: Callable[..., Fleet], standin: Callable[..., str]
) -> None:
    gateway = fleet(standin(), tls={"mode": "self-signed"})
    admin = httpx2.Client(base_url=gateway.served.admin, trust_env=False, timeout=60)
    with admin:
        request = x509.load_pem_x509_csr(admin.get("/tls/csr").content)
        chain = Authority().issue(request.public_key())
        refused = admin.post(
            "/tls/certificate",
            content=Authority().issue(Authority().key.public_key()),
            headers={"content-type": CHAIN},
        )
        assert refused.status_code == 400
        before = set(leaves_by_worker(gateway).values())
        assert len(before) == 1
        answer = admin.post("/tls/certificate", content=chain, headers={"content-type": CHAIN})
        assert answer.json() == {"certificates": 2}
    issued = x509.load_pem_x509_certificates(chain)[0].public_bytes(Encoding.DER)
    assert set(leaves_by_worker(gateway).values()) == {issued}
    for pid in gateway.workers:
        kill(pid)
    wait_until(lambda: gateway.served.stderr.count('"worker.started"') == 2)
    assert set(leaves_by_worker(gateway).values()) == {issued}


def test_ready_line_is_one_object_that_names_every_process(
    tmp_path: Path, standin: Callable[..., str]
) -> None:
    write_config(tmp_path, standin())
    add_key(tmp_path)
    command = [str(PROGRAM), "serve", "--config", "gateway.toml", "--json", "--workers", "2"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment(tmp_path), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        assert ready["ready"] is True
        attestation = httpx2.get(f"{ready['address']}/v1/attestation", trust_env=False).json()
        assert attestation["keyset_digest"] == ready["keyset_digest"]
        assert attestation["log_origin"] == ready["log_origin"]
        processes = ready["processes"]
        assert processes["supervisor"] == process.pid
        assert len({process.pid, processes["notary"], *processes["workers"]}) == 4
        path = Path(processes["socket"])
        assert path.is_socket()
        assert path.parent.stat().st_mode & 0o777 == 0o700
        assert Path(ready["simulated_root"]).is_file()
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == ""
    assert process.returncode == 0
    # The folder that was made for it is gone again.
    assert not path.parent.exists()


def test_secrets_are_neither_in_arguments_nor_in_the_environment(
    fleet: Callable[..., Fleet], standin: Callable[..., str]
) -> None:
    gateway = fleet(standin(), tls={"mode": "self-signed"})
    for pid in (gateway.notary, *gateway.workers):
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        assert b"PRIVATE" not in command + Path(f"/proc/{pid}/environ").read_bytes()
        assert command.split(b"\0")[-2].isdigit()
        assert len(command) < 300


def test_socket_of_the_settings_is_used_and_removed(
    fleet: Callable[..., Fleet], standin: Callable[..., str], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    path = folder / "n.sock"
    gateway = fleet(standin(), workers=1, notary={"data_dir": "data", "socket": str(path)})
    assert gateway.served.lines["notary socket"] == str(path)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert gateway.ask().status_code == 200
    assert gateway.served.stop() == 0
    assert not path.exists()


@pytest.mark.parametrize(
    ("assignment", "code", "text"),
    [
        ("workers=65", 2, "workers"),
        ("workers=-1", 2, "workers"),
        ("notary.socket=relative.sock", 2, "absolute"),
        (f"notary.socket=/tmp/{'n' * 120}.sock", 2, "at most 107 bytes"),
        ("notary.socket=/proc/n.sock", 2, "notary's socket"),
    ],
)
def test_impossible_processes_are_refused_by_name(
    tmp_path: Path, assignment: str, code: int, text: str
) -> None:
    write_config(tmp_path, "http://127.0.0.1:9")
    add_key(tmp_path)
    done = attested(tmp_path, "serve", "--config", "gateway.toml", "--set", assignment)
    assert (done.returncode, text in done.stderr.decode()) == (code, True), done.stderr
