"""The endorsements that the gateway hands out: for this platform or not, and what ends when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from attestation.cli.endorsement_files import load_store
from attestation.cli.files import load_collateral
from attestation.errors import AttestationError
from attestation.tdx.anchor import INTEL_ANCHOR
from attestation.tdx.collateral import issue_dates
from attestation.tdx.dates import State
from attestation.tdx.dcap import verify_quote
from attestation.tdx.endorsements import (
    in_order,
    parse_endorsements,
    platform_of,
    verify_endorsements,
    verify_own_root,
)
from gateway.cli.checkup.finding import Finding, Level, Subject

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from attestation.tdx.collateral import Collateral
    from attestation.tdx.endorsements import Endorsements, Platform
    from gateway.cli.checkup.evidence import Seen

ENDORSEMENTS = Subject(id="evidence.endorsements", area="evidence", title="endorsements")
_TCB = Subject(id="evidence.tcb", area="evidence", title="TCB status")
_UP_TO_DATE = "UpToDate"
_FETCH = "attested endorsements fetch, into the folder that evidence.endorsements names"
_DAY = 86_400
_SHOWN = 3


def load_configured(file: Path | None, folder: Path | None, now: int) -> list[Collateral]:
    """Return the endorsements that the settings name, the best first, as a notary takes them.

    Of the folder what is in date at `now`, then the file, then the rest of the folder.  Raises
    `UsageError` for what cannot be read, `MalformedError` for what does not parse.
    """
    stored = in_order(load_store(str(folder)), now) if folder else []
    named = [load_collateral(str(file))] if file else []
    good = [one.collateral for one in stored if one.whole.issued <= now <= one.whole.until]
    return [*good, *named, *(one.collateral for one in stored)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The set that bundles would carry; where none of those configured fits, what they are."""

    collateral: Collateral | None = None
    refused: Finding | None = None


def choose_endorsements(configured: Sequence[Collateral], seen: Seen) -> Choice:
    """Choose the first configured set for this platform under the root of its quotes.

    That root is the provider's, or Intel's; without a quote any platform fits.  With nothing
    configured it is the provider's own set.
    """
    if not configured:
        return Choice(collateral=seen.collateral)
    root = (seen.anchor or INTEL_ANCHOR).name
    wanted = _platform_in(seen)
    found: list[str] = []
    for one in configured:
        try:
            stated = parse_endorsements(one)
            signer = verify_own_root(stated).name
        except AttestationError as error:
            found.append(f"{one.digest.hex[:8]}…: {error.message}")
            continue
        if signer == root and (wanted is None or stated.is_for(wanted)):
            return Choice(collateral=one)
        found.append(f"{one.digest.hex[:8]}…: FMSPC {stated.fmspc} ({stated.ca} CA) under {signer}")
    return Choice(refused=_none_fits(found, wanted, root))


def _platform_in(seen: Seen) -> Platform | None:
    try:
        return platform_of(seen.quote) if seen.quote else None
    except AttestationError:
        # Whoever judges the set chosen says what is wrong with the quote.
        return None


def _none_fits(found: Sequence[str], wanted: Platform | None, root: str) -> Finding:
    here = f"FMSPC {wanted.fmspc} ({wanted.ca} CA)" if wanted else "any platform"
    # What stands in the folder and in the file is listed once.
    shown = list(dict.fromkeys(found))
    more = f"; and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    return ENDORSEMENTS.fail(
        f"none of {len(shown)} is for {here} under {root}: {'; '.join(shown[:_SHOWN])}{more}",
        _FETCH,
        found=shown,
        root=root,
    )


def look_at_endorsements(chosen: Collateral | None, seen: Seen, now: int) -> Finding:
    """Judge the set that bundles would carry, as a verifier would at `now` (Unix seconds).

    `seen` is what the provider gave: its quote, if there is one, says which platform the set must
    be for.
    """
    if chosen is None:
        return ENDORSEMENTS.warn(
            "none: the gateway's bundles carry none, and auditors have to bring their own", _FETCH
        )
    try:
        one = verify_endorsements(chosen, seen.anchor or INTEL_ANCHOR, now)
        wanted = platform_of(seen.quote) if seen.quote else None
    except AttestationError as error:
        return ENDORSEMENTS.refused(error)
    if wanted is not None and not one.is_for(wanted):
        return ENDORSEMENTS.fail(
            f"for FMSPC {one.fmspc} ({one.ca} CA), and this platform is {wanted.fmspc} "
            f"({wanted.ca} CA)",
            _FETCH,
            fmspc=one.fmspc,
        )
    shown = f"for FMSPC {one.fmspc}, evaluation {one.number}; {_dates(one)}"
    data: dict[str, object] = {
        "fmspc": one.fmspc,
        "number": one.number,
        "parts": _parts(one, now),
    }
    if one.whole.state(now) is State.SOON:
        days = (one.whole.until - now) // _DAY
        return ENDORSEMENTS.warn(f"{shown}; the first ends in {days} days", _FETCH, **data)
    return ENDORSEMENTS.ok(shown, **data)


def look_at_tcb(chosen: Collateral | None, seen: Seen, now: int) -> Finding | None:
    """Say what the chosen endorsements make of this platform; None where there is no quote."""
    if chosen is None or seen.quote is None:
        return None
    try:
        genuine = verify_quote(seen.quote, chosen, now, seen.anchor or INTEL_ANCHOR)
    except AttestationError as error:
        return _TCB.refused(error, level=Level.WARN)
    listed = ", ".join(genuine.advisory_ids)
    data: dict[str, object] = {
        "advisories": list(genuine.advisory_ids),
        "status": genuine.tcb_status,
    }
    if genuine.tcb_status == _UP_TO_DATE:
        return _TCB.ok(f"{genuine.tcb_status}{': ' if listed else ''}{listed}", **data)
    return _TCB.warn(
        f"{genuine.tcb_status}{': ' if listed else ''}{listed}",
        "the host's operator updates firmware and microcode; until then policies have to list this "
        "status and these advisories",
        **data,
    )


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
