"""What a set of endorsements says of itself: for which platforms, how new, good until when.

A set is one TCB info, one QE identity, two revocation lists and the certificates that signed
them (`Collateral`).  `parse_endorsements` reads the dates and numbers, and `verify_endorsements`
shows that a set is genuine and in date without a quote to go with it: what is fetched or chosen
is verified before it is kept.  Layouts: Intel's PCS API, version 4 (TCB info version 3, enclave
identity version 2); RFC 5280, section 5, for the lists.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.x509.oid import NameOID

from attestation.encoding.members import Members
from attestation.encoding.strict_json import parse_json_object
from attestation.errors import EvidenceError, MalformedError
from attestation.tdx.anchor import Anchor
from attestation.tdx.chain import NOT_A_CERTIFICATE, parse_certificate, split_pem
from attestation.tdx.collateral import oldest_issue, require_canonical_collateral
from attestation.tdx.dates import (
    DATE,
    Part,
    certificate_parts,
    collateral_parts,
    issuers_of,
    parse_crl,
    require_in_date,
    shared,
)
from attestation.tdx.signatures import verify_collateral_signatures

if TYPE_CHECKING:
    from collections.abc import Iterable

    from attestation.tdx.collateral import Collateral
    from attestation.tdx.quote import Quote

CAS = ("platform", "processor")

_HEX = "[0-9a-fA-F]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endorsements:
    """A set and what it says of itself; nothing of that is verified.

    `fmspc` (12 lower-case hex digits), `pce_id` (4) and `ca` ("platform" or "processor": whose
    list of revoked PCK certificates it holds) say which platforms it is for.  The evaluation
    numbers say which of Intel's judgements it repeats; `tcb_date` is the newest date of a TCB
    level.  `issued` is when the oldest of its monthly parts was issued.
    """

    collateral: Collateral
    fmspc: str
    pce_id: str
    ca: str
    tcb_number: int
    qe_number: int
    tcb_date: str
    issued: int
    parts: tuple[Part, ...]

    @property
    def number(self) -> int:
        """The evaluation number that counts: the lower of TCB info and QE identity."""
        return min(self.tcb_number, self.qe_number)

    @property
    def whole(self) -> Part:
        """The time in which every part holds, by the name of the part that ends first."""
        return shared(self.parts)

    @property
    def order(self) -> tuple[int, int]:
        """The greater, the newer: evaluation number, then the date of issue."""
        return self.number, self.issued

    def is_for(self, platform: Platform) -> bool:
        """Whether this set is for the platforms of this kind."""
        return (self.fmspc, self.pce_id, self.ca) == (
            platform.fmspc,
            platform.pce_id,
            platform.ca,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """What endorsements are made for: all platforms of one FMSPC, PCE and certifying CA."""

    fmspc: str
    pce_id: str
    ca: str


def parse_endorsements(collateral: Collateral) -> Endorsements:
    """Read dates, numbers and names; nothing is verified.

    Raises `MalformedError` if a part cannot be read or says no dates, or if it is not TCB info
    version 3 for TDX and TD_QE identity version 2.
    """
    tcb = _members(collateral.tcb_info, "the TCB info", "TDX", 3)
    qe = _members(collateral.qe_identity, "the QE identity", "TD_QE", 2)
    pck_crl = parse_crl(collateral.pck_crl, "the PCK revocation list")
    return Endorsements(
        collateral=collateral,
        fmspc=tcb.text("fmspc", pattern=f"{_HEX}{{12}}").lower(),
        pce_id=tcb.text("pceId", pattern=f"{_HEX}{{4}}").lower(),
        ca=ca_of(pck_crl),
        tcb_number=tcb.integer("tcbEvaluationDataNumber"),
        qe_number=qe.integer("tcbEvaluationDataNumber"),
        tcb_date=_newest_level(tcb),
        issued=oldest_issue(collateral),
        parts=collateral_parts(collateral),
    )


def verify_endorsements(collateral: Collateral, anchor: Anchor, at: int) -> Endorsements:
    """Show that `anchor` stands behind the whole set and that all of it holds at `at`, or raise.

    1. every part can be read, and says its dates (`parse_endorsements`)
    2. issuer chains in canonical form, each of an issuer and `anchor`
    3. every signature, up to `anchor`
    4. every part, certificates included, is in date at `at` (Unix seconds)
    5. the root's revocation list names none of the issuers

    Raises `MalformedError`, or `EvidenceError` with code "root", "signature", "expired",
    "not_yet_valid" or "revoked".
    """
    endorsements = parse_endorsements(collateral)
    require_canonical_collateral(collateral, anchor)
    require_in_date(endorsements.parts, at)
    verify_collateral_signatures(collateral, anchor, at)
    _require_not_revoked(collateral)
    return endorsements


def verify_own_root(endorsements: Endorsements) -> Anchor:
    """Return the root that signed this set.

    The root is the one in the set itself, so that one whose trust domain is "simulated" says no
    more than that the set is of one piece.  Raises `EvidenceError` or `MalformedError` if it is
    not; dates do not matter.
    """
    collateral = endorsements.collateral
    anchor = Anchor(split_pem(collateral.tcb_info_issuer_chain.encode(), what="the chain")[-1])
    begun = max(part.issued for part in certificate_parts(collateral))
    verify_collateral_signatures(collateral, anchor, begun)
    return anchor


def in_order(sets: Iterable[Endorsements], at: int) -> list[Endorsements]:
    """Return sets, the best first: those in date at `at` before the others, newer before older."""
    return sorted(
        sets,
        key=lambda one: (one.whole.issued <= at <= one.whole.until, *one.order),
        reverse=True,
    )


def platform_of(quote: Quote) -> Platform:
    """Return what endorsements a quote needs, from the PCK certificate in it.

    Raises `MalformedError` for a quote without one, or one by another CA than Intel's two.
    """
    if quote.pck is None:
        raise MalformedError(
            "the quote embeds no readable PCK certificate",
            code="pck",
            hint="say which endorsements are meant: FMSPC and CA",
        )
    leaf = parse_certificate(quote.chain()[0], what="the PCK certificate")
    return Platform(fmspc=quote.pck.fmspc.hex(), pce_id=quote.pck.pce_id.hex(), ca=ca_of(leaf))


def ca_of(signed: x509.Certificate | x509.CertificateRevocationList) -> str:
    """Return which of the CAs for PCK certificates issued this: "platform" or "processor".

    It goes by the issuer's name.  Raises `MalformedError` for any other.
    """
    try:
        names = signed.issuer.get_attributes_for_oid(NameOID.COMMON_NAME)
    except NOT_A_CERTIFICATE:
        names = []
    for name in CAS:
        if any(str(one.value).endswith(f" SGX PCK {name.capitalize()} CA") for one in names):
            return name
    raise MalformedError(
        "the issuer is not a CA for PCK certificates",
        code="ca",
        expected="the name of the PCK Platform CA or of the PCK Processor CA",
    )


def _members(text: str, what: str, identity: str, version: int) -> Members:
    members = Members(parse_json_object(text.encode()), what)
    members.text("id", choices=(identity,))
    members.integer("version", minimum=version, maximum=version)
    return members


def _newest_level(tcb: Members) -> str:
    levels = [Members(level, "a TCB level") for level in tcb.array("tcbLevels")]
    return max((level.text("tcbDate", pattern=DATE) for level in levels), default="none")


def _require_not_revoked(collateral: Collateral) -> None:
    crl = x509.load_der_x509_crl(collateral.root_ca_crl)
    for name, certificate in issuers_of(collateral).items():
        if crl.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None:
            raise EvidenceError(
                f"the root CA has revoked the {name}",
                code="revoked",
                expected="issuers that the root's revocation list does not name",
                hint="fetch again: a new set is signed by another certificate",
            )
