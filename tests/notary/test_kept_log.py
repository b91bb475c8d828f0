"""Starts behind a log that the platform keeps: what goes on, what a restart may not change."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from attestation.encoding.digest import Digest
from attestation.errors import UnavailableError
from attestation.statement.model_lock import MeasuredModel
from attestation.tdx.eventlog import KeyEvent, MeasuredEvent
from attestation.tdx.quote import parse_quote
from attestation.verifier.model import measured_digests
from gateway.attester.base import open_provider
from gateway.attester.dstack import DstackProvider
from gateway.notary.boot import BootPlan, BootSecrets, start_boot
from gateway.notary.kept_log import (
    extend_kept_log,
    key_events,
    require_kept_log,
)
from tests.support.dstack import OWN_EVENTS, DstackAgent, Guest, dstack_guest

SEEDS = [bytes([n]) * 32 for n in range(4)]
KEYSET = Digest.of(b"keyset")
MODEL = MeasuredEvent(name="model.lock", sha256=Digest.of(b"model"))
ARGUMENTS = MeasuredEvent(name="engine.args", sha256=Digest.of(b"arguments"))
OWN = [name for name, _ in OWN_EVENTS]


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[DstackAgent]:
    with dstack_guest(tmp_path / "dstack.sock", DstackAgent(Guest())) as served:
        yield served


@pytest.fixture
def provider(agent: DstackAgent, tmp_path: Path) -> DstackProvider:
    opened = open_provider(f"dstack:{tmp_path}/dstack.sock")
    assert isinstance(opened, DstackProvider)
    return opened


def begin(provider: DstackProvider, seed: bytes, *measured: MeasuredEvent) -> KeyEvent:
    return extend_kept_log(
        provider, provider.event_log(), measured=measured, bootseed=seed, keyset_digest=KEYSET
    )


def names(provider: DstackProvider) -> list[str]:
    return [event.name for event in provider.event_log().parse().of(3)]


def test_model_goes_before_the_keys_and_both_behind_the_platforms_own_events(
    provider: DstackProvider,
) -> None:
    key = begin(provider, SEEDS[0], MODEL, ARGUMENTS)
    assert names(provider) == [*OWN, "model.lock", "engine.args", "receipt.key"]
    contents = [event.content for event in provider.event_log().parse().of(3)[-3:]]
    assert contents == [MODEL.content, ARGUMENTS.content, key.content]
    assert key_events(provider.event_log()) == (key,)


def test_restart_adds_a_key_alone_and_counts_on(provider: DstackProvider) -> None:
    first = begin(provider, SEEDS[0], MODEL, ARGUMENTS)
    second = begin(provider, SEEDS[1], MODEL, ARGUMENTS)
    assert (first.n, second.n) == (1, 2)
    assert names(provider)[-4:] == ["model.lock", "engine.args", "receipt.key", "receipt.key"]
    assert key_events(provider.event_log()) == (first, second)


@pytest.mark.parametrize(
    "measured",
    [
        (ARGUMENTS, MODEL),
        (MODEL, MeasuredEvent(name="engine.args", sha256=Digest.of(b"others"))),
        (MeasuredEvent(name="model.lock", sha256=Digest.of(b"other")), ARGUMENTS),
        (MODEL,),
    ],
)
def test_restart_with_another_model_is_refused_and_extends_nothing(
    provider: DstackProvider, agent: DstackAgent, measured: tuple[MeasuredEvent, ...]
) -> None:
    begin(provider, SEEDS[0], MODEL, ARGUMENTS)
    before = list(agent.guest.registers)
    with pytest.raises(UnavailableError) as caught:
        begin(provider, SEEDS[1], *measured)
    assert caught.value.code == "rtmr3"
    assert agent.guest.registers == before


def test_model_measured_for_the_first_time_after_keys_is_refused(
    provider: DstackProvider, agent: DstackAgent
) -> None:
    begin(provider, SEEDS[0])
    before = list(agent.guest.registers)
    with pytest.raises(UnavailableError):
        begin(provider, SEEDS[1], MODEL)
    assert agent.guest.registers == before


def test_start_that_died_half_way_is_gone_on_with(provider: DstackProvider) -> None:
    provider.extend_rtmr3(MODEL.digest, name=MODEL.name, content=MODEL.content)
    begin(provider, SEEDS[0], MODEL, ARGUMENTS)
    assert names(provider) == [*OWN, "model.lock", "engine.args", "receipt.key"]


@pytest.mark.parametrize(
    ("events", "seen"),
    [
        ([("receipt.key", b"{}")], ""),
        ([("receipt.key", b"not json")], ""),
        ([("receipt.key", None), ("foreign", b"")], "foreign"),
        ([("receipt.key", None), ("receipt.key", None)], "n = 1"),
        ([("receipt.key", 2)], "n = 2"),
    ],
)
def test_log_with_keys_that_do_not_count_is_not_gone_on_with(
    provider: DstackProvider,
    agent: DstackAgent,
    events: list[tuple[str, bytes | int | None]],
    seen: str,
) -> None:
    for name, payload in events:
        n = payload if isinstance(payload, int) else 1
        content = KeyEvent(bootseed=SEEDS[3], keyset_digest=KEYSET, n=n).content
        agent.guest.emit(name, payload if isinstance(payload, bytes) else content)
    before = list(agent.guest.registers)
    with pytest.raises(UnavailableError) as caught:
        begin(provider, SEEDS[0])
    assert seen in caught.value.observed
    assert agent.guest.registers == before


def plan(model: MeasuredModel | None) -> BootPlan:
    return BootPlan(
        name="gw.test",
        config_digest=Digest.of(b"config"),
        tls_spki=(),
        not_after=2_000_000_000,
        now=1_763_668_800,
        model=model,
    )


def model_of(weights: bytes) -> MeasuredModel:
    return MeasuredModel(
        digest=Digest.of(weights), engine="vllm/0.32.0", arguments_digest=Digest.of(b"arguments")
    )


def test_boot_shows_the_platforms_log_with_model_and_keys_at_its_end(
    provider: DstackProvider, agent: DstackAgent
) -> None:
    started = start_boot(provider, plan(model_of(b"weights")), BootSecrets.draw())
    record = started.evidence.event_log
    assert record is not None
    assert record.format == "dstack"
    assert [event["event"] for event in record.data][-3:] == [  # type: ignore[union-attr,index]
        "model.lock",
        "engine.args",
        "receipt.key",
    ]
    named = measured_digests(started.evidence, started.quote)
    assert (named.model, started.evidence.statement.model_digest) == (
        Digest.of(b"weights"),
        Digest.of(b"weights"),
    )
    assert list(started.quote.body.rtmrs) == agent.guest.registers


@pytest.mark.parametrize("weights", [b"others", None])
def test_boot_with_another_model_than_an_earlier_one_does_not_start(
    provider: DstackProvider, weights: bytes | None
) -> None:
    start_boot(provider, plan(model_of(b"weights")), BootSecrets.draw())
    start_boot(provider, plan(model_of(b"weights")), BootSecrets.draw())
    with pytest.raises(UnavailableError) as caught:
        start_boot(provider, plan(model_of(weights) if weights else None), BootSecrets.draw())
    assert caught.value.code == "rtmr3"


def test_boot_that_may_not_extend_shows_the_platforms_log_as_it_is(
    agent: DstackAgent, tmp_path: Path
) -> None:
    before = list(agent.guest.registers)
    provider = open_provider(f"dstack:{tmp_path}/dstack.sock?rtmr3=off")
    started = start_boot(provider, plan(model_of(b"weights")), BootSecrets.draw())
    assert agent.guest.registers == before
    assert started.evidence.event_log is not None
    assert started.evidence.statement.model_digest is None


def test_log_must_replay_to_the_quote_that_it_goes_with(
    provider: DstackProvider, agent: DstackAgent
) -> None:
    key = begin(provider, SEEDS[0])
    record = provider.event_log()
    quote = parse_quote(agent.guest.quote(bytes(64)))
    require_kept_log(record, quote, key)
    require_kept_log(record, quote, None)
    agent.guest.emit("later", b"")
    with pytest.raises(UnavailableError) as caught:
        require_kept_log(record, parse_quote(agent.guest.quote(bytes(64))), key)
    assert "RTMR3" in caught.value.expected


def test_log_must_end_with_the_keys_of_this_start(
    provider: DstackProvider, agent: DstackAgent
) -> None:
    key = begin(provider, SEEDS[0])
    agent.guest.emit("foreign", b"")
    quote = parse_quote(provider.quote(bytes(64)))
    with pytest.raises(UnavailableError) as caught:
        require_kept_log(provider.event_log(), quote, key)
    assert caught.value.observed == "foreign"
