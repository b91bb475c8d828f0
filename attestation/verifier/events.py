"""EVENT-LOG: what was extended at run time, and that this boot's keys were extended last."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING

from attestation.encoding.counts import counted
from attestation.errors import EvidenceError
from attestation.tdx.divergence import Cause, Change, find_mismatch
from attestation.tdx.runtime import RECEIPT_KEY, RUNTIME_REGISTER
from attestation.verifier.extensions import (
    RuntimeEvent,
    compare_measured,
    contradiction,
    runtime_events,
    stated_events,
)
from attestation.verifier.words import short

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from attestation.bundle import BootEvidence
    from attestation.policy import Policy, ReferenceValues
    from attestation.tdx.body import TdReport
    from attestation.tdx.divergence import Mismatch
    from attestation.tdx.events import EventLog
    from attestation.tdx.runtime import KeyEvent
    from attestation.verifier.ledger import Page

# The registers that a log of each format accounts for even where it has no events for them.
ALWAYS_COVERED: Mapping[str, tuple[int, ...]] = {
    "attested-gateway": (3,),
    "dstack": (0, 1, 2, 3),
    "ccel": (),
}

_ID = "EVENT-LOG"
_CHANGES = {
    Change.MISSING: "an event that the matching tuple lists was not measured into RTMR3",
    Change.EXTRA: "RTMR3 holds an event that the matching tuple does not list",
    Change.CHANGED: "RTMR3 holds another event than the matching tuple lists in its place",
    Change.REORDERED: "RTMR3 holds the events of the matching tuple in another order",
}
_NAME_CHARS = 64
_LOOK = "`attested eventlog` shows the log event by event"


def check_event_log(
    boot: BootEvidence,
    body: TdReport,
    agreeing: Sequence[ReferenceValues],
    policy: Policy,
    page: Page,
) -> None:
    """EVENT-LOG for a boot.

    1. the log replays to the registers of the quote that it covers
    2. RTMR3 begins with the events of a matching tuple: the same ones, in the same order
    3. then come key events, numbered from 1, and nothing after or between them
    4. the last key event names this bootseed and keyset, and its digest proves that
    5. there are at most `max_key_events`
    6. no event proves to be otherwise what the boot statement names, and the statement lists no
       events that RTMR3 could not take where it took some

    Where RTMR3 was not extended, the events that the statement lists stand for those of 2, if the
    policy accepts keys that are not bound to it: both are the word of the same software.
    """
    if boot.event_log is None:
        _no_runtime_events(boot, body, agreeing, policy, page)
        return
    log = boot.event_log.parse()
    if not _replays(log, body, page):
        return
    runtime = list(runtime_events(log))
    keys = [event.key for event in runtime if event.key is not None]
    if not runtime:
        _no_runtime_events(boot, body, agreeing, policy, page)
    elif not _agrees(runtime, boot, page):
        return
    elif not _claims_keys(runtime) and policy.tdx.unbound_keys:
        if _listed(runtime, agreeing, page):
            page.passed(_ID, "the keys are not bound to RTMR3, which the policy accepts")
    elif (
        _ends_with_keys(runtime, page)
        and _is_this_boot(keys[-1], boot, page)
        and _nothing_between(runtime, page)
        and _numbered(keys, page)
        and _listed(runtime, agreeing, page)
        and _few(keys, policy, page)
    ):
        covered = ", ".join(f"RTMR{register}" for register in _covered(log))
        page.passed(_ID, f"replays to the quote's {covered}; RTMR3 ends with this boot's keys")


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
    for register in _covered(log):
        mismatch = find_mismatch(log.of(register), body.rtmrs[register])
        if mismatch is not None:
            page.refused(_ID, _replay_error(log, register, body.rtmrs[register], mismatch))
            return False
    return True


def _covered(log: EventLog) -> list[int]:
    """Return the registers that the log accounts for; the others rest on their pinned values."""
    return sorted({event.register for event in log.events}.union(ALWAYS_COVERED[log.format]))


def _replay_error(log: EventLog, register: int, value: bytes, mismatch: Mismatch) -> EvidenceError:
    events = log.of(register)
    observed = f"the replay of {counted(len(events), 'event')}"
    if not events:
        reason = f"the event log has no events for RTMR{register}, which was extended"
    elif mismatch.cause is Cause.UNSTATED:
        unstated = sum(not event.digest for event in events)
        reason = f"the event log leaves out digests of RTMR{register}, so it cannot be replayed"
        observed = f"{unstated} of {len(events)} events without a digest"
    elif not any(value):
        reason = f"RTMR{register} is untouched in the quote, but the event log has events for it"
    elif mismatch.cause is Cause.EARLIER:
        reason = (
            f"the quote shows RTMR{register} as it was after event {mismatch.at} of the "
            f"{len(events)} in the event log: the later ones are not in it"
        )
    else:
        reason = f"the event log does not replay to the quote's RTMR{register}"
    return EvidenceError(
        reason,
        code="event_log",
        expected=f"RTMR{register} {short(value)}",
        observed=observed,
        hint=_LOOK,
    )


def _agrees(runtime: Sequence[RuntimeEvent], boot: BootEvidence, page: Page) -> bool:
    if not _fits_statement(runtime, boot, page):
        return False
    return not _says_unextended(boot, page, f"{len(runtime)} in RTMR3")


def _says_unextended(boot: BootEvidence, page: Page, seen: str) -> bool:
    """Whether the statement lists events for a register that was extended, which is refused."""
    if boot.statement.unextended:
        page.rejected(
            _ID,
            "the boot statement says that nothing could extend RTMR3, which was extended",
            expected="no events in the statement",
            observed=f"{len(boot.statement.unextended)} in the statement, {seen}",
        )
    return bool(boot.statement.unextended)


def _no_runtime_events(
    boot: BootEvidence,
    body: TdReport,
    agreeing: Sequence[ReferenceValues],
    policy: Policy,
    page: Page,
) -> None:
    stated = stated_events(boot.statement)
    unused = not any(body.rtmrs[RUNTIME_REGISTER])
    pinned = any(values.rtmr3 == body.rtmrs[RUNTIME_REGISTER] for values in agreeing)
    if not unused and not (pinned and policy.tdx.unbound_keys):
        page.lacking(
            _ID,
            "RTMR3 was extended, but no event log in the file accounts for it",
            hint="ask the gateway for evidence with its event log",
        )
    elif not unused and _says_unextended(boot, page, "and a register that is not zero"):
        return
    elif policy.tdx.unbound_keys:
        # No keys are needed then; the events that a tuple lists still are.
        if _fits_statement(stated, boot, page) and _stated_listed(stated, agreeing, page):
            word = ", nor are the events that the statement lists" if stated else ""
            page.passed(_ID, f"the keys are not bound to RTMR3{word}, which the policy accepts")
    else:
        page.not_accepted(
            _ID,
            "RTMR3 does not bind this boot's keys",
            expected=f"the event {RECEIPT_KEY} as the last extension of RTMR3",
            observed="RTMR3 all zero",
            hint='a platform that cannot extend RTMR3 needs unbound_keys = "allow"',
        )


def _fits_statement(events: Sequence[RuntimeEvent], boot: BootEvidence, page: Page) -> bool:
    complaint = contradiction(events, boot.statement)
    if complaint is not None:
        page.contradicted(_ID, complaint)
    return complaint is None


def _claims_keys(runtime: Sequence[RuntimeEvent]) -> bool:
    return any(event.name == RECEIPT_KEY for event in runtime)


def _ends_with_keys(runtime: Sequence[RuntimeEvent], page: Page) -> bool:
    last = runtime[-1]
    if last.key is not None:
        return True
    if last.name == RECEIPT_KEY:
        reason = f"the digest of the last {RECEIPT_KEY} event does not prove what it says"
    elif any(event.key is not None for event in runtime):
        reason = "RTMR3 was extended by something else after this boot's keys"
    else:
        reason = "RTMR3 was extended, but by no keys"
    page.rejected(
        _ID,
        reason,
        expected=f"a proven {RECEIPT_KEY} event as the last extension of RTMR3",
        observed=_called(last),
    )
    return False


def _is_this_boot(key: KeyEvent, boot: BootEvidence, page: Page) -> bool:
    statement = boot.statement
    if key.bootseed != statement.bootseed:
        page.rejected(
            _ID,
            "the last keys bound to RTMR3 are another boot's",
            expected=f"bootseed {short(statement.bootseed)}",
            observed=short(key.bootseed),
        )
        return False
    if key.keyset_digest != statement.keyset_digest:
        page.rejected(
            _ID,
            "the last keys bound to RTMR3 are not those of this boot's keyset",
            expected=f"keyset {short(statement.keyset_digest.value)}",
            observed=short(key.keyset_digest.value),
        )
        return False
    return True


def _nothing_between(runtime: Sequence[RuntimeEvent], page: Page) -> bool:
    first = next(i for i, event in enumerate(runtime) if event.key is not None)
    others = [event for event in runtime[first:] if event.key is None]
    if others:
        page.not_accepted(
            _ID,
            "RTMR3 was extended by something else between keys",
            expected=f"only {RECEIPT_KEY} events from the first one on",
            observed=_called(others[0]),
        )
    return not others


def _numbered(keys: Sequence[KeyEvent], page: Page) -> bool:
    numbers = [key.n for key in keys]
    if numbers != list(range(1, len(keys) + 1)):
        page.rejected(
            _ID,
            f"the {RECEIPT_KEY} events do not count the starts in this trust domain",
            expected="numbered 1, 2, … in their order",
            observed=", ".join(map(str, numbers[:20])),
        )
        return False
    return True


def _listed(
    runtime: Sequence[RuntimeEvent], agreeing: Sequence[ReferenceValues], page: Page
) -> bool:
    """Compare what was measured before the keys with the tuples that match otherwise.

    A tuple that pins RTMR3's value pins every event by that.
    """
    if any(values.rtmr3 is not None for values in agreeing):
        return True
    return _stated_listed([event for event in runtime if event.key is None], agreeing, page)


def _stated_listed(
    measured: Sequence[RuntimeEvent], agreeing: Sequence[ReferenceValues], page: Page
) -> bool:
    """Compare events with the tuples that match otherwise; a pinned RTMR3 stands for none.

    What only the statement lists is in no register: a tuple that pins zero says nothing of it.
    """
    if not (measured or agreeing):
        return True
    if not agreeing:
        page.skipped(_ID, "replays, but no matching tuple says what may stand before the keys")
        return False
    differences = [
        (difference.place, values.name, difference)
        for values in agreeing
        if (difference := compare_measured(values.events, measured)) is not None
    ]
    if len(differences) < len(agreeing):
        return True
    place, name, difference = max(differences, key=itemgetter(0))
    page.not_accepted(
        _ID,
        _CHANGES[difference.change],
        expected=f'as event {place} of "{name}": {_called(difference.expected)}',
        observed=_called(difference.seen),
        hint="list it in the tuple's events only if you can account for it",
    )
    return False


def _few(keys: Sequence[KeyEvent], policy: Policy, page: Page) -> bool:
    if len(keys) > policy.tdx.max_key_events:
        page.not_accepted(
            _ID,
            "the notary was started more often in this trust domain than the policy allows",
            expected=f"at most {policy.tdx.max_key_events} {RECEIPT_KEY} events",
            observed=f"{len(keys)}",
            hint="earlier keys of the same domain exist; a production image powers off instead",
        )
        return False
    return True


def _called(event: RuntimeEvent | None) -> str:
    return "no event" if event is None else f"{event.name[:_NAME_CHARS]} {short(event.digest)}"
