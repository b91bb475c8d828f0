"""PLATFORM: is this one of the machines, or of the kinds of machine, that the policy wants?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attestation.encoding.instants import instant
from attestation.policy import SGX_TYPES
from attestation.verifier.words import short

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attestation.policy import ListedMachine, PlatformRules
    from attestation.tdx.dcap import GenuineQuote
    from attestation.tdx.pck import PckExtension
    from attestation.verifier.grounds import Grounds
    from attestation.verifier.ledger import Page

_ID = "PLATFORM"
_HINT = (
    "change [platform] once you know who holds this machine; `attested inspect` shows its values "
    "in full"
)
_SAID = {True: "yes", False: "no", None: "not said"}


def check_platform(genuine: GenuineQuote, grounds: Grounds, page: Page) -> None:
    """PLATFORM: whatever the policy's table asks for is met by this machine's certificate.

    1. every list that is given has an entry for the machine that counts at the instant asked for
    2. its SGX type is listed
    3. it has no property that the policy refuses; one that its certificate does not speak of
       is refused too
    """
    rules, pck = grounds.policy.platform, genuine.pck
    shown = _shown(pck)
    if not rules.demands:
        page.info(_ID, "no platform list was applied", observed=shown)
        return
    by, complaints = _listed(rules, pck, grounds.at)
    complaints += _unwanted(rules, pck)
    if complaints:
        page.not_accepted(
            _ID,
            "; ".join(reason for reason, _ in complaints),
            expected="; ".join(expected for _, expected in complaints),
            observed=shown,
            hint=_HINT,
        )
        return
    reason = f"on the list by {' and '.join(by)}" if by else "of a kind that the policy accepts"
    page.passed(_ID, reason, observed=shown)


def _listed(
    rules: PlatformRules, pck: PckExtension, at: int
) -> tuple[list[str], list[tuple[str, str]]]:
    """Return by which lists the machine is named, and of the others a reason and what they ask."""
    by: list[str] = []
    complaints: list[tuple[str, str]] = []
    lists = {
        "ppid": (rules.ppid, pck.ppid),
        "piid": (rules.piid, pck.piid),
        "fmspc": (rules.fmspc, pck.fmspc),
    }
    for name, (entries, value) in lists.items():
        if entries is None:
            continue
        own = [entry for entry in entries if entry.value == value]
        counting = [entry for entry in own if entry.counts(at)]
        if counting:
            labels = ", ".join(f'"{entry.label}"' for entry in counting if entry.label)
            by.append(f"{name} ({labels})" if labels else name)
        elif own:
            reason = f"the policy's entry for the machine's {name} does not count at {instant(at)}"
            complaints.append((reason, f"an instant {_spans(own)}"))
        else:
            reason = f"the machine's {name} is not on the policy's list"
            complaints.append((reason, f"one listed in [platform] {name}"))
    return by, complaints


def _unwanted(rules: PlatformRules, pck: PckExtension) -> list[tuple[str, str]]:
    """Return what is wrong with the kind of machine: a reason and what the policy asks for."""
    complaints: list[tuple[str, str]] = []
    if rules.sgx_type is not None and pck.sgx_type not in rules.sgx_type:
        complaints.append(
            (
                f"the machine's SGX type is {SGX_TYPES[pck.sgx_type]}",
                "SGX type " + " or ".join(SGX_TYPES[number] for number in rules.sgx_type),
            )
        )
    properties = {
        "dynamic platform": (rules.dynamic_platform, pck.dynamic_platform),
        "cached keys": (rules.cached_keys, pck.cached_keys),
        "SMT": (rules.smt, pck.smt_enabled),
    }
    for name, (accepted, said) in properties.items():
        if accepted is False and said is not False:
            reason = (
                f"the machine's certificate says {name}, which the policy refuses"
                if said
                else f"the machine's certificate does not say whether it has {name}"
            )
            complaints.append((reason, f"{name}: no"))
    return complaints


def _spans(entries: Sequence[ListedMachine]) -> str:
    return " or ".join(
        " ".join(
            f"{word} {instant(bound)}"
            for word, bound in (("from", entry.since), ("before", entry.until))
            if bound is not None
        )
        for entry in entries
    )


def _shown(pck: PckExtension) -> str:
    return (
        f"PPID {short(pck.ppid)}, FMSPC {pck.fmspc.hex()}, SGX type {SGX_TYPES[pck.sgx_type]}, "
        f"dynamic platform: {_SAID[pck.dynamic_platform]}, cached keys: {_SAID[pck.cached_keys]}, "
        f"SMT: {_SAID[pck.smt_enabled]}"
    )
