"""EVENT-LOG and what an image measured: events against the statement, and events it only lists."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from attestation.bundle import EventLogRecord
from attestation.encoding.digest import Digest
from attestation.errors import MalformedError
from attestation.policy import parse_policy
from attestation.result import AttestationResult, Status, Verdict
from attestation.statement import BootStatement, log_origin, parse_boot_statement
from attestation.tdx.launch import LAUNCH_ORDER, READY, require_launch_order
from attestation.tdx.quote import parse_quote
from attestation.tdx.runtime import MeasuredEvent
from tests.support.bundles import CONFIG_DIGEST, Gateway, failed, the_check
from tests.verifier.events import KEY, dstack_item, judged
from tests.verifier.events import listing as listing_of

CONFIG = MeasuredEvent(name="gateway.config", sha256=CONFIG_DIGEST)
OTHER_CONFIG = MeasuredEvent(name="gateway.config", sha256=Digest.of(b"other settings"))
PACKAGE = MeasuredEvent(name="gateway.package", sha256=Digest.of(b"package"))
GPU = MeasuredEvent(name="gpu.evidence", sha256=Digest.of(b"gpu"))
ALLOW = 'unbound_keys = "allow"'


def listing(*events: MeasuredEvent) -> str:
    listed = (f'{{ name = "{e.name}", digest = "{e.digest.hex()}" }}' for e in events)
    return f"[{', '.join(listed)}]"


def verdict(gateway: Gateway, *listed: MeasuredEvent, tdx: str = "") -> AttestationResult:
    pins = {"events": listing(*listed)} if listed else {}
    return gateway.verify(policy=gateway.policy(tdx=tdx, **pins))


def without_events(gateway: Gateway, register: bytes) -> bytes:
    """A policy that takes unbound keys and pins the value of RTMR3."""
    text = gateway.policy_toml(tdx=ALLOW, rtmr3=f'"{register.hex()}"')
    lines = [line for line in text.splitlines() if not line.startswith("events =")]
    return "\n".join(lines).encode()


def unextended(*events: MeasuredEvent, **changes: Any) -> Gateway:
    """A boot on a platform that lets nobody extend RTMR3, whose statement lists these events."""
    return Gateway(event_log=False, statement_changes={"unextended": events, **changes})


# -- measured ---------------------------------------------------------------------------------


def test_event_of_the_stated_settings_is_accepted() -> None:
    gateway = Gateway(measured=(CONFIG, PACKAGE))
    assert the_check(verdict(gateway, CONFIG, PACKAGE), "EVENT-LOG").status is Status.PASS


def test_statement_of_other_settings_than_were_measured_is_rejected() -> None:
    result = verdict(Gateway(measured=(OTHER_CONFIG,)), OTHER_CONFIG)
    assert "EVENT-LOG" in failed(result)
    found = the_check(result, "EVENT-LOG")
    assert "contradicts the event gateway.config" in found.reason
    assert result.verdict is Verdict.REJECTED


@pytest.mark.parametrize("stated", [None, Digest.of(b"other")])
def test_statement_of_other_gpu_evidence_than_was_measured_is_rejected(
    stated: Digest | None,
) -> None:
    gateway = Gateway(measured=(GPU,), statement_changes={"gpu_digest": stated})
    assert "gpu.evidence" in the_check(verdict(gateway, GPU), "EVENT-LOG").reason


def test_statement_cannot_list_events_beside_a_register_that_was_extended() -> None:
    gateway = Gateway(measured=(PACKAGE,), statement_changes={"unextended": (PACKAGE,)})
    result = verdict(gateway, PACKAGE)
    assert result.verdict is Verdict.REJECTED
    assert "nothing could extend RTMR3" in the_check(result, "EVENT-LOG").reason


@pytest.mark.parametrize("kind", [0x08000001, 0x08000002], ids=["proven", "unproven"])
@pytest.mark.parametrize("event", [CONFIG, OTHER_CONFIG], ids=["same", "other"])
def test_log_of_another_maker_hides_no_contradiction(kind: int, event: MeasuredEvent) -> None:
    item = dstack_item(event) | {"event_type": kind}
    true = EventLogRecord(format="dstack", data=[dstack_item(event), dstack_item(KEY)])
    shown = replace(true, data=[item, dstack_item(KEY)])
    result = judged(shown, true, events=listing_of(event, log_format="dstack"))
    assert ("EVENT-LOG" in failed(result)) == (event is OTHER_CONFIG)
    if event is OTHER_CONFIG:
        assert "contradicts the event gateway.config" in the_check(result, "EVENT-LOG").reason


# -- only listed ------------------------------------------------------------------------------


def test_listed_events_are_not_accepted_unless_the_policy_takes_unbound_keys() -> None:
    result = verdict(unextended(CONFIG, PACKAGE), CONFIG, PACKAGE)
    assert result.verdict is Verdict.NOT_ACCEPTED
    assert "does not bind" in the_check(result, "EVENT-LOG").reason


def test_listed_events_stand_for_measured_ones_where_unbound_keys_are_taken() -> None:
    result = verdict(unextended(CONFIG, PACKAGE), CONFIG, PACKAGE, tdx=ALLOW)
    found = the_check(result, "EVENT-LOG")
    assert found.status is Status.PASS
    assert "nor are the events that the statement lists" in found.reason


@pytest.mark.parametrize(
    "listed",
    [(), (CONFIG,), (PACKAGE, CONFIG), (OTHER_CONFIG, PACKAGE), (CONFIG, PACKAGE, GPU)],
    ids=["none", "fewer", "order", "other", "more"],
)
def test_policy_that_lists_other_events_does_not_accept_the_listed_ones(
    listed: tuple[MeasuredEvent, ...],
) -> None:
    result = verdict(unextended(CONFIG, PACKAGE), *listed, tdx=ALLOW)
    assert result.verdict is Verdict.NOT_ACCEPTED
    assert "EVENT-LOG" in failed(result)


def test_tuple_that_pins_an_untouched_register_lists_none_of_the_stated_events() -> None:
    gateway = unextended(CONFIG, PACKAGE)
    pinned = gateway.policy(tdx=ALLOW, rtmr3=f'"{"00" * 48}"')
    result = gateway.verify(policy=pinned)
    assert result.verdict is Verdict.NOT_ACCEPTED
    assert "EVENT-LOG" in failed(result)
    assert "EVENT-LOG" not in failed(unextended().verify(policy=pinned))


def test_statement_cannot_list_events_beside_a_pinned_register_whose_log_is_left_out() -> None:
    gateway = Gateway(measured=(CONFIG,), statement_changes={"unextended": (CONFIG,)})
    register = parse_quote(gateway.evidence.quote).body.rtmrs[3]
    boot = replace(gateway.evidence, event_log=None)
    policy = parse_policy(without_events(gateway, register))
    result = gateway.verify(bundle=gateway.bundle(boots=[boot]), policy=policy)
    assert result.verdict is Verdict.REJECTED
    assert "nothing could extend RTMR3" in the_check(result, "EVENT-LOG").reason


def test_listed_event_of_other_settings_than_the_statements_is_rejected() -> None:
    result = verdict(unextended(OTHER_CONFIG), OTHER_CONFIG, tdx=ALLOW)
    assert result.verdict is Verdict.REJECTED


# -- the statement ----------------------------------------------------------------------------

SEED = bytes(range(32))


def statement(*events: MeasuredEvent) -> BootStatement:
    return BootStatement(
        bootseed=SEED,
        keyset_digest=Digest.of(b"keyset"),
        log_origin=log_origin("gw", SEED),
        config_digest=CONFIG_DIGEST,
        time_claimed=1,
        unextended=events,
    )


def test_statement_without_such_events_has_no_member_for_them() -> None:
    assert "unextended" not in statement().to_json()
    assert parse_boot_statement(statement().to_json()) == statement()


def test_statement_with_such_events_is_read_back() -> None:
    one = statement(CONFIG, PACKAGE)
    assert one.to_json()["unextended"] == [CONFIG.to_json(), PACKAGE.to_json()]
    assert parse_boot_statement(one.to_json()) == one
    assert one.report_data != statement().report_data


@pytest.mark.parametrize(
    "value",
    [
        [],
        None,
        {},
        [CONFIG.to_json(), CONFIG.to_json()],
        [{**CONFIG.to_json(), "more": 1}],
        [{"event": "receipt.key", "sha256": "0" * 64}],
        [{"event": "UPPER", "sha256": "0" * 64}],
        [CONFIG.to_json()] * 10_001,
    ],
    ids=["empty", "null", "object", "twice", "open", "key", "name", "many"],
)
def test_statement_with_anything_else_there_is_malformed(value: object) -> None:
    with pytest.raises(MalformedError):
        parse_boot_statement(statement().to_json() | {"unextended": value})


# -- order ------------------------------------------------------------------------------------


def test_every_event_of_a_launch_may_be_there_in_its_order() -> None:
    require_launch_order(LAUNCH_ORDER)
    require_launch_order(())
    require_launch_order(LAUNCH_ORDER[1:6:2])
    require_launch_order(("of.another.maker", LAUNCH_ORDER[0], "more", READY))


@pytest.mark.parametrize("place", range(len(LAUNCH_ORDER) - 1))
def test_event_before_one_that_it_rests_on_is_refused(place: int) -> None:
    names = list(LAUNCH_ORDER)
    names[place], names[place + 1] = names[place + 1], names[place]
    with pytest.raises(MalformedError, match="order"):
        require_launch_order(names)


def test_nothing_follows_ready() -> None:
    with pytest.raises(MalformedError, match="order"):
        require_launch_order((READY, "of.another.maker"))
