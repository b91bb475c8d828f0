"""Endorsements from beside the bundle: the verifier's own copy takes the place of the file's."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from cryptography import x509

from attestation.bundle.model import BootEvidence, Bundle, EpochEvidence
from attestation.encoding.strict_json import parse_json_object
from attestation.errors import MalformedError
from attestation.tdx.chain import NOT_A_CERTIFICATE
from attestation.tdx.endorsements import ca_of, platform_of
from attestation.tdx.quote import parse_quote

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attestation.encoding.digest import Digest
    from attestation.tdx.collateral import Collateral

E = TypeVar("E", BootEvidence, EpochEvidence)


def with_endorsements(bundle: Bundle, sets: Sequence[Collateral]) -> Bundle:
    """Return `bundle` with each quote judged by the first of `sets` for its platform.

    A quote that no set is for keeps what the bundle names.  Whether a set is genuine and in
    date is decided later, by the same checks as for the bundle's own.
    """
    named = [(item.digest, fmspc_of(item), _ca_of_set(item)) for item in sets]
    return replace(
        bundle,
        boots=tuple(_endorsed(boot, named) for boot in bundle.boots),
        epochs=tuple(_endorsed(epoch, named) for epoch in bundle.epochs),
        collateral={**bundle.collateral, **{item.digest: item for item in sets}},
    )


def endorsements_for(quote: bytes, sets: Sequence[Collateral]) -> Collateral | None:
    """Return the first of `sets` for a quote's platform, by the rule of `with_endorsements`."""
    platform = _platform_of_quote(quote)
    return next((one for one in sets if _fits(fmspc_of(one), _ca_of_set(one), platform)), None)


def _endorsed(item: E, named: Sequence[tuple[Digest, str | None, str | None]]) -> E:
    platform = _platform_of_quote(item.quote)
    for digest, of_fmspc, of_ca in named:
        if digest == item.collateral or _fits(of_fmspc, of_ca, platform):
            return replace(item, collateral=digest)
    return item


def _fits(of_fmspc: str | None, of_ca: str | None, platform: tuple[str | None, str | None]) -> bool:
    fmspc, ca = platform
    # Where quote or set does not say which CA it is about, the FMSPC decides.
    same_ca = of_ca == ca or None in (of_ca, ca)
    return same_ca and of_fmspc == fmspc is not None


def fmspc_of(collateral: Collateral) -> str | None:
    """Return the platform family (12 hex digits) a set says it is for; nothing is verified."""
    try:
        fmspc = parse_json_object(collateral.tcb_info.encode("utf-8")).get("fmspc")
    except MalformedError:
        return None
    return fmspc.lower() if isinstance(fmspc, str) else None


def _ca_of_set(collateral: Collateral) -> str | None:
    try:
        return ca_of(x509.load_der_x509_crl(collateral.pck_crl))
    except (*NOT_A_CERTIFICATE, MalformedError):
        return None


def _platform_of_quote(data: bytes) -> tuple[str | None, str | None]:
    try:
        quote = parse_quote(data)
    except MalformedError:
        return None, None
    if quote.pck is None:
        return None, None
    try:
        return quote.pck.fmspc.hex(), platform_of(quote).ca
    except MalformedError:
        return quote.pck.fmspc.hex(), None
