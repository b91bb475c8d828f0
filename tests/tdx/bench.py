"""A simulated platform on the bench: one healthy default, and what verification makes of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

from attestation.errors import AttestationError, EvidenceError
from attestation.tdx.anchor import Anchor
from attestation.tdx.collateral import Collateral
from attestation.tdx.dcap import GenuineQuote, verify_quote
from attestation.tdx.quote import Quote, canonical_quote, parse_quote
from gateway.attester.simulated.facts import Endorsements
from gateway.attester.simulated.platform import SimulatedPlatform

NOW = 1_760_000_000
SEED = bytes(range(32))
REPORT_DATA = bytes(range(64))

Change = Callable[[SimulatedPlatform], SimulatedPlatform]


@cache
def platform(version: int = 4) -> SimulatedPlatform:
    """The healthy platform; equal in every run."""
    return SimulatedPlatform(now=NOW, version=version, seed=SEED)


@cache
def raw_quote(version: int = 4) -> bytes:
    return platform(version).quote(REPORT_DATA)


@cache
def collateral(version: int = 4) -> Collateral:
    return platform(version).collateral()


@cache
def canonical(version: int = 4) -> bytes:
    return canonical_quote(raw_quote(version))


@cache
def distinct(version: int = 4) -> bytes:
    """A quote in which no two fields are equal, so that none can pass for another."""

    def value(name: str, size: int = 48) -> bytes:
        return hashlib.shake_256(name.encode()).digest(size)

    machine = {
        "tee_tcb_svn": value("tcb", 16),
        "tee_tcb_svn2": value("tcb2", 16),
        "mr_seam": value("seam"),
        "mr_signer_seam": value("signer"),
        "seam_attributes": value("seam attributes", 8),
    }
    domain = {
        "td_attributes": int.from_bytes(value("attributes", 8), "big"),
        "xfam": int.from_bytes(value("xfam", 8), "big"),
        "mrtd": value("mrtd"),
        "mr_config_id": value("config"),
        "mr_owner": value("owner"),
        "mr_owner_config": value("owner config"),
        "rtmrs": tuple(value(f"rtmr{index}") for index in range(4)),
        "mr_service_td": value("service"),
    }
    return changed(platform(version), machine=machine, domain=domain).quote(REPORT_DATA)


def quote(version: int = 4) -> Quote:
    return parse_quote(raw_quote(version))


def verify(one: SimulatedPlatform, *, at: int = NOW) -> GenuineQuote:
    return verify_quote(parse_quote(one.quote(REPORT_DATA)), one.collateral(), at, one.anchor)


def code_of(
    data: bytes | Quote, endorsements: Collateral, *, at: int = NOW, anchor: Anchor | None = None
) -> str:
    """The code of the refusal, or "genuine"."""
    parsed = data if isinstance(data, Quote) else parse_quote(data)
    try:
        verify_quote(parsed, endorsements, at, anchor or platform().anchor)
    except EvidenceError as error:
        return error.code
    return "genuine"


def outcome(action: Callable[..., object], *args: object) -> str:
    """Return "accepted" or the code of our refusal; foreign exceptions pass through."""
    try:
        action(*args)
    except AttestationError as error:
        return error.code
    return "accepted"


def changed(
    one: SimulatedPlatform,
    *,
    machine: dict[str, Any] | None = None,
    domain: dict[str, Any] | None = None,
    writing: dict[str, Any] | None = None,
    endorsements: dict[str, Any] | None = None,
) -> SimulatedPlatform:
    """The same platform with some facts replaced."""
    return one.but(
        machine=replace(one.machine, **machine or {}),
        domain=replace(one.domain, **domain or {}),
        writing=replace(one.writing, **writing or {}),
        endorsements=replace(one.endorsements, **endorsements or {}),
    )


def endorsed(**facts: Any) -> Collateral:
    """The healthy platform's collateral with some facts replaced."""
    return platform().but(endorsements=Endorsements(**facts)).collateral()


def altered(collateral: Collateral, **members: Any) -> Collateral:
    """Return this collateral with some members replaced."""
    return replace(collateral, **members)


def flipped(data: bytes, position: int, bit: int = 0) -> bytes:
    """`data` with one bit inverted."""
    return data[:position] + bytes((data[position] ^ 1 << bit,)) + data[position + 1 :]
