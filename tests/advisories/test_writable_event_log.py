"""dstack 554: the event log lay where others could write, and what it said was believed.

Lesson: a log proves digests and their order, and only by replay to the quoted register.  What an
event says counts where the digest is a hash of it; what comes after the keys is refused.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest

from attestation.bundle import EventLogRecord
from attestation.result import AttestationResult, Verdict
from attestation.tdx.eventlog import DSTACK_RUNTIME_EVENT
from tests.support.bundles import Gateway, failed, open_checks

GATEWAY = Gateway()
GATEWAY.plain()
RECORD = GATEWAY.evidence.event_log
assert RECORD is not None
KEY = RECORD.parse().events[0]
OTHER = hashlib.sha384(b"other").digest()


def judged(event_log: EventLogRecord | None, digests: list[bytes]) -> AttestationResult:
    """A boot whose quote was extended by `digests` and whose file shows `event_log`."""
    quote = GATEWAY.quote(GATEWAY.evidence.statement.report_data, digests)
    boot = replace(GATEWAY.evidence, event_log=event_log, quote=quote)
    return GATEWAY.verify(bundle=GATEWAY.bundle(boots=[boot], receipts=[]), contents={})


def dstack(*events: dict[str, Any]) -> EventLogRecord:
    """dstack's form, which leaves room for events and payloads of any kind."""
    return EventLogRecord(format="dstack", data=list(events))


def event(digest: bytes, name: str = "receipt.key", payload: bytes = b"") -> dict[str, Any]:
    return {
        "imr": 3,
        "event_type": DSTACK_RUNTIME_EVENT,
        "event": name,
        "digest": digest.hex(),
        "event_payload": payload.hex(),
    }


def test_log_that_replays_and_ends_with_the_keys_is_accepted() -> None:
    assert failed(judged(RECORD, [KEY.digest])) == set()


@pytest.mark.parametrize("digests", [[OTHER, KEY.digest], [KEY.digest, OTHER], [OTHER], []])
def test_log_that_does_not_tell_everything_is_refused(digests: list[bytes]) -> None:
    result = judged(RECORD, digests)
    assert result.verdict is Verdict.REJECTED
    assert failed(result) == {"EVENT-LOG"}


def test_register_that_no_log_accounts_for_stays_open() -> None:
    result = judged(None, [KEY.digest])
    assert "EVENT-LOG" in open_checks(result)


def test_event_whose_digest_does_not_prove_what_it_says_is_no_key_event() -> None:
    assert KEY.content is not None
    result = judged(dstack(event(OTHER, payload=KEY.content)), [OTHER])
    assert result.verdict is Verdict.REJECTED
    assert failed(result) == {"EVENT-LOG"}


def test_event_after_the_keys_is_refused() -> None:
    assert KEY.content is not None
    late = hashlib.sha384(
        DSTACK_RUNTIME_EVENT.to_bytes(4, "little") + b":app-update:" + b"v2"
    ).digest()
    log = dstack(event(KEY.digest, payload=KEY.content), event(late, "app-update", b"v2"))
    result = judged(log, [KEY.digest, late])
    assert result.verdict is Verdict.REJECTED
    assert failed(result) == {"EVENT-LOG"}


def test_second_start_in_one_domain_is_not_accepted_unless_the_policy_allows_it() -> None:
    made = Gateway(earlier_keys=1)
    made.plain()
    assert failed(made.verify()) == {"EVENT-LOG"}
    assert made.verify().verdict is Verdict.NOT_ACCEPTED
    assert made.verify(policy=made.policy(tdx="max_key_events = 2")).verdict is Verdict.SIMULATED
