"""A gateway in a dstack guest: its bundle carries dstack's log, and an auditor judges both."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.encoding.jcs import canonicalize
from attestation.tdx.collateral import encode_dcap_collateral
from gateway.attester.simulated.platform import SimulatedPlatform
from tests.e2e.conftest import Engines, Serve
from tests.support.dstack import DstackAgent, Guest, dstack_guest, runtime_digest
from tests.support.serving import Served, add_key, attested, start, write_config

pytestmark = pytest.mark.slow

SIMULATED, UNAVAILABLE, NOT_ACCEPTED, REJECTED = 15, 14, 11, 10
ENGINE = "http://127.0.0.1:9"
Events = list[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A folder with the guest's socket, its platform's endorsements and its root."""

    folder: Path
    agent: DstackAgent

    @property
    def evidence(self) -> dict[str, Any]:
        return {
            "provider": f"dstack:{self.folder}/dstack.sock",
            "collateral_file": "collateral.json",
        }

    def verify(self, bundle: Path, policy: str) -> tuple[int, dict[str, Any]]:
        """Exit code, and the check EVENT-LOG of the result."""
        (self.folder / "policy.toml").write_text(policy)
        done = attested(
            self.folder,
            *("verify", str(bundle), "--policy", "policy.toml", "--root", "root.pem", "--json"),
        )
        assert done.stdout, done.stderr
        document = json.loads(done.stdout)
        checks = [check for check in document["checks"] if check["id"] == "EVENT-LOG"]
        return done.returncode, checks[-1] if checks else document


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    platform = SimulatedPlatform(now=int(time.time()))
    guest = Guest(platform=platform)
    (tmp_path / "collateral.json").write_bytes(encode_dcap_collateral(platform.collateral()))
    (tmp_path / "root.pem").write_bytes(platform.anchor.certificate.public_bytes(Encoding.PEM))
    with dstack_guest(tmp_path / "dstack.sock", DstackAgent(guest)) as agent:
        yield Place(folder=tmp_path, agent=agent)


def bundle_of(served: Served) -> Path:
    """The bundle of one answer, anchored."""
    headers = {"authorization": f"Bearer {served.key}"}
    body = {"model": "stand-in-1", "messages": [{"role": "user", "content": "hello"}]}
    with httpx2.Client(base_url=served.url, trust_env=False, headers=headers) as client:
        answer = client.post("/v1/chat/completions", json=body)
        assert answer.status_code == 200, answer.text
        jti = answer.headers["x-receipt-id"]
        bundle = client.get(f"/v1/receipts/{jti}?wait=anchored&format=bundle", timeout=40)
    assert bundle.status_code == 200, bundle.text
    path = served.folder / "bundle.json"
    path.write_bytes(bundle.content)
    return path


def policy(bundle: Path, events: Events, *, tdx: str = "", require_anchored: bool = True) -> str:
    """A tuple that pins the boot chain and lists dstack's own events."""
    boot = json.loads(bundle.read_bytes())["boots"][0]
    done = attested(bundle.parent, "inspect", str(bundle), "--json")
    quote = json.loads(done.stdout)["content"]["boots"][0]["quote"]
    pins = "".join(f'{name} = "{quote[name]}"\n' for name in ("mrtd", "rtmr0", "rtmr1", "rtmr2"))
    listed = ", ".join(f'{{ name = "{name}", digest = "{digest}" }}' for name, digest in events)
    return (
        f'schema = "appraisal-policy/1"\n[tdx]\ntcb_status = ["UpToDate"]\n{tdx}'
        f"[log]\nrequire_anchored = {str(require_anchored).lower()}\n"
        f'[[reference_values]]\nname = "this image"\n{pins}rtmr3 = "replay"\n'
        f'config_digest = "{boot["statement"]["config_digest"]}"\n'
        + (f"events = [{listed}]\n" if events else "")
    )


def changed(bundle: Path, change: Callable[[list[Any]], object]) -> Path:
    """The bundle with another log."""
    document = json.loads(bundle.read_bytes())
    change(document["boots"][0]["event_log"]["data"])
    path = bundle.with_name("changed.json")
    path.write_bytes(canonicalize(document))
    return path


def test_bundle_from_a_dstack_guest_verifies_by_a_policy_that_lists_dstacks_events(
    place: Place, serve: Serve, standin: Engines
) -> None:
    guest = place.agent.guest
    own = guest.own_events
    served = serve(standin(), folder=place.folder, evidence=place.evidence)
    bundle = bundle_of(served)
    log = json.loads(bundle.read_bytes())["boots"][0]["event_log"]
    assert log["format"] == "dstack"
    assert [(e["event"], e["digest"]) for e in log["data"] if e["imr"] == 3] == guest.own_events
    assert guest.own_events[:-1] == own
    assert guest.own_events[-1][0] == "receipt.key"

    code, check = place.verify(bundle, policy(bundle, own))
    assert (code, check["status"]) == (SIMULATED, "pass"), check

    other_app = runtime_digest("compose-hash", b"other").hex()
    for listed, reason in (
        (own[:-1], "does not list"),
        ([], "does not list"),
        ([own[1], own[0], *own[2:]], "another order"),
        ([*own[:2], ("compose-hash", other_app), *own[3:]], "another event than"),
        ([*own, ("foreign", "00" * 48)], "was not measured"),
    ):
        code, check = place.verify(bundle, policy(bundle, listed))
        assert (code, check["status"]) == (NOT_ACCEPTED, "fail"), listed
        assert reason in check["reason"]

    for lie in (
        lambda log: log.pop(),
        lambda log: log.pop(-4),
        lambda log: log.insert(-1, log.pop(-3)),
        lambda log: log.append(log[-1]),
        lambda log: log.__setitem__(-7, log[-7] | {"digest": other_app}),
    ):
        code, check = place.verify(changed(bundle, lie), policy(bundle, own))
        assert (code, check["status"]) == (REJECTED, "fail")


def test_agent_that_extends_nothing_leaves_keys_unbound_and_only_a_policy_that_says_so_takes_them(
    place: Place, serve: Serve, standin: Engines
) -> None:
    place.agent.version = "0.6.0"
    own = place.agent.guest.own_events
    evidence = place.evidence
    evidence["provider"] += "?rtmr3=off"
    bundle = bundle_of(serve(standin(), folder=place.folder, evidence=evidence))
    assert place.agent.guest.own_events == own

    code, check = place.verify(bundle, policy(bundle, own))
    assert (code, check["status"]) == (REJECTED, "fail")
    unbound = 'unbound_keys = "allow"\n'
    code, check = place.verify(bundle, policy(bundle, own, tdx=unbound))
    assert (code, check["status"]) == (SIMULATED, "pass"), check
    code, check = place.verify(bundle, policy(bundle, own[:-1], tdx=unbound))
    assert (code, check["status"]) == (NOT_ACCEPTED, "fail")


def test_restart_in_one_guest_needs_a_policy_that_allows_a_second_key(
    place: Place, serve: Serve, standin: Engines
) -> None:
    guest = place.agent.guest
    own = guest.own_events
    engine = standin()
    serve(engine, folder=place.folder, evidence=place.evidence).stop()
    served = serve(engine, folder=place.folder, evidence=place.evidence)
    bundle = bundle_of(served)
    keys = [json.loads(bytes.fromhex(e["event_payload"])) for e in guest.log[-2:]]
    assert [key["n"] for key in keys] == [1, 2]

    code, check = place.verify(bundle, policy(bundle, own))
    assert (code, check["status"]) == (NOT_ACCEPTED, "fail")
    code, check = place.verify(bundle, policy(bundle, own, tdx="max_key_events = 2\n"))
    assert (code, check["status"]) == (SIMULATED, "pass"), check


def test_boot_ends_when_something_else_extends_the_register(
    place: Place, serve: Serve, standin: Engines
) -> None:
    served = serve(standin(), folder=place.folder, evidence=place.evidence)
    place.agent.guest.extend_unlogged(bytes(48))
    headers = {"authorization": f"Bearer {served.key}"}
    httpx2.get(f"{served.url}/v1/attestation?nonce={'ab' * 32}", trust_env=False, headers=headers)
    assert served.process.wait(60) == UNAVAILABLE
    assert "td_changed" in served.stderr


def refused_start(place: Place) -> str:
    write_config(place.folder, ENGINE, evidence=place.evidence)
    served = start(place.folder)
    assert served.process.wait(60) == UNAVAILABLE
    assert "Traceback" not in served.stderr
    return served.stderr


def test_start_is_refused_where_the_log_does_not_account_for_the_register(place: Place) -> None:
    place.agent.guest.extend_unlogged(bytes(48))
    assert "does not account for RTMR3" in refused_start(place)


def test_start_is_refused_where_a_foreign_event_followed_an_earlier_key(place: Place) -> None:
    content = b'{"bootseed":"%s","event":"receipt.key","keyset_digest":"%s","n":1}'
    place.agent.guest.emit("receipt.key", content % (b"00" * 32, b"11" * 32))
    place.agent.guest.emit("foreign", b"")
    text = refused_start(place)
    assert "cannot go on" in text or "can go on with" in text
    assert "foreign" in text


def test_start_is_refused_where_the_agent_extends_nothing(place: Place) -> None:
    place.agent.version = "0.6.0"
    assert "rtmr3=off" in refused_start(place)


def test_start_is_refused_without_the_socket(tmp_path: Path) -> None:
    write_config(tmp_path, ENGINE, evidence={"provider": f"dstack:{tmp_path}/none.sock"})
    add_key(tmp_path)
    done = attested(tmp_path, "serve", "--config", "gateway.toml")
    assert done.returncode == UNAVAILABLE
    assert b"there is no dstack agent's socket" in done.stderr
