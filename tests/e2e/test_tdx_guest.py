"""A gateway in a TDX guest: processes of its own, the kernel's interfaces, an auditor's verdict."""

from __future__ import annotations

import json
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.tdx.collateral import encode_dcap_collateral
from gateway.attester.simulated.platform import SimulatedPlatform
from tests.e2e.conftest import Engines
from tests.support.qgs_server import QgsServer, framed, listening, response
from tests.support.serving import Served, add_key, attested, serving, write_config
from tests.support.tdx_kernel import quote_of_report

pytestmark = pytest.mark.slow

SIMULATED, REJECTED = 15, 10
TESTS = Path(__file__).parents[1]
MACHINE = f"{TESTS / 'support' / 'tdx_machine'}:{TESTS.parent}"
Guests = Callable[..., Served]


@pytest.fixture
def guest(tmp_path: Path, standin: Engines) -> Iterator[Guests]:
    """`guest(URI)` starts a gateway on a machine whose kernel is the model's."""
    now, seed = int(time.time()), secrets.token_hex(16)
    platform = SimulatedPlatform(now=now, seed=seed.encode())
    (tmp_path / "collateral.json").write_bytes(encode_dcap_collateral(platform.collateral()))
    (tmp_path / "root.pem").write_bytes(platform.anchor.certificate.public_bytes(Encoding.PEM))
    variables = {
        "PYTHONPATH": MACHINE,
        "TEST_TDX_NOW": str(now),
        "TEST_TDX_SEED": seed,
    }
    host = QgsServer(lambda report: framed(response(quote_of_report(platform, report))))
    with ExitStack() as stack:
        stack.enter_context(listening(host, tmp_path / "qgs.socket"))

        def begin(provider: str) -> Served:
            evidence = {"provider": provider, "collateral_file": "collateral.json"}
            log = {"forced_epoch_seconds": 0.2}
            return stack.enter_context(
                serving(tmp_path, standin(), variables=variables, evidence=evidence, log=log)
            )

        yield begin


def anchored_bundle(served: Served) -> Path:
    """Ask three times, each time until the receipt is anchored; the last one's bundle."""
    headers = {"authorization": f"Bearer {served.key}"}
    body = {"model": "stand-in-1", "messages": [{"role": "user", "content": "hello"}]}
    bundle = httpx2.Response(500)
    with httpx2.Client(base_url=served.url, trust_env=False, headers=headers) as client:
        for _ in range(3):
            answer = client.post("/v1/chat/completions", json=body)
            assert answer.status_code == 200, answer.text
            jti = answer.headers["x-receipt-id"]
            bundle = client.get(f"/v1/receipts/{jti}?wait=anchored&format=bundle", timeout=40)
            assert bundle.status_code == 200, bundle.text
    path = served.folder / "bundle.json"
    path.write_bytes(bundle.content)
    return path


def verified(served: Served, bundle: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    (served.folder / "policy.toml").write_bytes(served.policy())
    done = attested(
        served.folder, "verify", str(bundle), "--policy", "policy.toml", "--json", *arguments
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.mark.parametrize("uri", ["configfs-tsm:", "vsock-qgs:?unix={folder}/qgs.socket"])
def test_receipts_from_a_guest_are_anchored_and_verify_under_its_root_alone(
    guest: Guests, tmp_path: Path, uri: str
) -> None:
    served = guest(uri.format(folder=tmp_path))
    bundle = anchored_bundle(served)
    boot = json.loads(bundle.read_bytes())["boots"][0]
    assert [event["event"] for event in boot["event_log"]["data"]] == ["receipt.key"]
    assert served.lines["evidence"] == uri.partition(":")[0]
    assert "keys" not in served.lines

    code, document = verified(served, bundle, "--root", "root.pem")
    assert code == SIMULATED, [check for check in document["checks"] if check["status"] == "fail"]
    passed = {check["id"] for check in document["checks"] if check["status"] == "pass"}
    assert {"EVENT-LOG", "LOG-INCLUSION", "EPOCH-QUOTE", "QUOTE-GENUINE"} <= passed
    assert verified(served, bundle)[0] == REJECTED
    assert served.stop() == 0


def told(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
    """Run the demo in a guest whose platform is new."""
    now, seed = int(time.time()), secrets.token_hex(16)
    platform = SimulatedPlatform(now=now, seed=seed.encode())
    (folder / "collateral.json").write_bytes(encode_dcap_collateral(platform.collateral()))
    known = {"PYTHONPATH": MACHINE, "TEST_TDX_NOW": str(now), "TEST_TDX_SEED": seed}
    given = ("--provider", "configfs-tsm:?rtmr3=off", "--collateral", "collateral.json")
    return attested(folder, "demo", *given, *arguments, variables=known | variables)


def test_demo_in_a_guest_under_intels_root_is_accepted_without_a_root_of_its_own(
    tmp_path: Path,
) -> None:
    done = told(tmp_path, "--json", TEST_TDX_INTEL="1")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["connected"], document["audit"]["exit_code"]) == ("ACCEPTED", 0)
    assert [one["exit_code"] for one in document["tampered"]] == [10] * 5
    folder = tmp_path / document["folder"]
    assert not (folder / "root.pem").exists()
    assert "SIMULATED" not in (folder / "README.txt").read_text()


def test_demo_in_a_guest_says_so_on_the_terminal(tmp_path: Path) -> None:
    done = told(tmp_path, TEST_TDX_INTEL="1")
    assert b"this machine's TDX quotes" in done.stdout
    assert b"exit 0 ACCEPTED" in done.stdout
    assert b"SIMULATED" not in done.stdout


def test_demo_in_a_guest_never_falls_back_to_another_root(tmp_path: Path) -> None:
    done = told(tmp_path)
    assert done.returncode == REJECTED
    assert b"QUOTE-GENUINE" in done.stderr or b"root" in done.stderr, done.stderr
    assert b"Traceback" not in done.stderr


def test_start_without_the_device_ends_with_what_is_missing(tmp_path: Path) -> None:
    root = tmp_path / "config" / "tsm" / "report"
    write_config(tmp_path, "http://127.0.0.1:9", evidence={"provider": f"configfs-tsm:{root}"})
    add_key(tmp_path)
    done = attested(tmp_path, "serve", "--config", "gateway.toml")
    assert done.returncode == 14
    assert b"this kernel has no configfs" in done.stderr
    assert b"modprobe configfs" in done.stderr
    assert b"Traceback" not in done.stderr


def test_start_whose_keys_are_not_in_rtmr3_says_so(guest: Guests) -> None:
    served = guest("configfs-tsm:?rtmr3=off")
    assert "unbound_keys" in served.lines["keys"]
