"""Pinning: a policy out of the evidence that it is to judge from now on.

That is trust on first use: everything that needs no reference values is verified first, and
nothing says that the values are those of the software anybody reviewed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from attestation.encoding.instants import instant, is_instant
from attestation.errors import MalformedError, PolicyError, UsageError
from attestation.policy import AdvisoryRule, Policy, StatusRule, TdxRules, parse_policy
from attestation.policy.lint import FIRST_USE
from attestation.report.pinned import UP_TO_DATE, ShownBoot, draft
from attestation.result import Verdict
from attestation.verifier import verify, verify_boots
from attestation.verifier.appraisal import appraise_boots
from attestation.verifier.grounds import Grounds
from attestation.verifier.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attestation.bundle import Bundle
    from attestation.encoding.digest import Digest
    from attestation.report.pinned import Choices, Draft
    from attestation.result import AttestationResult
    from attestation.tdx.anchor import Anchor

_REFUSED = frozenset({Verdict.MALFORMED, Verdict.REJECTED, Verdict.NOT_ACCEPTED})
_ACCEPTED = frozenset({Verdict.ACCEPTED, Verdict.SIMULATED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What is pinned from: the evidence, where it came from, and what else was or was not shown.

    `digest` is the SHA-256 of the bytes that were read.  `shown` and `not_shown` are sentences
    about the connection, for the head of the policy; files have none.
    """

    bundle: Bundle
    source: str
    digest: Digest
    shown: tuple[str, ...] = ()
    not_shown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pinned:
    """A policy that accepts the evidence, read back and tried on it; `result` says so."""

    text: str
    policy: Policy
    draft: Draft
    result: AttestationResult


def pin(
    seen: Seen, at: int, anchors: Sequence[Anchor], choices: Choices
) -> Pinned | AttestationResult:
    """Return the policy that pins what the boots of a bundle show at `at` (Unix seconds).

    1. the whole file is verified by the floor and `choices`, without reference values: whatever
       then fails is not pinned
    2. every choice is needed, so that nothing is accepted for later
    3. the values are taken from quotes found genuine, and the policy's text is read back
    4. the boots are accepted by that policy, and nothing in the file fails under it

    What is refused comes back as the result that says why.  Raises `UsageError` for a file without
    a boot, a choice that nothing asks for, and for what `verify` raises it; `PolicyError` for
    evidence with a value that has no form in a policy.
    """
    bundle = seen.bundle
    if not bundle.boots:
        raise UsageError(
            "there is nothing to pin: the file has no boot's evidence",
            code="no_boot",
            hint="GET /v1/receipts/ID?format=bundle brings it with a receipt",
        )
    if not is_instant(choices.until):
        raise UsageError(
            "exceptions cannot end then",
            code="until",
            expected="an instant in the years 1970 to 9999, UTC",
            observed=f"{choices.until} s",
        )
    plain = _plain_policy(choices)
    first = verify(bundle, plain, at, anchors, {})
    if first.verdict in _REFUSED:
        return first
    boots = _genuine_boots(bundle, Grounds(policy=plain, at=at, anchors=tuple(anchors)))
    if len(boots) < len(bundle.boots):
        return first
    _require_needed(boots, choices)
    found = draft(boots, [p.number for one in first.endorsed for _, p in one.parts], choices)
    text = found.policy_text(_head(seen, at, first), _version(seen, at))
    policy = _read_back(text)
    accepted = verify_boots(bundle, policy, at, anchors)
    whole = verify(bundle, policy, at, anchors, {})
    if accepted.verdict not in _ACCEPTED:
        return accepted
    if whole.verdict in _REFUSED:
        return whole
    return Pinned(text=text, policy=policy, draft=found, result=accepted)


def _read_back(text: str) -> Policy:
    try:
        return parse_policy(text.encode())
    except MalformedError as error:
        raise PolicyError(
            "the evidence shows a value that has no form in a policy",
            code="no_form",
            expected=error.expected,
            observed=error.message,
            hint="an event's name in another maker's log can be such a value; it cannot be pinned",
        ) from error


def _plain_policy(choices: Choices) -> Policy:
    statuses = [StatusRule(status=status, until=choices.until) for status in choices.statuses]
    return Policy(
        digest=None,
        tdx=TdxRules(
            tcb_status=(StatusRule(status=UP_TO_DATE), *statuses),
            advisories=tuple(
                AdvisoryRule(id=id_, until=choices.until) for id_ in choices.advisories
            ),
            unbound_keys=choices.unbound_keys,
        ),
        max_age_days=choices.max_age_days,
    )


def _genuine_boots(bundle: Bundle, grounds: Grounds) -> list[ShownBoot]:
    appraised = appraise_boots(bundle, grounds, Ledger(frozenset()))
    return [
        ShownBoot(evidence=one.boot, genuine=one.genuine)
        for one in appraised.values()
        if one.genuine is not None
    ]


def _require_needed(boots: Sequence[ShownBoot], choices: Choices) -> None:
    statuses = {one.genuine.tcb_status for one in boots}
    advisories = {id_ for one in boots for id_ in one.genuine.advisory_ids}
    idle = [
        *(f"status {status}" for status in choices.statuses if status not in statuses),
        *(f"advisory {id_}" for id_ in choices.advisories if id_ not in advisories),
    ]
    if choices.unbound_keys and all(one.binds_keys for one in boots):
        idle.append("unbound keys")
    if idle:
        raise UsageError(
            f"the evidence does not ask for {', '.join(idle)}",
            code="not_needed",
            expected="only what this evidence needs",
            observed=f"status {', '.join(sorted(statuses))}; advisories "
            f"{', '.join(sorted(advisories)) or 'none'}",
            hint="leave it out: a policy that accepts more than it has to is not written",
        )


def _version(seen: Seen, at: int) -> str:
    return f"{FIRST_USE} {instant(at)}, evidence {seen.digest.hex[:16]}"


def _head(seen: Seen, at: int, first: AttestationResult) -> list[str]:
    """Return what the policy says about itself at its top."""
    root = "Intel's root" if first.trust_domains == {"intel"} else "a SIMULATED root"
    boots = [boot.statement.bootseed.hex()[:16] for boot in seen.bundle.boots]
    logged = all(boot.event_log is not None for boot in seen.bundle.boots)
    replayed = "the event log replays" if logged else "and there was no event log to replay"
    return [
        "TRUST ON FIRST USE: made by `attested pin` out of the evidence that it is to judge.",
        f"As of:    {instant(at)}",
        f"From:     {seen.source}",
        f"Evidence: SHA-256 {seen.digest.hex}",
        f"          boot {', '.join(boots)}; quotes under {root}",
        "",
        "Checked: the quotes are genuine and their endorsements in date, the statement is what",
        f"the quote covers, the keyset is the statement's, {replayed}.",
        *seen.shown,
        "",
        "NOT checked: nobody compared the registers below with measurements that anybody",
        "published or computed from an image. If other software ran when this was made, that",
        "software is what this policy accepts. Settings and names are that software's word.",
        *seen.not_shown,
        "",
        "To lift it: get the registers from whoever builds the image, or compute them from the",
        "image itself; compare each one; compare config_digest with that of the settings you",
        "agreed on; then write a version of your own below and remove these lines.",
        "",
    ]
