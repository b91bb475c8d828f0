"""EVENT-LOG: what was extended at run time, and that this boot's keys were extended last."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attestation.encoding.strict_json import parse_json
from attestation.errors import MalformedError
from attestation.tdx.eventlog import RECEIPT_KEY, parse_key_events
from attestation.tdx.events import replay
from attestation.verifier.words import short

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attestation.bundle import BootEvidence
    from attestation.policy import Policy, ReferenceValues
    from attestation.tdx.body import TdReport
    from attestation.tdx.events import Event, EventLog
    from attestation.verifier.ledger import Page

_ID = "EVENT-LOG"
_RUNTIME = 3
_ALWAYS_COVERED = {"attested-gateway": (3,), "dstack": (0, 1, 2, 3), "ccel": ()}


def check_event_log(
    boot: BootEvidence,
    body: TdReport,
    agreeing: Sequence[ReferenceValues],
    policy: Policy,
    page: Page,
) -> None:
    """EVENT-LOG for a boot.

    1. the log replays to the registers of the quote that it covers
    2. RTMR3's events are those of a matching tuple, then key events and nothing after them
    3. the last key event names this bootseed and keyset
    4. there are at most `max_key_events`
    """
    log = boot.event_log.parse() if boot.event_log else None
    runtime = [event for event in log.events if event.register == _RUNTIME] if log else []
    if log is not None and not _replays(log, body, page):
        return
    if not runtime:
        _no_runtime_events(body, agreeing, policy, page)
    elif _key_is_last(runtime, boot, page):
        _listed_and_few(runtime, agreeing, policy, page)


def check_lone_quote(agreeing: Sequence[ReferenceValues], page: Page) -> None:
    """EVENT-LOG for a quote by itself: a pinned RTMR3 needs no log, "replay" needs one."""
    if any(values.rtmr3 is not None for values in agreeing):
        page.passed(_ID, "not needed: the matching tuple pins RTMR3 itself")
        return
    page.skipped(
        _ID,
        "a quote by itself carries no event log",
        hint="verify a bundle, or pin rtmr3 to a value",
    )


def _replays(log: EventLog, body: TdReport, page: Page) -> bool:
    named = {event.register for event in log.events}
    registers = replay(log)
    for index in sorted(named.union(_ALWAYS_COVERED[log.format])):
        if registers[index] != body.rtmrs[index]:
            page.rejected(
                _ID,
                f"the event log does not replay to the quote's RTMR{index}",
                expected=short(body.rtmrs[index]),
                observed=short(registers[index]) if registers[index] else "a log without digests",
            )
            return False
    return True


def _no_runtime_events(
    body: TdReport, agreeing: Sequence[ReferenceValues], policy: Policy, page: Page
) -> None:
    unused = not any(body.rtmrs[_RUNTIME])
    pinned = any(values.rtmr3 == body.rtmrs[_RUNTIME] for values in agreeing)
    if not unused and not (pinned and policy.tdx.unbound_keys):
        page.lacking(
            _ID,
            "RTMR3 was extended, but no event log in the file accounts for it",
            hint="ask the gateway for evidence with its event log",
        )
    elif policy.tdx.unbound_keys:
        page.passed(_ID, "the keys are not bound to RTMR3, which the policy accepts")
    else:
        page.not_accepted(
            _ID,
            "RTMR3 does not bind this boot's keys",
            expected=f"the event {RECEIPT_KEY} as the last extension of RTMR3",
            observed="RTMR3 all zero",
            hint='a platform that cannot extend RTMR3 needs unbound_keys = "allow"',
        )


def _key_is_last(runtime: Sequence[Event], boot: BootEvidence, page: Page) -> bool:
    try:
        named = _key_named_by(runtime[-1])
    except MalformedError as error:
        page.rejected(
            _ID,
            f"the last event of RTMR3 is not a readable {RECEIPT_KEY} event",
            expected=error.expected,
            observed=error.message,
        )
        return False
    own = (boot.statement.bootseed, boot.statement.keyset_digest.value)
    if named != own:
        page.rejected(
            _ID,
            "the last keys bound to RTMR3 are not this boot's",
            expected=f"bootseed {short(own[0])}, keyset {short(own[1])}",
            observed=f"bootseed {short(named[0])}, keyset {short(named[1])}",
        )
        return False
    return True


def _key_named_by(event: Event) -> tuple[bytes, bytes]:
    if event.name != RECEIPT_KEY or event.content is None:
        raise MalformedError(
            "it is another event, or its digest does not prove its content",
            expected=f"{RECEIPT_KEY}",
        )
    (key,) = parse_key_events([parse_json(event.content)])
    return key.bootseed, key.keyset_digest.value


def _listed_and_few(
    runtime: Sequence[Event], agreeing: Sequence[ReferenceValues], policy: Policy, page: Page
) -> None:
    first = next(i for i, event in enumerate(runtime) if event.name == RECEIPT_KEY)
    before, keys = runtime[:first], runtime[first:]
    seen = [(event.name, event.digest) for event in before]
    listed = [[(event.name, event.digest) for event in values.events] for values in agreeing]
    if any(event.name != RECEIPT_KEY for event in keys) or (agreeing and seen not in listed):
        page.not_accepted(
            _ID,
            "RTMR3 holds events that the matching tuple does not list in this order",
            expected=", ".join([*(name for name, _ in (listed or [[]])[0]), RECEIPT_KEY]),
            observed=", ".join(event.name for event in runtime[:20]),
        )
    elif len(keys) > policy.tdx.max_key_events:
        page.not_accepted(
            _ID,
            "the notary was started more often in this trust domain than the policy allows",
            expected=f"at most {policy.tdx.max_key_events} {RECEIPT_KEY} events",
            observed=f"{len(keys)}",
            hint="earlier keys of the same domain exist; a production image powers off instead",
        )
    else:
        page.passed(_ID, "replays to the quote; RTMR3 ends with this boot's keys")
