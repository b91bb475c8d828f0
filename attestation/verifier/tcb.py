"""TCB-STATUS and TCB-ADVISORIES: is the platform patched as far as the policy asks?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attestation.encoding.instants import instant

if TYPE_CHECKING:
    from attestation.policy import StatusRule
    from attestation.tdx.dcap import GenuineQuote
    from attestation.verifier.grounds import Grounds
    from attestation.verifier.ledger import Page
_STATUS = "TCB-STATUS"


def check_status(genuine: GenuineQuote, grounds: Grounds, page: Page) -> None:
    """TCB-STATUS: how far the platform is patched, by Intel's word and by the policy's bounds.

    1. the merged status is listed, and its entry has not run out
    2. the TCB level of platform and TDX module is not of an earlier date than the policy's
    3. no component of TEE_TCB_SVN is below the policy's
    """
    tdx = grounds.policy.tdx
    body, date = genuine.quote.body, tdx.min_tcb_date
    rules = [rule for rule in tdx.tcb_status if rule.status == genuine.tcb_status]
    expected = ", ".join(_words(rule) for rule in tdx.tcb_status)
    if not any(rule.until is None or grounds.at < rule.until for rule in rules):
        ran_out = "; the policy's entry for it has run out" if rules else ""
        page.not_accepted(
            _STATUS,
            f"the platform is {genuine.tcb_status}{ran_out}",
            expected=expected,
            observed=f"{genuine.tcb_status}, TCB date {genuine.tcb_date}",
            hint="update firmware and microcode, or accept this status in [tdx] tcb_status",
        )
    elif date is not None and genuine.tcb_level_date < date:
        page.not_accepted(
            _STATUS,
            "the platform's TCB level is of an earlier date than the policy asks for",
            expected=f"TCB date {instant(date)} or later",
            observed=f"{instant(genuine.tcb_level_date)}, {genuine.tcb_status}",
            hint="update firmware, microcode and TDX module, or lower [tdx] min_tcb_date",
        )
    elif below := _components_below(body.tee_tcb_svn, tdx.min_tee_tcb_svn):
        page.not_accepted(
            _STATUS,
            f"TEE_TCB_SVN is below the policy's in component {', '.join(map(str, below))}",
            expected=f"at least {(tdx.min_tee_tcb_svn or b'').hex()}, in every one of 16 bytes",
            observed=body.tee_tcb_svn.hex(),
            hint="update the TDX module and its loader, or lower [tdx] min_tee_tcb_svn",
        )
    else:
        page.passed(
            _STATUS,
            genuine.tcb_status,
            expected=expected,
            observed=f"TCB date {genuine.tcb_date}, TEE_TCB_SVN {body.tee_tcb_svn.hex()}",
        )


def _words(rule: StatusRule) -> str:
    return rule.status if rule.until is None else f"{rule.status} before {instant(rule.until)}"


def _components_below(seen: bytes, least: bytes | None) -> list[int]:
    """Return the numbers of the components that are below `least`; none if nothing is asked."""
    if least is None:
        return []
    return [
        number for number, pair in enumerate(zip(seen, least, strict=True)) if pair[0] < pair[1]
    ]


def check_advisories(genuine: GenuineQuote, grounds: Grounds, page: Page) -> None:
    """TCB-ADVISORIES: every open advisory is listed, and its entry has not run out."""
    allowed = {r.id for r in grounds.policy.tdx.advisories if grounds.at < r.until}
    unlisted = [name for name in genuine.advisory_ids if name not in allowed]
    if unlisted:
        page.not_accepted(
            "TCB-ADVISORIES",
            "security advisories are open that the policy does not allow",
            expected="only " + ", ".join(sorted(allowed)) if allowed else "none",
            observed=", ".join(unlisted),
            hint="update the platform, or list them in [tdx] advisories with an end date",
        )
        return
    listed = ", ".join(genuine.advisory_ids)
    page.passed("TCB-ADVISORIES", f"open but allowed: {listed}" if listed else "none is open")
