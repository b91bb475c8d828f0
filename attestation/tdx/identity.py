"""Which trust domain on which machine: what stays the same in every quote of one boot."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attestation.tdx.quote import Quote


def identity_of(quote: Quote) -> dict[str, bytes | int | None]:
    """Return what a quote shows of its domain and platform, by the field's name.

    Registers are 48 bytes, PPID and PIID 16 (None where the PCK certificate has none or cannot be
    read), TDATTRIBUTES and XFAM integers.  What an update of the TDX module may change while the
    domain runs is left out.  Nothing here says that the quote is genuine.
    """
    body, pck = quote.body, quote.pck
    return {
        "MRTD": body.mrtd,
        **{f"RTMR{index}": register for index, register in enumerate(body.rtmrs)},
        "TDATTRIBUTES": body.td_attributes,
        "XFAM": body.xfam,
        "MRCONFIGID": body.mr_config_id,
        "MROWNER": body.mr_owner,
        "MROWNERCONFIG": body.mr_owner_config,
        "PPID": pck.ppid if pck else None,
        "PIID": pck.piid if pck else None,
    }
