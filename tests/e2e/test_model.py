"""From a folder of files to a receipt that names them: lock, gateway, bundle, policy, verdict."""

from __future__ import annotations

import json
from pathlib import Path

import httpx2
import pytest

from attestation.bundle import parse_bundle
from attestation.statement.model_lock import ModelLock, parse_model_lock
from tests.e2e.conftest import Engines, Serve
from tests.support.serving import Served, attested, start, write_config

CHAT = "/v1/chat/completions"
QUESTION = {"model": "stand-in-1", "messages": [{"role": "user", "content": "which model?"}]}
REQUIRED = b'[require]\nchecks = ["MODEL", "ENGINE-LOCAL"]\n[log]'


def locked(folder: Path, *, weights: bytes = b"weights") -> tuple[Path, ModelLock]:
    """Make a model and its lock with the command."""
    model = folder / "model"
    model.mkdir(exist_ok=True)
    (model / "model.safetensors").write_bytes(weights)
    (model / "config.json").write_text("{}")
    path = folder / "model.lock"
    engine = ("--engine", "demo-engine==1", "--arg=--max-model-len=4096")
    done = attested(
        folder, "model", "lock", "model", "--name", "tiny", *engine, "-o", str(path), "--force"
    )
    assert done.returncode == 0, done.stderr
    return path, parse_model_lock(path.read_bytes())


def bundle_of(served: Served, *, stream: bool = False) -> str:
    """Ask, wait until the receipt is anchored, and keep its bundle in the gateway's folder."""
    headers = {"authorization": f"Bearer {served.key}"}
    with httpx2.Client(base_url=served.url, headers=headers, trust_env=False, timeout=60) as client:
        answer = client.post(CHAT, json=QUESTION | {"stream": stream}).raise_for_status()
        path = f"/v1/receipts/{answer.headers['x-receipt-id']}"
        bundle = client.get(path, params={"format": "bundle", "wait": "anchored"})
    name = f"bundle-{stream}.json"
    (served.folder / name).write_bytes(bundle.raise_for_status().content)
    return name


def policy(served: Served, lock: ModelLock, *, model: str | None = None) -> str:
    """A policy that demands both checks and pins the model."""
    text = served.policy().replace(b"[log]", REQUIRED)
    text += f'model = "{model or lock.digest.hex}"\n'.encode()
    (served.folder / "policy.toml").write_bytes(text)
    return "policy.toml"


def verify(served: Served, *arguments: str) -> tuple[int, dict[str, dict[str, str]]]:
    """Verify in a process of its own; exit code and, by id, the checks of the receipt."""
    root = str(served.boot / "root.pem")
    done = attested(served.folder, "verify", *arguments, "--root", root, "--json")
    checks = json.loads(done.stdout)["checks"]
    about = {one["id"]: one for one in checks if one["subject"].startswith("receipt")}
    return done.returncode, about


@pytest.mark.parametrize("stream", [False, True])
def test_receipt_of_a_locked_model_satisfies_a_policy_that_demands_it(
    serve: Serve, standin: Engines, tmp_path: Path, *, stream: bool
) -> None:
    path, lock = locked(tmp_path)
    engine = standin(uds=str(tmp_path / "engine.sock"))
    served = serve(engine, model={"lock": str(path)})
    name = bundle_of(served, stream=stream)
    (item,) = parse_bundle((served.folder / name).read_bytes()).receipts
    claims = item.receipt.claims
    assert lock.engine is not None
    assert (claims.model.digest, claims.model.engine) == (lock.digest, "demo-engine/1")
    assert claims.model.configuration == lock.engine.arguments_digest
    code, checks = verify(served, name, "--policy", policy(served, lock))
    assert code == 15
    assert checks["MODEL"]["status"] == checks["ENGINE-LOCAL"]["status"] == "pass"


def test_another_lock_and_a_policy_for_another_model_are_refused(
    serve: Serve, standin: Engines, tmp_path: Path
) -> None:
    path, lock = locked(tmp_path)
    served = serve(standin(uds=str(tmp_path / "engine.sock")), model={"lock": str(path)})
    name = bundle_of(served)
    path, other = locked(tmp_path, weights=b"quantised")
    grounds = ("--policy", policy(served, lock))
    code, checks = verify(served, name, *grounds, "--model-lock", str(path))
    assert (code, checks["MODEL"]["status"]) == (10, "fail")
    path, _ = locked(tmp_path)
    code, checks = verify(served, name, *grounds, "--model-lock", str(path))
    assert (code, checks["MODEL"]["reason"].startswith("the given lock")) == (15, True)
    assert verify(served, name, "--policy", policy(served, lock, model=other.digest.hex))[0] == 11


def test_gateway_that_measured_nothing_does_not_satisfy_that_policy(
    serve: Serve, standin: Engines, tmp_path: Path
) -> None:
    _, lock = locked(tmp_path)
    served = serve(standin(uds=str(tmp_path / "engine.sock")))
    name = bundle_of(served)
    text = served.policy().replace(b"[log]", REQUIRED)
    (served.folder / "policy.toml").write_bytes(text)
    code, checks = verify(served, name, "--policy", "policy.toml")
    assert code == 12
    assert checks["MODEL"]["status"] == checks["ENGINE-LOCAL"]["status"] == "skip"
    assert verify(served, name, "--policy", policy(served, lock))[0] == 11


def test_platform_without_rtmr3_names_no_model(
    serve: Serve, standin: Engines, tmp_path: Path
) -> None:
    path, lock = locked(tmp_path)
    served = serve(
        standin(uds=str(tmp_path / "engine.sock")),
        model={"lock": str(path)},
        evidence={"provider": "simulated:?rtmr3=off"},
    )
    bundle = parse_bundle((served.folder / bundle_of(served)).read_bytes())
    assert bundle.boots[0].statement.model_digest is None
    assert bundle.receipts[0].receipt.claims.model.digest is None
    (event,) = [event for event in served.events if event["event"] == "model.unmeasured"]
    assert event["digest"] == lock.digest.hex


def refused_start(folder: Path, engine: str, **tables: dict[str, object]) -> str:
    """Start a gateway that must not come up; return what it said."""
    write_config(folder, engine, **tables)
    served = start(folder)
    assert served.process.wait(60) != 0
    return served.stderr


def test_lock_for_an_engine_that_is_reached_over_tcp_prevents_the_start(tmp_path: Path) -> None:
    path, _ = locked(tmp_path)
    told = refused_start(tmp_path, "http://127.0.0.1:9", model={"lock": str(path)})
    assert "set upstream.uds" in told


def test_lock_of_another_engine_prevents_the_start(tmp_path: Path) -> None:
    path, _ = locked(tmp_path)
    told = refused_start(
        tmp_path,
        f"unix:{tmp_path}/engine.sock",
        model={"lock": str(path)},
        upstream={"engine": "vllm/0.32.0"},
    )
    assert "demo-engine/1" in told
