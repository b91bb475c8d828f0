"""The simulated provider behaves like a trust domain: its register only grows."""

from __future__ import annotations

import hashlib
import threading

import pytest

from attestation.errors import UnavailableError, UsageError
from attestation.tdx.dcap import verify_quote
from attestation.tdx.eventlog import parse_gateway_events, replay
from attestation.tdx.quote import parse_quote
from gateway.attester.base import QuoteProvider
from gateway.attester.simulated.facts import DAY
from gateway.attester.simulated.platform import SimulatedPlatform
from gateway.attester.simulated.provider import SimulatedProvider
from tests.refusals import refusal

NOW = 1_760_000_000


def provider(**options: object) -> SimulatedProvider:
    platform = SimulatedPlatform(now=NOW, seed=b"provider")
    return SimulatedProvider(platform, clock=lambda: NOW, **options)  # type: ignore[arg-type]


def extend(one: SimulatedProvider, digest: bytes) -> None:
    one.extend_rtmr3(digest, name="test", content=b"what was measured")


def sha384(data: bytes) -> bytes:
    return hashlib.sha384(data).digest()


def test_provider_speaks_the_protocol() -> None:
    one: QuoteProvider = provider()
    assert one.name == "simulated"
    assert one.can_extend_rtmr3 is True


def test_quotes_show_the_register_as_it_is_now() -> None:
    one = provider()
    assert one.read_rtmr3() == bytes(48)
    value = bytes(48)
    for digest in (sha384(b"1"), sha384(b"2")):
        extend(one, digest)
        value = sha384(value + digest)
        assert one.read_rtmr3() == value
        assert parse_quote(one.quote(bytes(64))).body.rtmrs[3] == value


def test_other_registers_stay_as_they_were() -> None:
    one = provider()
    before = parse_quote(one.quote(bytes(64))).body
    extend(one, sha384(b"1"))
    after = parse_quote(one.quote(bytes(64))).body
    assert before.rtmrs[:3] == after.rtmrs[:3]
    assert before.mrtd == after.mrtd


def test_register_replays_from_the_gateways_own_log() -> None:
    event = {"bootseed": "01" * 32, "event": "receipt.key", "keyset_digest": "02" * 32, "n": 0}
    log, one = parse_gateway_events([event]), provider()
    extend(one, log.events[0].digest)
    assert replay(log)[3] == one.read_rtmr3()


def test_report_data_is_quoted() -> None:
    data = bytes(range(64))
    assert parse_quote(provider().quote(data)).body.report_data == data


@pytest.mark.parametrize("size", [0, 32, 63, 65])
def test_report_data_of_another_size_is_a_usage_error(size: int) -> None:
    assert refusal(provider().quote, bytes(size), error=UsageError) == "length"


@pytest.mark.parametrize("size", [0, 32, 47, 49])
def test_register_digest_of_another_size_is_a_usage_error(size: int) -> None:
    one = provider()
    assert refusal(extend, one, bytes(size), error=UsageError) == "length"
    assert one.read_rtmr3() == bytes(48)


def test_platform_without_the_register_neither_extends_nor_reads() -> None:
    one = provider(can_extend_rtmr3=False)
    assert refusal(extend, one, bytes(48), error=UnavailableError) == "rtmr3"
    assert one.read_rtmr3() is None
    assert parse_quote(one.quote(bytes(64))).body.rtmrs[3] == bytes(48)


def test_quote_takes_the_time_it_is_told_to() -> None:
    slept: list[float] = []
    provider(latency=0.5, sleep=slept.append).quote(bytes(64))
    assert slept == [0.5]
    provider(sleep=slept.append).quote(bytes(64))
    assert slept == [0.5]


def test_collateral_is_issued_when_it_is_asked_for() -> None:
    platform = SimulatedPlatform(now=NOW, seed=b"provider")
    later = NOW + 400 * DAY
    one = SimulatedProvider(platform, clock=lambda: later)
    quote = parse_quote(one.quote(bytes(64)))
    genuine = verify_quote(quote, one.collateral(), later, one.anchor())
    assert genuine.holds.issued == later - 3600
    assert genuine.holds.until == later + 30 * DAY - 1


def test_extensions_from_many_threads_are_all_counted() -> None:
    one, digests = provider(), [sha384(bytes([number])) for number in range(32)]
    threads = [threading.Thread(target=extend, args=(one, digest)) for digest in digests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other = provider()
    for digest in digests:
        extend(other, digest)
    assert one.read_rtmr3() != bytes(48)
    assert len(one.read_rtmr3() or b"") == 48
    assert parse_quote(one.quote(bytes(64))).body.rtmrs[3] == one.read_rtmr3()
