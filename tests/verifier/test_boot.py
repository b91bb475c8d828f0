"""Measurements, event log, statement, keyset and predecessor of a boot."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any, cast

import pytest

from attestation.bundle import BootEvidence, EventLogRecord, make_bundle
from attestation.encoding import base64url, jcs
from attestation.encoding.digest import Digest
from attestation.merkle.checkpoint import Checkpoint
from attestation.merkle.note import sign_note, vkey_for
from attestation.policy import NO_POLICY, parse_policy
from attestation.result import AttestationResult, Status, Verdict
from attestation.statement import PreviousBoot
from attestation.tdx.eventlog import KeyEvent
from attestation.tdx.events import extend
from attestation.verifier import verify_boots
from gateway.attester.simulated.facts import Domain
from gateway.attester.simulated.platform import SimulatedPlatform
from tests.support.bundles import CONFIG_DIGEST, NOW, Gateway, failed, open_checks, the_check

HEALTHY = Gateway()
HEALTHY.plain()
OTHER = "ab" * 48
DIGEST = "cd" * 32


def refused(result: AttestationResult, verdict: Verdict, *ids: str) -> None:
    assert result.verdict is verdict
    assert failed(result) == set(ids)


# Measurements


@pytest.mark.parametrize(
    "pins",
    [
        {"mrconfigid": f'"{"00" * 48}"'},
        {"config_digest": f'"{CONFIG_DIGEST.hex}"'},
        {"origin": '"gateway.example"'},
        {
            "config_digest": f'"{CONFIG_DIGEST.hex}"',
            "origin": '"gateway.example"',
        },
    ],
)
def test_tuple_that_agrees_in_everything_is_accepted(pins: dict[str, str]) -> None:
    result = HEALTHY.verify(policy=HEALTHY.policy(**pins))
    assert result.verdict is Verdict.SIMULATED
    assert '"simulated"' in the_check(result, "MEASUREMENTS").reason


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *((key, OTHER) for key in ("mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3", "mrconfigid")),
        ("config_digest", DIGEST),
        ("origin", "gateway.exampl"),
        ("image", "registry/gateway:1"),
        ("model", DIGEST),
    ],
)
def test_tuple_that_differs_in_one_thing_is_not_accepted(key: str, value: str) -> None:
    result = HEALTHY.verify(policy=HEALTHY.policy(**{key: f'"{value}"'}))
    refused(result, Verdict.NOT_ACCEPTED, "MEASUREMENTS")
    check = the_check(result, "MEASUREMENTS")
    assert check.observed.startswith(f"{key} ")
    assert check.hint


@pytest.mark.parametrize(
    "domain",
    [
        Domain(mr_config_id=b"\x01" * 48),
        Domain(mr_owner=b"\x01" * 48),
        Domain(mr_owner_config=b"\x01" * 48),
    ],
)
def test_owner_fields_are_zero_by_default(domain: Domain) -> None:
    made = Gateway(platform=HEALTHY.machine.but(domain=domain))
    made.plain()
    refused(made.verify(), Verdict.NOT_ACCEPTED, "MEASUREMENTS")


def test_statement_facts_can_be_pinned() -> None:
    model = Digest.of(b"model")
    made = Gateway(statement_changes={"image": "gateway:1", "model_digest": model})
    made.plain()
    pins = {"image": '"gateway:1"', "model": f'"{model.hex}"'}
    assert made.verify(policy=made.policy(**pins)).verdict is Verdict.SIMULATED


def test_parts_of_two_tuples_do_not_make_one() -> None:
    first = HEALTHY.policy_toml(mrtd=f'"{OTHER}"')
    second = HEALTHY.policy_toml(rtmr0=f'"{OTHER}"', name='"second"')
    policy_text = first + second[second.index("[[reference_values]]") :]
    result = HEALTHY.verify(policy=_parse(policy_text))
    refused(result, Verdict.NOT_ACCEPTED, "MEASUREMENTS")
    assert "none of the 2" in the_check(result, "MEASUREMENTS").reason
    third = HEALTHY.policy_toml(name='"third"')
    policy_text += third[third.index("[[reference_values]]") :]
    result = HEALTHY.verify(policy=_parse(policy_text))
    assert result.verdict is Verdict.SIMULATED
    assert the_check(result, "MEASUREMENTS").reason == 'matches "third"'


def test_nearest_tuple_is_the_one_that_is_explained() -> None:
    far = HEALTHY.policy_toml(name='"far"', mrtd=f'"{OTHER}"', rtmr0=f'"{OTHER}"')
    near = HEALTHY.policy_toml(name='"near"', rtmr1=f'"{OTHER}"')
    text = far + near[near.index("[[reference_values]]") :]
    check = the_check(HEALTHY.verify(policy=_parse(text)), "MEASUREMENTS")
    assert '"near"' in check.reason
    assert check.observed.startswith("rtmr1 ")


@pytest.mark.parametrize("policy", [None, NO_POLICY])
def test_without_a_policy_nothing_is_accepted(policy: Any) -> None:
    result = HEALTHY.verify(policy=policy)
    assert result.verdict is Verdict.INCOMPLETE
    assert not failed(result)
    assert "MEASUREMENTS" in open_checks(result)
    assert "--policy" in the_check(result, "MEASUREMENTS").hint
    assert result.policy_digest is None


def _parse(text: str) -> Any:
    return parse_policy(text.encode())


# Event log


def with_boot(made: Gateway, **changes: Any) -> AttestationResult:
    boot = replace(made.evidence, **changes)
    return made.verify(bundle=made.bundle(boots=[boot]))


def log_of(*events: KeyEvent) -> EventLogRecord:
    return EventLogRecord(format="attested-gateway", data=[event.to_json() for event in events])


def key_event(made: Gateway, n: int = 1, **changes: Any) -> KeyEvent:
    event = KeyEvent(bootseed=made.bootseed, keyset_digest=made.keyset.digest, n=n)
    return replace(event, **changes)


def test_log_that_does_not_replay_is_rejected() -> None:
    for record in (
        log_of(key_event(HEALTHY, 2)),
        log_of(),
        log_of(key_event(HEALTHY), key_event(HEALTHY, 2)),
    ):
        result = with_boot(HEALTHY, event_log=record)
        refused(result, Verdict.REJECTED, "EVENT-LOG")
        assert "RTMR3" in the_check(result, "EVENT-LOG").reason


def test_dropped_log_is_incomplete() -> None:
    result = with_boot(HEALTHY, event_log=None)
    assert result.verdict is Verdict.INCOMPLETE
    assert open_checks(result) == {"EVENT-LOG"}


def test_dropped_log_stays_incomplete_where_unbound_keys_are_allowed() -> None:
    boot = replace(HEALTHY.evidence, event_log=None)
    result = HEALTHY.verify(
        bundle=HEALTHY.bundle(boots=[boot]), policy=HEALTHY.policy(tdx='unbound_keys = "allow"')
    )
    assert open_checks(result) == {"EVENT-LOG"}


def test_unbound_keys_are_not_accepted_unless_the_policy_says_so() -> None:
    made = Gateway(event_log=False)
    made.plain()
    refused(made.verify(), Verdict.NOT_ACCEPTED, "EVENT-LOG")
    result = made.verify(policy=made.policy(tdx='unbound_keys = "allow"'))
    assert result.verdict is Verdict.SIMULATED
    assert any("key binding" in note for note in result.not_proved)


def test_register_without_a_log_is_accepted_if_pinned_and_unbound_keys_are_allowed() -> None:
    register = extend(bytes(48), b"\x01" * 48)
    domain = Domain(rtmrs=(*Domain().rtmrs[:3], register))
    made = Gateway(event_log=False, platform=HEALTHY.machine.but(domain=domain))
    made.plain()
    pinned = {"rtmr3": f'"{register.hex()}"'}
    allowed = made.policy(tdx='unbound_keys = "allow"', **pinned)
    assert made.verify(policy=allowed).verdict is Verdict.SIMULATED
    assert made.verify(policy=made.policy(**pinned)).verdict is Verdict.INCOMPLETE
    replayed = made.policy(tdx='unbound_keys = "allow"')
    assert made.verify(policy=replayed).verdict is Verdict.INCOMPLETE


def quoted(made: Gateway, *digests: bytes) -> bytes:
    return made.quote(made.evidence.statement.report_data, list(digests))


@pytest.mark.parametrize(
    "changes",
    [{"bootseed": b"\x01" * 32}, {"keyset_digest": Digest.of(b"another")}],
)
def test_keys_of_another_boot_at_the_end_are_rejected(changes: dict[str, Any]) -> None:
    made = Gateway()
    events = [key_event(made), key_event(made, 2, **changes)]
    boot = replace(
        made.evidence,
        quote=quoted(made, *(event.digest for event in events)),
        event_log=log_of(*events),
    )
    made.evidence = boot
    made.plain()
    result = made.verify(policy=made.policy(tdx="max_key_events = 9"))
    refused(result, Verdict.REJECTED, "EVENT-LOG")


def test_earlier_starts_are_accepted_up_to_the_policys_number() -> None:
    made = Gateway(earlier_keys=2)
    made.plain()
    for allowed, verdict in ((1, "NOT-ACCEPTED"), (2, "NOT-ACCEPTED"), (3, "SIMULATED")):
        policy = made.policy(tdx=f"max_key_events = {allowed}")
        assert made.verify(policy=policy).verdict == verdict
    refused(made.verify(), Verdict.NOT_ACCEPTED, "EVENT-LOG")
    assert the_check(made.verify(), "EVENT-LOG").observed == "3"


RUNTIME = 0x08000001


def dstack_event(name: str, payload: bytes, register: int = 3) -> dict[str, Any]:
    measured = RUNTIME.to_bytes(4, "little") + b":" + name.encode() + b":" + payload
    return {
        "imr": register,
        "event_type": RUNTIME,
        "digest": hashlib.sha384(measured).hexdigest(),
        "event": name,
        "event_payload": payload.hex(),
    }


def dstack_gateway(*events: dict[str, Any]) -> Gateway:
    """A boot whose platform writes its log the way dstack does: all registers from one log."""
    made = Gateway()
    platform_events = [dstack_event(f"stage-{n}", b"", n) for n in range(3)]
    first, second, third = (
        extend(bytes(48), bytes.fromhex(event["digest"])) for event in platform_events
    )
    domain = Domain(rtmrs=(first, second, third, bytes(48)))
    made = Gateway(platform=made.machine.but(domain=domain))
    made.evidence = replace(
        made.evidence,
        quote=quoted(made, *(bytes.fromhex(event["digest"]) for event in events)),
        event_log=EventLogRecord(format="dstack", data=[*platform_events, *events]),
    )
    made.plain()
    return made


def dstack_key(made: Gateway) -> dict[str, Any]:
    return dstack_event("receipt.key", jcs.canonicalize(key_event(made).to_json()))


def test_log_of_all_registers_is_replayed_in_all_of_them() -> None:
    made = dstack_gateway(dstack_key(HEALTHY))
    assert made.verify().verdict is Verdict.SIMULATED
    assert made.evidence.event_log is not None
    data = list(made.evidence.event_log.data)  # type: ignore[arg-type]
    for register in range(3):
        changed = [event for event in data if event["imr"] != register]
        record = EventLogRecord(format="dstack", data=changed)
        result = with_boot(made, event_log=record)
        refused(result, Verdict.REJECTED, "EVENT-LOG")
        assert f"RTMR{register}" in the_check(result, "EVENT-LOG").reason


def test_log_that_keeps_a_digest_to_itself_is_rejected() -> None:
    made = dstack_gateway(dstack_key(HEALTHY))
    assert made.evidence.event_log is not None
    first, *rest = cast("list[dict[str, str]]", made.evidence.event_log.data)
    record = EventLogRecord(format="dstack", data=[first | {"digest": ""}, *rest])
    result = with_boot(made, event_log=record)
    refused(result, Verdict.REJECTED, "EVENT-LOG")
    assert the_check(result, "EVENT-LOG").observed == "1 of 1 events without a digest"


def listed(*events: dict[str, Any]) -> str:
    rows = ", ".join(f'{{ name = "{e["event"]}", digest = "{e["digest"]}" }}' for e in events)
    return f"[{rows}]"


def test_events_before_the_keys_must_be_listed_in_their_order() -> None:
    one, two = dstack_event("app-id", b"1"), dstack_event("compose-hash", b"2")
    made = dstack_gateway(one, two, dstack_key(HEALTHY))
    assert made.verify(policy=made.policy(events=listed(one, two))).verdict is Verdict.SIMULATED
    for wrong in (listed(two, one), listed(one), listed(one, dstack_event("compose-hash", b"3"))):
        result = made.verify(policy=made.policy(events=wrong))
        refused(result, Verdict.NOT_ACCEPTED, "EVENT-LOG")
    refused(made.verify(), Verdict.NOT_ACCEPTED, "EVENT-LOG")
    assert the_check(made.verify(), "EVENT-LOG").observed.startswith("app-id ")


def test_without_a_policy_measured_events_are_not_judged_and_the_check_stays_open() -> None:
    made = dstack_gateway(dstack_event("app-id", b"1"), dstack_key(HEALTHY))
    result = made.verify(policy=None)
    assert result.verdict is Verdict.INCOMPLETE
    assert the_check(result, "EVENT-LOG").status is Status.SKIP


def test_listed_event_that_is_missing_is_not_accepted() -> None:
    made = dstack_gateway(dstack_key(HEALTHY))
    policy = made.policy(events=listed(dstack_event("app-id", b"1")))
    refused(made.verify(policy=policy), Verdict.NOT_ACCEPTED, "EVENT-LOG")


def test_event_between_two_key_events_is_not_accepted() -> None:
    key = dstack_key(HEALTHY)
    made = dstack_gateway(key, dstack_event("app-id", b"1"), key)
    policy = made.policy(tdx="max_key_events = 2")
    refused(made.verify(policy=policy), Verdict.NOT_ACCEPTED, "EVENT-LOG")


def test_event_after_the_keys_is_rejected() -> None:
    made = dstack_gateway(dstack_key(HEALTHY), dstack_event("app-id", b"1"))
    refused(made.verify(), Verdict.REJECTED, "EVENT-LOG")


@pytest.mark.parametrize("payload", [b"", b"{", b"[]", b'{"event":"receipt.key"}'])
def test_key_event_that_does_not_parse_is_rejected(payload: bytes) -> None:
    refused(
        dstack_gateway(dstack_event("receipt.key", payload)).verify(),
        Verdict.REJECTED,
        "EVENT-LOG",
    )


def test_key_event_whose_digest_does_not_prove_its_content_is_rejected() -> None:
    key = dstack_key(HEALTHY) | {"digest": "01" * 48}
    refused(dstack_gateway(key).verify(), Verdict.REJECTED, "EVENT-LOG")


def test_ccel_log_without_runtime_events_leaves_the_keys_open() -> None:
    # Only the header record that every CCEL begins with: it extends nothing.
    spec = (
        b"Spec ID Event03\x00" + bytes(4) + bytes([0, 2, 0, 2]) + (1).to_bytes(4, "little")
        + (12).to_bytes(2, "little") + (48).to_bytes(2, "little") + b"\x00"
    )  # fmt: skip
    record = (1).to_bytes(4, "little") + (3).to_bytes(4, "little") + bytes(20)
    data = record + len(spec).to_bytes(4, "little") + spec + b"\xff" * 4
    log = EventLogRecord(format="ccel", data=base64url.encode(data))
    assert log.parse().events == ()
    assert open_checks(with_boot(HEALTHY, event_log=log)) == {"EVENT-LOG"}
    made = Gateway(event_log=False)
    made.plain()
    refused(with_boot(made, event_log=log), Verdict.NOT_ACCEPTED, "EVENT-LOG")


# Statement and keyset


@pytest.mark.parametrize(
    "changes",
    [
        {"time_claimed": NOW + 1},
        {"config_digest": Digest.of(b"other")},
        {"image": "other"},
    ],
)
def test_statement_that_was_not_quoted_is_rejected(changes: dict[str, Any]) -> None:
    statement = replace(HEALTHY.evidence.statement, **changes)
    refused(with_boot(HEALTHY, statement=statement), Verdict.REJECTED, "BOOT-STATEMENT")


def test_all_64_bytes_of_report_data_count() -> None:
    statement = HEALTHY.evidence.statement
    digests = [key_event(HEALTHY).digest]
    quote = HEALTHY.quote(statement.report_data[:63] + b"\x01", digests)
    result = with_boot(HEALTHY, quote=quote)
    assert failed(result) == {"BOOT-STATEMENT", "RECEIPT-BINDING"}


def test_keyset_that_the_statement_does_not_name_is_rejected() -> None:
    keyset = replace(HEALTHY.keyset, not_after=HEALTHY.keyset.not_after + 1)
    result = with_boot(HEALTHY, keyset=keyset)
    assert result.verdict is Verdict.REJECTED
    assert failed(result) == {"KEYSET", "RECEIPT-BINDING"}


def test_log_key_named_for_another_log_is_rejected() -> None:
    made = Gateway()
    made.keyset = replace(
        made.keyset,
        log_vkey=vkey_for("other/0000000000000000", made.log_key.public_key().public_bytes_raw()),
    )
    made.boot(replace(made.evidence.statement, keyset_digest=made.keyset.digest))
    made.plain()
    refused(made.verify(), Verdict.REJECTED, "KEYSET")


# Predecessor


def successor(before: Gateway, seed: str = "after", **changes: Any) -> Gateway:
    signer = changes.pop("signer", before)
    text = Checkpoint(origin=changes.pop("origin", before.origin), size=3, root=bytes(32)).text
    note = sign_note(text, before.origin, signer.log_key)
    prev = PreviousBoot(checkpoint=note, quote_digest=before.quote_digest)
    made = Gateway(seed=seed, platform=before.machine, prev=prev)
    made.plain()
    return made


def together(first: Gateway, *others: Gateway) -> AttestationResult:
    bundle = make_bundle(
        boots=[made.evidence for made in (first, *others)],
        collateral=[first.machine.collateral()],
        receipts=[one.item for made in (first, *others) for one in made.exchanged],
    )
    return first.verify(bundle=bundle)


def chain_check(result: AttestationResult, boot: BootEvidence) -> Any:
    name = f"boot {boot.statement.bootseed.hex()[:16]}"
    (check,) = [c for c in result.checks if c.id == "BOOT-CHAIN" and c.subject == name]
    return check


def test_boots_by_themselves_are_checked_against_each_other() -> None:
    boots = [HEALTHY, successor(HEALTHY), successor(HEALTHY, seed="another")]
    bundle = make_bundle(
        boots=[made.evidence for made in boots], collateral=[HEALTHY.machine.collateral()]
    )
    result = verify_boots(bundle, HEALTHY.policy(), NOW, [HEALTHY.anchor])
    assert failed(result) == {"BOOT-CHAIN"}


def test_predecessor_in_the_file_is_checked() -> None:
    after = successor(HEALTHY)
    result = together(HEALTHY, after)
    assert result.verdict is Verdict.SIMULATED
    assert chain_check(result, after.evidence).status is Status.PASS
    assert chain_check(result, HEALTHY.evidence).status is Status.INFO


def test_predecessor_that_is_not_in_the_file_is_left_open() -> None:
    after = successor(HEALTHY)
    result = after.verify()
    assert result.verdict is Verdict.SIMULATED
    assert chain_check(result, after.evidence).status is Status.SKIP
    policy = after.policy(more='[require]\nchecks = ["BOOT-CHAIN"]')
    assert after.verify(policy=policy).verdict is Verdict.INCOMPLETE


def test_two_successors_of_one_boot_are_rejected() -> None:
    result = together(HEALTHY, successor(HEALTHY), successor(HEALTHY, "fork"))
    refused(result, Verdict.REJECTED, "BOOT-CHAIN")


def test_predecessors_checkpoint_by_another_key_is_rejected() -> None:
    forged = successor(HEALTHY, signer=Gateway(seed="thief"))
    refused(together(HEALTHY, forged), Verdict.REJECTED, "BOOT-CHAIN")


def test_predecessors_checkpoint_of_another_log_is_rejected() -> None:
    other = successor(HEALTHY, origin="gateway.example/0000000000000000")
    refused(together(HEALTHY, other), Verdict.REJECTED, "BOOT-CHAIN")


def test_platforms_are_told_apart() -> None:
    other = SimulatedPlatform(now=NOW, seed=b"another machine")
    made = Gateway(seed="b", platform=other)
    made.plain()
    bundle = make_bundle(
        boots=[HEALTHY.evidence, made.evidence],
        collateral=[HEALTHY.machine.collateral(), other.collateral()],
        receipts=[HEALTHY.exchanged[0].item, made.exchanged[0].item],
    )
    anchors = [HEALTHY.anchor, made.anchor]
    assert HEALTHY.verify(bundle=bundle, anchors=anchors).verdict is Verdict.SIMULATED
    assert HEALTHY.verify(bundle=bundle).verdict is Verdict.REJECTED
