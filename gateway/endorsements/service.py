"""Where endorsements are, at Intel or in a cache, and one whole set from there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlencode

from attestation.errors import EvidenceError
from attestation.tdx.collateral import Collateral
from attestation.tdx.endorsements import verify_endorsements
from gateway.endorsements.answers import (
    PCK_CRL_CHAIN,
    QE_IDENTITY_CHAIN,
    TCB_INFO_CHAIN,
    parse_crl,
    parse_issuer_chain,
    parse_signed_text,
)
from gateway.endorsements.transfer import require_secure

if TYPE_CHECKING:
    from attestation.tdx.anchor import Anchor
    from attestation.tdx.endorsements import Endorsements
    from gateway.endorsements.transfer import Answer

PCS = "pcs"
_INTEL = "https://api.trustedservices.intel.com"
_INTEL_ROOT_CRL = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"
_API = re.compile(r"/+((sgx|tdx)/certification/v4/*)?$")


class Source(Protocol):
    """Whoever gets a document by its URL; `gateway.endorsements.transfer.Transfer`."""

    def get(self, url: str) -> Answer:
        """Return the document at `url`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """The addresses of one service: `base` is what the API's paths follow, without a slash."""

    base: str
    root_crl: str

    def pck_crl(self, ca: str) -> str:
        """Return where the list of revoked PCK certificates is."""
        return self._at("sgx", "pckcrl", ca=ca, encoding="der")

    def tcb_info(self, fmspc: str, update: str) -> str:
        """Return where the TCB info for TDX on this FMSPC is."""
        return self._at("tdx", "tcb", fmspc=fmspc.upper(), update=update)

    def qe_identity(self, update: str) -> str:
        """Return where the identity of the TD quoting enclave is."""
        return self._at("tdx", "qe/identity", update=update)

    def _at(self, kind: str, path: str, **query: str) -> str:
        return f"{self.base}/{kind}/certification/v4/{path}?{urlencode(query)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which set is wanted: FMSPC (12 hex digits), CA, and whether it is the early one.

    Intel publishes a new evaluation early and, months later, as the standard one.
    """

    fmspc: str
    ca: str
    early: bool = False


def parse_service(text: str) -> Service:
    """Return Intel's service for "pcs", else the PCCS at a URL.

    A PCCS has the API's own paths, and the root's revocation list at `rootcacrl` beside them;
    the URL may already end in `/sgx/certification/v4`.  Raises `UsageError`.
    """
    if text == PCS:
        return Service(base=_INTEL, root_crl=_INTEL_ROOT_CRL)
    require_secure(text)
    base = _API.sub("", text)
    return Service(base=base, root_crl=f"{base}/sgx/certification/v4/rootcacrl")


def fetch_endorsements(
    service: Service, wanted: Wanted, source: Source, anchor: Anchor, at: int
) -> Endorsements:
    """Return the present set for `wanted`, verified.

    1. TCB info, QE identity and the PCK revocation list, each with its issuer chain; the root's
       revocation list
    2. the set is genuine under `anchor` and in date at `at`
    3. it is for the FMSPC and CA that were asked for

    Raises `UnavailableError`, `MalformedError`, or `EvidenceError` with the codes of
    `verify_endorsements` and "fmspc".
    """
    update = "early" if wanted.early else "standard"
    tcb = source.get(service.tcb_info(wanted.fmspc, update))
    qe = source.get(service.qe_identity(update))
    pck_crl = source.get(service.pck_crl(wanted.ca))
    root_crl = source.get(service.root_crl)
    tcb_info, tcb_info_signature = parse_signed_text(tcb.body, "tcbInfo")
    qe_identity, qe_identity_signature = parse_signed_text(qe.body, "enclaveIdentity")
    collateral = Collateral(
        pck_crl_issuer_chain=parse_issuer_chain(pck_crl.headers, PCK_CRL_CHAIN),
        root_ca_crl=parse_crl(root_crl.body, "the root CA's revocation list"),
        pck_crl=parse_crl(pck_crl.body, "the PCK revocation list"),
        tcb_info_issuer_chain=parse_issuer_chain(tcb.headers, TCB_INFO_CHAIN),
        tcb_info=tcb_info,
        tcb_info_signature=tcb_info_signature,
        qe_identity_issuer_chain=parse_issuer_chain(qe.headers, QE_IDENTITY_CHAIN),
        qe_identity=qe_identity,
        qe_identity_signature=qe_identity_signature,
    )
    found = verify_endorsements(collateral, anchor, at)
    if (found.fmspc, found.ca) != (wanted.fmspc, wanted.ca):
        raise EvidenceError(
            "the endorsements are for other platforms than those asked for",
            code="fmspc",
            expected=f"FMSPC {wanted.fmspc}, PCK {wanted.ca} CA",
            observed=f"FMSPC {found.fmspc}, PCK {found.ca} CA",
            hint="the service answers wrongly: take another one",
        )
    return found
