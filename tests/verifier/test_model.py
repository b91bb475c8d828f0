"""MODEL and ENGINE-LOCAL: only a measured model counts, and only for this domain's own engine."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest

from attestation.bundle import EventLogRecord
from attestation.encoding.digest import Digest
from attestation.receipt.claims import Attempt, ModelClaims
from attestation.receipt.seal import claims_of
from attestation.receipt.signing import parse_receipt, sign_receipt
from attestation.result import AttestationResult, Status, Verdict
from attestation.statement.model_lock import (
    LockedEngine,
    LockedFile,
    ModelLock,
    ModelSource,
    Role,
)
from attestation.tdx.eventlog import DSTACK_RUNTIME_EVENT, KeyEvent, MeasuredEvent
from tests.support.bundles import (
    ENGINE_ARGUMENTS,
    Gateway,
    failed,
    model_events,
    open_checks,
    the_check,
)
from tests.verifier.support import HEALTHY, refused

LOCK = ModelLock(
    model="tiny",
    files=(LockedFile(path="w.safetensors", role=Role.WEIGHTS, sha256=Digest.of(b"w"), size=1),),
    source=ModelSource(repository="org/tiny", revision="0" * 40),
    engine=LockedEngine(name="demo-engine", version="1", arguments=("--max-model-len=4096",)),
)
MODEL = LOCK.digest
OTHER = Digest.of(b"other")
LOCAL = Attempt(upstream="engine", local=True, outcome="ok", milliseconds=7)
ELSEWHERE = replace(LOCAL, upstream="elsewhere", local=False)
REQUIRED = '[require]\nchecks = ["MODEL", "ENGINE-LOCAL"]'


def measuring(**changes: Any) -> Gateway:
    """A boot that measured its model, before any request."""
    return Gateway(statement_changes={"model_digest": MODEL}, **changes)


def claiming(made: Gateway, *, attempts: tuple[Attempt, ...] = (LOCAL,), **model: Any) -> Gateway:
    """Add a receipt that claims just that, whatever the boot measured."""
    claims, openings = claims_of(made.outcome(), made.context(1))
    own: dict[str, Any] = {"id": "tiny", "digest": MODEL, "configuration": ENGINE_ARGUMENTS}
    lying = replace(claims, attempts=attempts, model=ModelClaims(**own | model))
    token = sign_receipt(lying, made.receipt_key, made.receipt_jwk.kid)
    honest = made.plain()
    item = replace(honest.item, receipt=parse_receipt(token), openings=openings)
    made.exchanged[-1] = replace(honest, item=item)
    return made


def receipt_check(result: AttestationResult, id_: str) -> Any:
    (check,) = [c for c in result.checks if c.id == id_ and c.subject.startswith("receipt")]
    return check


def test_measured_model_and_local_engine_pass_where_a_policy_asks_for_them() -> None:
    made = measuring()
    made.plain()
    policy = made.policy(model=f'"{MODEL.hex}"', more=REQUIRED)
    result = made.verify(policy=policy)
    assert result.verdict is Verdict.SIMULATED
    boot = [c for c in result.checks if c.id == "MODEL" and c.subject.startswith("boot")]
    assert [c.reason.rpartition(": ")[2] for c in boot] == [str(MODEL)]
    assert {c.status for c in result.checks if c.id in ("MODEL", "ENGINE-LOCAL")} == {Status.PASS}
    assert not any("which model" in note for note in result.not_proved)
    assert any("loaded the files" in note for note in result.not_proved)
    facts: Any = result.facts["receipts"]
    assert [one["model_digest"] for one in facts] == [MODEL.hex]


def test_policy_that_pins_another_model_does_not_accept() -> None:
    made = measuring()
    made.plain()
    result = made.verify(policy=made.policy(model=f'"{OTHER.hex}"'))
    refused(result, Verdict.NOT_ACCEPTED, "MEASUREMENTS")


def test_policy_that_lists_no_measured_events_does_not_accept() -> None:
    made = measuring()
    made.plain()
    listed = model_events(OTHER)
    events = ", ".join(f'{{ name = "{e.name}", digest = "{e.digest.hex()}" }}' for e in listed)
    result = made.verify(policy=made.policy(events=f"[{events}]"))
    refused(result, Verdict.NOT_ACCEPTED, "EVENT-LOG")


def test_receipt_without_a_model_leaves_both_open() -> None:
    result = HEALTHY.verify(policy=HEALTHY.policy(more=REQUIRED))
    assert open_checks(result) == {"MODEL", "ENGINE-LOCAL"}
    assert "engine's word" in the_check(result, "MODEL").reason
    assert "does not say" in the_check(result, "ENGINE-LOCAL").reason
    assert any("which model" in note for note in result.not_proved)


def test_receipt_that_is_silent_about_a_measured_model_leaves_both_open() -> None:
    made = measuring()
    made.plain(context={"model": None})
    result = made.verify(policy=made.policy(more=REQUIRED))
    assert open_checks(result) == {"MODEL", "ENGINE-LOCAL"}
    assert "does not say that it answered" in receipt_check(result, "MODEL").reason


def test_receipt_of_a_request_that_no_engine_saw_leaves_the_place_open() -> None:
    made = measuring()
    made.plain(attempts=())
    result = made.verify(policy=made.policy(more=REQUIRED))
    assert open_checks(result) == {"ENGINE-LOCAL"}
    assert "no attempt" in the_check(result, "ENGINE-LOCAL").reason


# The boot: statement and event log name one model


def test_statement_without_a_measured_event_is_rejected() -> None:
    made = measuring(measured=())
    made.plain(context={"model": None})
    result = made.verify()
    refused(result, Verdict.REJECTED, "MODEL")
    assert "no event model.lock" in the_check(result, "MODEL").expected


def test_statement_on_a_platform_without_rtmr3_is_rejected() -> None:
    made = measuring(event_log=False)
    made.plain(context={"model": None})
    result = made.verify(policy=made.policy(tdx='unbound_keys = "allow"'))
    refused(result, Verdict.REJECTED, "MODEL")


def test_statement_that_names_another_model_than_the_event_is_rejected() -> None:
    made = measuring(measured=model_events(OTHER))
    made.plain(context={"model": None})
    refused(made.verify(), Verdict.REJECTED, "MODEL")


def test_measured_event_that_the_statement_leaves_out_is_rejected() -> None:
    made = Gateway(measured=model_events(MODEL))
    made.plain()
    result = made.verify()
    refused(result, Verdict.REJECTED, "MODEL")
    assert "no model digest" in the_check(result, "MODEL").observed


def test_event_log_that_does_not_replay_measures_nothing() -> None:
    made = measuring()
    made.plain()
    record = made.evidence.event_log
    assert record is not None
    assert isinstance(record.data, list)
    data = [{"event": "extra", "sha256": OTHER.hex}, *record.data]
    boot = replace(made.evidence, event_log=replace(record, data=data))
    result = made.verify(bundle=made.bundle(boots=[boot]))
    assert result.verdict is Verdict.REJECTED
    assert failed(result) == {"EVENT-LOG", "MODEL", "ENGINE-LOCAL"}


def test_quote_that_cannot_be_read_measures_nothing() -> None:
    made = measuring()
    made.plain()
    boot = replace(made.evidence, quote=b"no quote")
    result = made.verify(bundle=made.bundle(boots=[boot]))
    assert {"QUOTE-FORMAT", "MODEL", "ENGINE-LOCAL"} <= failed(result)


# The receipt: nothing but what the boot measured


def test_receipt_that_names_a_model_the_boot_did_not_measure_is_rejected() -> None:
    result = claiming(Gateway()).verify()
    refused(result, Verdict.REJECTED, "MODEL", "ENGINE-LOCAL")
    assert "nothing measured" in receipt_check(result, "MODEL").reason


@pytest.mark.parametrize(
    ("claim", "named"),
    [
        ({"digest": OTHER}, "model.lock"),
        ({"digest": None}, "model.lock none"),
        ({"configuration": OTHER}, "engine.args"),
        ({"configuration": None}, "engine.args none"),
    ],
)
def test_receipt_that_names_another_model_than_its_boot_is_rejected(
    claim: dict[str, Any], named: str
) -> None:
    result = claiming(measuring(), **claim).verify()
    refused(result, Verdict.REJECTED, "MODEL", "ENGINE-LOCAL")
    check = receipt_check(result, "MODEL")
    assert named in check.observed
    assert check.reason != receipt_check(claiming(Gateway()).verify(), "MODEL").reason


def test_receipt_that_agrees_with_the_event_and_not_with_the_statement_is_rejected() -> None:
    made = claiming(Gateway(measured=model_events(MODEL)))
    assert "statement none" in receipt_check(made.verify(), "MODEL").expected


@pytest.mark.parametrize("missing", [0, 1])
def test_each_of_the_two_events_is_needed(missing: int) -> None:
    events = model_events(MODEL)
    made = claiming(measuring(measured=(events[1 - missing],)))
    result = made.verify()
    assert result.verdict is Verdict.REJECTED
    assert failed(result) == {"MODEL", "ENGINE-LOCAL"}


@pytest.mark.parametrize(
    ("stated", "missing", "claim"),
    [(None, 0, {"digest": None}), (MODEL, 1, {"configuration": None})],
    ids=["no model", "no arguments"],
)
def test_receipt_that_names_all_that_a_boot_measured_and_no_more_is_rejected(
    stated: Digest | None, missing: int, claim: dict[str, Any]
) -> None:
    events = model_events(MODEL)
    made = Gateway(statement_changes={"model_digest": stated}, measured=(events[1 - missing],))
    result = claiming(made, **claim).verify()
    refused(result, Verdict.REJECTED, "MODEL", "ENGINE-LOCAL")
    assert "nothing measured stands behind" in receipt_check(result, "MODEL").reason


def test_attempt_called_local_without_a_measured_model_is_rejected() -> None:
    result = claiming(Gateway(), digest=None, configuration=None).verify()
    refused(result, Verdict.REJECTED, "ENGINE-LOCAL")
    assert "nothing measured" in the_check(result, "ENGINE-LOCAL").reason


@pytest.mark.parametrize("attempts", [(LOCAL, ELSEWHERE), (ELSEWHERE, LOCAL)])
def test_measured_model_for_an_attempt_elsewhere_is_rejected(
    attempts: tuple[Attempt, ...],
) -> None:
    result = claiming(measuring(), attempts=attempts).verify()
    refused(result, Verdict.REJECTED, "MODEL", "ENGINE-LOCAL")
    assert receipt_check(result, "MODEL").observed == "elsewhere"


def test_measured_model_for_an_engine_elsewhere_alone_is_rejected() -> None:
    result = claiming(measuring(), attempts=(ELSEWHERE,)).verify()
    refused(result, Verdict.REJECTED, "MODEL")
    assert the_check(result, "ENGINE-LOCAL").status is Status.SKIP


def test_measured_model_for_an_engine_elsewhere_is_rejected_beside_its_lock() -> None:
    result = holding(claiming(measuring(), attempts=(ELSEWHERE,)), LOCK)
    refused(result, Verdict.REJECTED, "MODEL")
    assert "outside this trust domain" in receipt_check(result, "MODEL").reason


# dstack's log carries the same events under dstack's own digest rule


def dstack_event(name: str, payload: bytes, **changes: Any) -> dict[str, Any]:
    measured = DSTACK_RUNTIME_EVENT.to_bytes(4, "little") + b":" + name.encode() + b":" + payload
    entry = {
        "imr": 3,
        "event_type": DSTACK_RUNTIME_EVENT,
        "digest": hashlib.sha384(measured).hexdigest(),
        "event": name,
        "event_payload": payload.hex(),
    }
    return entry | changes


def with_dstack_log(*entries: dict[str, Any]) -> Gateway:
    """A boot behind dstack whose log has these events, and a receipt that names the model."""
    made = measuring()
    digests = [bytes.fromhex(entry["digest"]) for entry in entries if entry["imr"] == 3]
    quote = made.quote(made.evidence.statement.report_data, digests)
    record = EventLogRecord(format="dstack", data=list(entries))
    made.evidence = replace(made.evidence, quote=quote, event_log=record)
    made.plain()
    return made


def entry_of(event: MeasuredEvent) -> dict[str, Any]:
    return dstack_event(event.name, event.content)


MODEL_EVENT, ARGUMENTS_EVENT = model_events(MODEL)
KEY_EVENT = KeyEvent(bootseed=bytes(32), keyset_digest=OTHER, n=1)
APP = dstack_event("app-id", b"\x01\x02")
JSON_APP = dstack_event("compose-hash", b'{"event":"receipt.key"}')


def model_of(made: Gateway) -> Any:
    return receipt_check(made.verify(policy=None), "MODEL")


def test_events_in_a_dstack_log_count_among_others() -> None:
    made = with_dstack_log(APP, JSON_APP, entry_of(MODEL_EVENT), entry_of(ARGUMENTS_EVENT))
    # All other registers of the simulated domain are unlike an empty log's: EVENT-LOG says so.
    assert model_of(made).status is Status.PASS


@pytest.mark.parametrize(
    "entries",
    [
        pytest.param([MODEL_EVENT, ARGUMENTS_EVENT, MODEL_EVENT], id="twice"),
        pytest.param([ARGUMENTS_EVENT], id="missing"),
    ],
)
def test_thing_measured_twice_or_not_at_all_is_not_known(entries: list[MeasuredEvent]) -> None:
    made = with_dstack_log(*(entry_of(event) for event in entries))
    assert model_of(made).status is Status.FAIL


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param(dstack_event("app", MODEL_EVENT.content), id="under-another-name"),
        pytest.param(dstack_event("model.lock", b"{}"), id="another-form"),
        pytest.param(dstack_event("model.lock", MODEL_EVENT.content + b" "), id="not-canonical"),
        pytest.param(dstack_event("model.lock", KEY_EVENT.content), id="content-of-a-key-event"),
        pytest.param(
            entry_of(MODEL_EVENT) | {"event_payload": model_events(OTHER)[0].content.hex()},
            id="content-not-proven",
        ),
    ],
)
def test_event_that_does_not_prove_a_model_is_none(entry: dict[str, Any]) -> None:
    made = with_dstack_log(entry, entry_of(ARGUMENTS_EVENT))
    assert model_of(made).status is Status.FAIL


def test_event_of_another_register_is_no_measurement_of_rtmr3() -> None:
    made = with_dstack_log(entry_of(MODEL_EVENT) | {"imr": 0}, entry_of(ARGUMENTS_EVENT))
    assert model_of(made).status is Status.FAIL


def test_event_after_the_keys_is_too_late() -> None:
    key = dstack_event("receipt.key", b"{}")
    made = with_dstack_log(entry_of(ARGUMENTS_EVENT), key, entry_of(MODEL_EVENT))
    assert model_of(made).status is Status.FAIL


# The lock itself, beside the bundle


def holding(made: Gateway, lock: ModelLock) -> AttestationResult:
    known = {one.jti: one.contents(model_lock=lock) for one in made.exchanged}
    return made.verify(contents=known)


def test_lock_that_was_measured_is_named_by_the_result() -> None:
    made = measuring()
    made.plain()
    result = holding(made, LOCK)
    assert result.verdict is Verdict.SIMULATED
    reason = receipt_check(result, "MODEL").reason
    assert "tiny, org/tiny@0000" in reason
    assert "demo-engine/1" in reason
    facts: Any = result.facts["receipts"]
    assert facts[0]["model_lock"] == LOCK.facts()


def test_lock_without_source_is_named_by_what_it_has() -> None:
    lock = replace(LOCK, source=None)
    made = Gateway(statement_changes={"model_digest": lock.digest})
    made.plain()
    assert "tiny, demo-engine/1" in receipt_check(holding(made, lock), "MODEL").reason


def test_another_lock_than_the_measured_one_is_rejected() -> None:
    made = measuring()
    made.plain()
    result = holding(made, replace(LOCK, model="tiny-quantised"))
    refused(result, Verdict.REJECTED, "MODEL")
    assert "tiny-quantised" in receipt_check(result, "MODEL").expected
    facts: Any = result.facts["receipts"]
    assert facts[0]["model_lock"] is None


@pytest.mark.parametrize(
    ("engine", "expected"),
    [
        (
            LockedEngine(name="demo-engine", version="1", arguments=("--quantization=fp8",)),
            "sha256:",
        ),
        (None, "no engine"),
    ],
)
def test_lock_with_other_arguments_than_the_measured_ones_is_rejected(
    engine: LockedEngine | None, expected: str
) -> None:
    lock = replace(LOCK, engine=engine)
    made = Gateway(statement_changes={"model_digest": lock.digest})
    made.plain()
    result = holding(made, lock)
    refused(result, Verdict.REJECTED, "MODEL")
    assert "other arguments" in receipt_check(result, "MODEL").reason
    assert expected in receipt_check(result, "MODEL").expected


def test_lock_beside_a_receipt_that_binds_no_model_leaves_the_result_open() -> None:
    result = holding(HEALTHY, LOCK)
    assert open_checks(result) == {"MODEL"}
