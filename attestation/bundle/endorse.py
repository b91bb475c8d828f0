"""Endorsements from beside the bundle: the verifier's own copy takes the place of the file's."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from attestation.bundle.model import BootEvidence, Bundle, EpochEvidence
from attestation.encoding.strict_json import parse_json_object
from attestation.errors import MalformedError
from attestation.tdx.quote import parse_quote

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attestation.tdx.collateral import Collateral

E = TypeVar("E", BootEvidence, EpochEvidence)


def with_endorsements(bundle: Bundle, sets: Sequence[Collateral]) -> Bundle:
    """Return `bundle` with each quote judged by the first of `sets` for its platform.

    A quote that no set is for keeps what the bundle names.  Whether a set is genuine and in
    date is decided later, by the same checks as for the bundle's own.
    """
    return replace(
        bundle,
        boots=tuple(_endorsed(boot, sets) for boot in bundle.boots),
        epochs=tuple(_endorsed(epoch, sets) for epoch in bundle.epochs),
        collateral={**bundle.collateral, **{item.digest: item for item in sets}},
    )


def _endorsed(item: E, sets: Sequence[Collateral]) -> E:
    fmspc = _fmspc_of_quote(item.quote)
    for collateral in sets:
        if collateral.digest == item.collateral or fmspc_of(collateral) == fmspc is not None:
            return replace(item, collateral=collateral.digest)
    return item


def fmspc_of(collateral: Collateral) -> str | None:
    """Return the platform family (12 hex digits) a set says it is for; nothing is verified."""
    try:
        fmspc = parse_json_object(collateral.tcb_info.encode("utf-8")).get("fmspc")
    except MalformedError:
        return None
    return fmspc.lower() if isinstance(fmspc, str) else None


def _fmspc_of_quote(data: bytes) -> str | None:
    try:
        pck = parse_quote(data).pck
    except MalformedError:
        return None
    return pck.fmspc.hex() if pck else None
