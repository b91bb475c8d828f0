"""Renewed endorsements reach the workers, over a real socket and in real processes."""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from attestation.tdx.anchor import parse_anchor
from attestation.tdx.collateral import Collateral
from attestation.tdx.endorsements import parse_endorsements
from gateway.attester.simulated.facts import DAY, Endorsements
from gateway.attester.simulated.platform import SimulatedPlatform
from gateway.attester.simulated.provider import SimulatedProvider
from gateway.cli.local.loop import LoopThread
from gateway.cli.main import main
from gateway.endorsements.store import EndorsementStore
from gateway.engine.standin import StandInEngine
from gateway.notary.local import LocalNotary
from gateway.notary.wire.client import RemoteNotary
from gateway.notary.wire.frames import Kind, encode_frame
from gateway.notary.wire.server import WireServer
from gateway.notary.wire.socket import bind_notary_socket
from tests.endorsements.pcs import serving
from tests.support.notaries import notary_parts
from tests.support.serving import Served, wait_until
from tests.support.serving import serving as serving_gateway

SEED = "5e" * 32
# A minute lies between two looks of a notary; not in this one.
SHORT_LOOKS = {"PYTHONPATH": str(Path(__file__).parents[1] / "support" / "short_looks")}


def issued(platform: SimulatedPlatform, **changes: Any) -> Collateral:
    """Endorsements of this platform as of now, with other facts in them."""
    made = platform.but(endorsements=Endorsements(**changes))
    return made.collateral(at=int(time.time()))


def _introduce(servers: list[WireServer]) -> None:
    for server in servers:
        server.introduce()


async def test_worker_sees_the_renewal_and_goes_on(tmp_path: Path) -> None:
    platform = SimulatedPlatform(now=int(time.time()))
    store = EndorsementStore(tmp_path / "store")
    store.add(parse_endorsements(issued(platform)))
    servers: list[WireServer] = []
    parts = notary_parts(
        tmp_path,
        provider=SimulatedProvider(platform),
        endorsements=store,
        on_renewal=lambda: _introduce(servers),
    )
    notary = await LocalNotary.start(parts)
    server = WireServer(notary, bind_notary_socket(tmp_path / "notary.sock"))
    servers.append(server)
    await server.start()
    remote = await RemoteNotary.connect(tmp_path / "notary.sock")
    try:
        newer = issued(platform, evaluation_number=44, qe_evaluation_number=44)
        assert remote.boot == notary.boot
        store.add(parse_endorsements(newer))
        await notary._renewal.look()
        async with asyncio.timeout(60):
            while remote.boot.collateral != newer:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        assert remote.boot == notary.boot
        assert remote.healthy
        # A notary that turned into another one in mid-connection is none.
        elsewhere = replace(
            parts, data_dir=tmp_path / "other", provider=SimulatedProvider(platform)
        )
        other = await LocalNotary.start(elsewhere)
        server.notary = other
        server.introduce()
        async with asyncio.timeout(60):
            while remote.healthy:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        assert remote.reason == "notary_lost"
        server.notary = notary
        await other.close()
    finally:
        await remote.close()
        await server.close()
        await notary.close()


async def test_frame_that_is_no_hello_in_its_place_ends_the_connection(tmp_path: Path) -> None:
    notary = await LocalNotary.start(notary_parts(tmp_path))
    server = WireServer(notary, bind_notary_socket(tmp_path / "notary.sock"))
    await server.start()
    remote = await RemoteNotary.connect(tmp_path / "notary.sock")
    try:
        (connection,) = server._connections
        connection._require_transport().write(encode_frame(Kind.HELLO, 0, b"[]"))
        async with asyncio.timeout(60):
            while remote.healthy:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
    finally:
        await remote.close()
        await server.close()
        await notary.close()


@pytest.mark.slow
def test_operator_fetches_and_every_worker_of_the_running_gateway_shows_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "endorsements"
    store.mkdir()
    evidence = {"provider": f"simulated:?seed={SEED}", "endorsements": "endorsements"}
    with ExitStack() as stack:
        engine, loop = StandInEngine(), stack.enter_context(LoopThread())
        address = loop.call(engine.start())
        stack.callback(lambda: loop.call(engine.close()))
        served = stack.enter_context(
            serving_gateway(
                tmp_path, address, "--workers", "2", evidence=evidence, variables=SHORT_LOOKS
            )
        )
        newer = renewed(served)
        assert shown(served) != newer.digest.hex
        with serving(newer) as double:
            root = ["--root", str(served.boot / "root.pem")]
            base = ["--from", double.url, "--store", str(store), *root]
            assert main(["endorsements", "fetch", "--gateway", served.url, *base]) == 0
        assert newer.digest.hex in capsys.readouterr().out
        ask(served)
        # Connections are spread over the workers: each of them is told, in its turn.
        wait_until(lambda: {shown(served) for _ in range(12)} == {newer.digest.hex})
        assert served.metrics()["attested_endorsements_seconds_left"] > 29 * DAY
        assert served.stop() == 0
    chosen = [one for one in served.events if one["event"] == "endorsements.chosen"]
    assert [one["digest"] for one in chosen] == [newer.digest.hex]


def renewed(served: Served) -> Collateral:
    """What the platform of this gateway will get next; its keys follow from the seed."""
    root = parse_anchor((served.boot / "root.pem").read_bytes()).certificate
    made = int(root.not_valid_before_utc.timestamp()) + DAY
    platform = SimulatedPlatform(now=made, seed=bytes.fromhex(SEED))
    return issued(platform, evaluation_number=44, qe_evaluation_number=44)


def shown(served: Served) -> str:
    """The endorsements that one worker names, on a connection of its own."""
    answer = httpx2.get(f"{served.url}/v1/attestation", trust_env=False, timeout=60)
    return str(answer.json()["boot"]["collateral"])


def ask(served: Served) -> None:
    answer = httpx2.post(
        f"{served.url}/v1/chat/completions",
        json={"model": "stand-in-1", "messages": [{"role": "user", "content": "x"}]},
        headers={"authorization": f"Bearer {served.key}"},
        trust_env=False,
        timeout=60,
    )
    assert answer.status_code == 200
