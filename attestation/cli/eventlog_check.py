"""What replaying, a quote, a reference log and a policy say about one event log."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from attestation.errors import EvidenceError, MalformedError
from attestation.result import Verdict
from attestation.tdx.anchor import Anchor
from attestation.tdx.divergence import (
    Cause,
    Difference,
    Mismatch,
    find_mismatch,
    first_difference,
    guess_mismatch,
)
from attestation.tdx.eventlog import dstack_digest
from attestation.tdx.events import REGISTERS, replay
from attestation.tdx.runtime import RUNTIME_REGISTER
from attestation.tdx.signatures import own_checks
from attestation.verifier.events import ALWAYS_COVERED
from attestation.verifier.extensions import compare_measured, runtime_events

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attestation.measure.compare import ComparedRegister
    from attestation.policy import Policy, ReferenceValues
    from attestation.tdx.events import Event, EventLog
    from attestation.tdx.quote import Quote

NO_LOG = "none"
_REJECTED = Verdict.REJECTED.exit_code
_NOT_ACCEPTED = Verdict.NOT_ACCEPTED.exit_code
_INCOMPLETE = Verdict.INCOMPLETE.exit_code
_SIMULATED = Verdict.SIMULATED.exit_code


class Standing(StrEnum):
    """How a register's replay compares with a quote."""

    MATCH = "match"
    MISMATCH = "mismatch"
    NOT_COVERED = "not-covered"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One register against a quote; `recomputed` is said of digests that a log leaves out.

    It is true if dstack's rule, applied to what the log tells, leads to the quote's value.
    """

    standing: Standing
    quoted: bytes
    mismatch: Mismatch | None = None
    recomputed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TupleFinding:
    """How a log differs from one tuple of reference values; nothing if it does not."""

    name: str
    differences: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """Everything known about one log; None for what was not asked."""

    name: str
    log: EventLog
    quote: Quote | None = None
    compared: tuple[Comparison, ...] | None = None
    reference: tuple[Difference[Event] | None, ...] | None = None
    tuples: tuple[TupleFinding, ...] | None = None
    predicted: tuple[ComparedRegister, ...] | None = None
    not_logged: tuple[str, ...] = ()

    @property
    def intel_root(self) -> bool | None:
        """Whether the quote's chain ends in Intel's root; None without a quote or a chain.

        Read off, not verified: it only keeps other evidence from being taken for Intel's.
        """
        try:
            root = self.quote.chain()[-1] if self.quote else None
        except MalformedError:
            root = None
        return None if root is None else _is_intel(root)

    @property
    def signed(self) -> bool | None:
        """Whether the signatures inside the quote hold; None without a quote.

        Without them anybody may have written the registers.  That is not yet a genuine quote:
        revocation, dates and TCB take endorsements, which are not looked at here.
        """
        if self.quote is None:
            return None
        own = own_checks(self.quote)
        # A chain to a root that is not Intel's is said to be that, whatever is wrong with it.
        chain = own.chain if self.intel_root else None
        return False not in (own.body_sig, own.ak_binding, own.qe_sig, chain)

    @property
    def exit_codes(self) -> list[int]:
        """The exit codes of what was compared, 0 for what agrees."""
        codes = [_code_of(one, at, self.log) for at, one in enumerate(self.compared or ())]
        codes += [_REJECTED for one in self.reference or () if one is not None]
        codes += [_REJECTED for one in self.predicted or () if one.first_difference is not None]
        codes += [_INCOMPLETE for one in self.predicted or () if not one.foreseen]
        codes += [_INCOMPLETE for _ in self.not_logged]
        if self.tuples is not None and all(one.differences for one in self.tuples):
            codes.append(_NOT_ACCEPTED)
        if self.signed is False:
            codes.append(_REJECTED)
        if self.intel_root is False:
            codes.append(_SIMULATED)
        return [0, *codes]


def compare_with_quote(log: EventLog, quote: Quote) -> tuple[Comparison, ...]:
    """Return, for each register, how the replay of `log` compares with the quote's value."""
    return tuple(_compare(log, at, quote.body.rtmrs[at]) for at in range(REGISTERS))


def compare_with_reference(
    log: EventLog, reference: EventLog
) -> tuple[Difference[Event] | None, ...]:
    """Return, for each register, the first event whose digest is not that of the reference."""
    return tuple(
        first_difference(reference.of(at), log.of(at), lambda event: event.digest)
        for at in range(REGISTERS)
    )


def compare_with_policy(
    log: EventLog, policy: Policy, tuples: Sequence[ReferenceValues]
) -> tuple[TupleFinding, ...]:
    """Return how `log` differs from each tuple, as far as a log can.

    Registers that the log does not account for are not compared.
    """
    return tuple(
        TupleFinding(
            name=values.name,
            differences=(
                *_register_differences(log, values),
                *_runtime_differences(log, values, policy),
            ),
        )
        for values in tuples
    )


def _is_intel(root: bytes) -> bool:
    try:
        return Anchor(root).trust_domain == "intel"
    except (MalformedError, EvidenceError):
        return False


def _compare(log: EventLog, register: int, value: bytes) -> Comparison:
    events = log.of(register)
    mismatch = guess_mismatch(events, value)
    standing = Standing.MISMATCH
    if mismatch is None:
        standing = Standing.MATCH
    elif not _covers(log, register):
        standing, mismatch = Standing.NOT_COVERED, None
    return Comparison(
        standing=standing,
        quoted=value,
        mismatch=mismatch,
        recomputed=(
            mismatch is not None
            and mismatch.cause is Cause.UNSTATED
            and find_mismatch(_recomputed(events), value) is None
        ),
    )


def _covers(log: EventLog, register: int) -> bool:
    """Say whether the log accounts for the register, by its events or by having none of them."""
    return bool(log.of(register)) or register in ALWAYS_COVERED.get(log.format, ())


def _recomputed(events: Sequence[Event]) -> list[Event]:
    return [
        event
        if event.digest
        else replace(event, digest=dstack_digest(event.type, event.name, event.data) or b"")
        for event in events
    ]


def _code_of(one: Comparison, register: int, log: EventLog) -> int:
    if one.standing is Standing.NOT_COVERED:
        # The gateway's own log is about RTMR3 and nothing else.
        elsewhere = log.format in (NO_LOG, "attested-gateway") and register != RUNTIME_REGISTER
        return 0 if elsewhere else _INCOMPLETE
    return 0 if one.standing is Standing.MATCH else _REJECTED


def _register_differences(log: EventLog, values: ReferenceValues) -> list[str]:
    pinned = (values.rtmr0, values.rtmr1, values.rtmr2, values.rtmr3)
    return [
        f"RTMR{at} does not replay to the tuple's value"
        for at, (replayed, value) in enumerate(zip(replay(log), pinned, strict=True))
        if value is not None and _covers(log, at) and replayed != value
    ]


def _runtime_differences(log: EventLog, values: ReferenceValues, policy: Policy) -> list[str]:
    events = list(runtime_events(log))
    if values.rtmr3 is not None or not _covers(log, RUNTIME_REGISTER):
        return []
    keys = [event for event in events if event.key is not None]
    first = events.index(keys[0]) if keys else len(events)
    found = compare_measured(values.events, events[:first])
    differences = []
    if found is not None:
        differences.append(f"RTMR3 event {found.place}, {found.item.name}, is {found.change}")
    if not keys and not policy.tdx.unbound_keys:
        differences.append("RTMR3 binds no keys")
    if len(keys) < len(events) - first:
        differences.append("RTMR3 has other events between or after the keys")
    if len(keys) > policy.tdx.max_key_events:
        differences.append(
            f"{len(keys)} key events, where the policy allows {policy.tdx.max_key_events}"
        )
    return differences
