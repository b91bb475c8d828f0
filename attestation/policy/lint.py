"""What a well-formed policy leaves open, or can never accept, in words for its reviewer.

`lint_policy` never refuses: whether a finding matters is the reviewer's decision
(docs/spec/policy-cases.md#lint).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attestation.checks import ANCHORING, FLOOR
from attestation.encoding.instants import instant
from attestation.policy.finding import Finding, error, note, warning
from attestation.policy.lint_references import lint_references
from attestation.policy.model import ALL_BITS, SEPT_VE_DISABLE, UP_TO_DATE, TdxRules

if TYPE_CHECKING:
    from collections.abc import Iterator

    from attestation.policy.model import PlatformRules, Policy

NEVER_MADE = frozenset(
    {
        "GPU-GENUINE", "GPU-MEASUREMENTS", "GPU-BINDING", "LINEAGE-EDGES", "LINEAGE-COMPLETE",
        "WITNESS",
    }
)  # fmt: skip
"""Checks that this version of the verifier cannot pass: demanding one accepts nothing."""

FIRST_USE = "trust on first use"
"""How the version of a policy begins that was made out of the evidence it is to judge."""

_YEAR = 366 * 86_400
# TDATTRIBUTES that the verifier refuses whatever a policy says: DEBUG and MIGRATABLE.
_REFUSED_BITS = 1 | 1 << 29
_LIVE_ONLY = "CHANNEL"
# Days from issue to expiry of Intel's TCB info, QE identity and PCK revocation lists.
_MONTHLY = 30


def lint_policy(policy: Policy, at: int) -> tuple[Finding, ...]:
    """Return every finding about `policy` at the instant `at` (Unix seconds), in file order."""
    return (
        *_lint_version(policy.version),
        *_lint_status(policy.tdx, at),
        *_lint_advisories(policy.tdx, at),
        *_lint_versions(policy.tdx),
        *_lint_attributes(policy.tdx),
        *_lint_keys(policy.tdx),
        *_lint_endorsements(policy),
        *_lint_platform(policy.platform, at),
        *_lint_demands(policy),
        *lint_references(policy),
    )


def _lint_version(version: str | None) -> Iterator[Finding]:
    if version is not None and version.startswith(FIRST_USE):
        yield note(
            "first_use",
            "version",
            "the values were taken from evidence of the gateway itself: nobody compared them with "
            "published or computed measurements",
            "compare them, then write a version of your own",
        )


def _lint_status(tdx: TdxRules, at: int) -> Iterator[Finding]:
    for index, rule in enumerate(tdx.tcb_status):
        path = f"tdx.tcb_status[{index}]"
        if rule.status != UP_TO_DATE:
            yield warning(
                "weak_status",
                path,
                f"platforms that Intel calls {rule.status} are accepted",
                "accept UpToDate alone, or know why this machine cannot be",
            )
        yield from _lint_until(rule.until, at, path)
    if all(rule.until is not None and rule.until <= at for rule in tdx.tcb_status):
        yield error(
            "no_status",
            "tdx.tcb_status",
            "every entry has ended: no platform is accepted any more",
            "update the platforms, or decide on new ends",
        )


def _lint_advisories(tdx: TdxRules, at: int) -> Iterator[Finding]:
    for index, rule in enumerate(tdx.advisories):
        path = f"tdx.advisories[{index}]"
        yield warning(
            "open_advisory",
            path,
            f"platforms are accepted that {rule.id} is open on",
            "read the advisory; remove the entry when the platforms are updated",
        )
        yield from _lint_until(rule.until, at, path)


def _lint_until(until: int | None, at: int, path: str) -> Iterator[Finding]:
    if until is None:
        return
    if until <= at:
        yield warning(
            "ended",
            f"{path}.until",
            f"the entry ended at {instant(until)} and has no effect any more",
            "remove it, or decide again how long it may count",
        )
    elif until > at + _YEAR:
        yield warning(
            "far_end",
            f"{path}.until",
            f"the entry counts until {instant(until)}, more than a year from now",
            "set an end at which somebody looks at it again",
        )


def _lint_versions(tdx: TdxRules) -> Iterator[Finding]:
    if not tdx.min_tcb_evaluation_number:
        yield warning(
            "no_evaluation_number",
            "tdx.min_tcb_evaluation_number",
            "endorsements of an earlier TCB evaluation are accepted while they are in date: "
            "whoever supplies them can leave out what Intel found since",
            "set it to the number of current endorsements; `attested quote --json` shows it",
        )
    # Zero is reached by every platform, so it is no floor.
    if not tdx.min_tcb_date and not any(tdx.min_tee_tcb_svn or b""):
        yield note(
            "no_version_floor",
            "tdx.min_tcb_date",
            "what counts as current is Intel's word of the day: no date or version of your own "
            "has to be reached",
            "set min_tcb_date or min_tee_tcb_svn if you know what your machines have",
        )
    if tdx.mrseam is None:
        yield warning(
            "no_mrseam",
            "tdx.mrseam",
            "any TDX module that Intel signed and the endorsements know is accepted",
            "list the modules of your platforms; `attested inspect` shows MRSEAM",
        )


def _lint_attributes(tdx: TdxRules) -> Iterator[Finding]:
    rule, path = tdx.attributes, "tdx.attributes"
    needed = SEPT_VE_DISABLE & rule.mask
    if rule.value & _REFUSED_BITS or rule.value & needed != needed:
        yield error(
            "refused_attributes",
            path,
            "it asks for DEBUG, for MIGRATABLE or for a clear SEPT_VE_DISABLE, which the verifier "
            "refuses whatever a policy says: nothing is accepted",
            "write 0x10000000, which is SEPT_VE_DISABLE alone",
        )
    if open_bits := ALL_BITS & ~rule.mask:
        yield warning(
            "open_attributes",
            f"{path}.mask",
            f"the bits {open_bits:#x} of TDATTRIBUTES may have any value",
            "compare all of them: write one word instead of value and mask",
        )
    if unusual := rule.value & ~(SEPT_VE_DISABLE | _REFUSED_BITS):
        yield warning(
            "unusual_attributes",
            path,
            f"the bits {unusual:#x} of TDATTRIBUTES must be set; bit 63, for one, lets the host "
            "count the domain's events",
            "write 0x10000000 unless your image needs them",
        )
    usual = TdxRules().xfam
    for index, word in enumerate(tdx.xfam):
        if word not in usual:
            yield warning(
                "unusual_xfam",
                f"tdx.xfam[{index}]",
                f"{word:#x} is none of the usual words " + ", ".join(f"{one:#x}" for one in usual),
                "know which processor state it opens to the domain",
            )


def _lint_keys(tdx: TdxRules) -> Iterator[Finding]:
    if tdx.unbound_keys:
        yield warning(
            "unbound_keys",
            "tdx.unbound_keys",
            "keys are accepted that RTMR3 does not bind: a later program in the same domain can "
            "have them quoted as its own",
            'write "refuse" where the platform can extend RTMR3',
        )
    if tdx.max_key_events > 1:
        yield warning(
            "many_starts",
            "tdx.max_key_events",
            f"the notary may have started {tdx.max_key_events} times in one domain: keys of "
            "earlier starts exist, and so may whoever made it start again",
            "write 1; a production image powers off instead",
        )


def _lint_endorsements(policy: Policy) -> Iterator[Finding]:
    if policy.max_age_days is None:
        yield warning(
            "no_max_age",
            "endorsements.max_age_days",
            "endorsements are accepted to the last day they are in date, whatever was published "
            "since",
            "set it, for example to 30",
        )
    elif policy.max_age_days > _MONTHLY:
        yield warning(
            "long_max_age",
            "endorsements.max_age_days",
            f"a bound of {policy.max_age_days} days bounds nothing: what Intel signs anew every "
            f"month runs out {_MONTHLY} days after its issue",
            f"write {_MONTHLY} or less",
        )
    if not policy.require_anchored:
        yield warning(
            "not_anchored",
            "log.require_anchored",
            "receipts are accepted whose place in the order rests on the gateway's keys alone",
            "write true, and get anchored receipts (?wait=anchored)",
        )


def _lint_platform(platform: PlatformRules, at: int) -> Iterator[Finding]:
    if platform.ppid is None and platform.piid is None:
        family = " of the listed families" if platform.fmspc is not None else ""
        yield warning(
            "no_machines",
            "platform.ppid",
            f"any certified machine{family} would do: an attestation key that was extracted from "
            "one of them by physical attack forges every quote, with status UpToDate",
            "list the machines you have reason to believe in, by ppid or piid",
        )
    for name in ("ppid", "piid", "fmspc"):
        entries = getattr(platform, name) or ()
        for index, entry in enumerate(entries):
            path = f"platform.{name}[{index}]"
            yield from _lint_until(entry.until, at, path)
            if entry.since is not None and entry.since > at:
                yield note(
                    "not_yet",
                    f"{path}.from",
                    f"the entry counts from {instant(entry.since)} on only",
                    "nothing, if that is what you mean",
                )
        if entries and not any(entry.counts(at) for entry in entries):
            yield error(
                "no_machine_counts",
                f"platform.{name}",
                "no entry of this list counts now: no machine is accepted",
                "look at from and until of its entries",
            )


def _lint_demands(policy: Policy) -> Iterator[Finding]:
    paths = dict.fromkeys(sorted(policy.require), "require.checks")
    if policy.gpu_required:
        paths |= {"GPU-GENUINE": "gpu.required"}
    if policy.lineage_complete:
        paths |= {"LINEAGE-COMPLETE": "lineage.require_complete"}
    for id_, path in paths.items():
        if id_ in NEVER_MADE:
            yield error(
                "never_made",
                path,
                f"this version of the verifier never makes {id_}: no verdict is better than "
                "INCOMPLETE",
                "leave it out until a version makes it",
            )
    floor = FLOOR if policy.require_anchored else FLOOR - ANCHORING
    for id_ in sorted(policy.require & floor):
        yield note("floor", "require.checks", f"{id_} is required in any case", "nothing")
    if _LIVE_ONLY in policy.require:
        yield note(
            "live_only",
            "require.checks",
            f"only a connected client can make {_LIVE_ONLY}: no verdict on files is better than "
            "INCOMPLETE",
            "keep it for policies of clients",
        )
