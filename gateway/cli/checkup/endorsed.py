"""The endorsements that the gateway hands out: for this platform or not, and what ends when."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from attestation.errors import AttestationError
from attestation.tdx.anchor import INTEL_ANCHOR
from attestation.tdx.collateral import issue_dates
from attestation.tdx.endorsements import (
    State,
    parse_endorsements,
    platform_of,
    verify_endorsements,
)
from gateway.cli.checkup.finding import Finding, Subject

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attestation.tdx.collateral import Collateral
    from attestation.tdx.endorsements import Endorsements
    from gateway.cli.checkup.evidence import Seen

_SUBJECT = Subject(id="evidence.endorsements", area="evidence", title="endorsements")
_FETCH = "attested endorsements fetch, then name the file as evidence.collateral_file"
_DAY = 86_400


def choose_endorsements(configured: Sequence[Collateral], seen: Seen) -> Collateral | None:
    """Return the set that bundles would carry: the first configured one for this platform.

    Without a quote, or where none fits, it is the first one; without any, the provider's own.
    """
    for one in configured:
        try:
            if seen.quote and parse_endorsements(one).is_for(platform_of(seen.quote)):
                return one
        except AttestationError:
            continue
    return configured[0] if configured else seen.collateral


def look_at_endorsements(chosen: Collateral | None, seen: Seen, now: int) -> Finding:
    """Judge the set that bundles would carry, as a verifier would at `now` (Unix seconds).

    `seen` is what the provider gave: its quote, if there is one, says which platform the set must
    be for.
    """
    if chosen is None:
        return _SUBJECT.warn(
            "none: the gateway's bundles carry none, and auditors have to bring their own", _FETCH
        )
    try:
        one = verify_endorsements(chosen, seen.anchor or INTEL_ANCHOR, now)
        wanted = platform_of(seen.quote) if seen.quote else None
    except AttestationError as error:
        return _SUBJECT.refused(error)
    if wanted is not None and not one.is_for(wanted):
        return _SUBJECT.fail(
            f"for FMSPC {one.fmspc} ({one.ca} CA), and this platform is {wanted.fmspc} "
            f"({wanted.ca} CA)",
            _FETCH,
            fmspc=one.fmspc,
        )
    shown = f"for FMSPC {one.fmspc}, evaluation {one.number}; {_dates(one)}"
    data = {"fmspc": one.fmspc, "number": one.number, "parts": _parts(one, now)}
    if one.whole.state(now) is State.SOON:
        days = (one.whole.until - now) // _DAY
        return _SUBJECT.warn(f"{shown}; the first ends in {days} days", _FETCH, **data)
    return _SUBJECT.ok(shown, **data)


def newest_issue(chosen: Collateral | None) -> int | None:
    """Return when the newest monthly part was issued (Unix seconds), None if nothing says so."""
    if chosen is None:
        return None
    try:
        dates = issue_dates(chosen)
    except AttestationError:
        return None
    return max(dates.tcb_info, dates.qe_identity, dates.revocations)


def _dates(one: Endorsements) -> str:
    ends = sorted(one.parts, key=lambda part: part.until)[:4]
    return "ends: " + ", ".join(f"{part.name} {_day(part.until)}" for part in ends)


def _parts(one: Endorsements, now: int) -> list[dict[str, object]]:
    return [
        {
            "issued": part.issued,
            "name": part.name,
            "state": part.state(now).value,
            "until": part.until,
        }
        for part in one.parts
    ]


def _day(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")
