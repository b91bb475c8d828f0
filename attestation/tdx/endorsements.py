"""What a set of endorsements says of itself: for which platforms, how new, good until when.

A set is one TCB info, one QE identity, two revocation lists and the certificates that signed
them (`Collateral`).  `parse_endorsements` reads the dates and numbers, and `verify_endorsements`
shows that a set is genuine and in date without a quote to go with it: what is fetched or chosen
is verified before it is kept.  Layouts: Intel's PCS API, version 4 (TCB info version 3, enclave
identity version 2); RFC 5280, section 5, for the lists.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.x509.oid import NameOID

from attestation.encoding.instants import instant
from attestation.encoding.members import Members
from attestation.encoding.strict_json import parse_json_object
from attestation.errors import EvidenceError, MalformedError
from attestation.tdx.anchor import Anchor
from attestation.tdx.chain import NOT_A_CERTIFICATE, parse_certificate, split_pem
from attestation.tdx.collateral import oldest_issue, require_canonical_collateral
from attestation.tdx.signatures import verify_collateral_signatures

if TYPE_CHECKING:
    from collections.abc import Iterable

    from attestation.tdx.collateral import Collateral
    from attestation.tdx.quote import Quote

DAY_SECONDS = 86_400
SOON_SECONDS = 7 * DAY_SECONDS
"""How long before its end a set counts as ending soon: Intel's monthly parts live 30 days."""
CAS = ("platform", "processor")

_HEX = "[0-9a-fA-F]"
_DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z"


class State(StrEnum):
    """Where an instant lies in the time that something is good for."""

    OK = "ok"
    SOON = "soon"
    EXPIRED = "expired"
    NOT_YET = "not yet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One dated part of a set; good from `issued` to `until` (Unix seconds), both included."""

    name: str
    issued: int
    until: int

    def state(self, at: int, *, soon: int = SOON_SECONDS) -> State:
        """Say where `at` lies; `soon` is how many seconds before the end that begins."""
        if at < self.issued:
            return State.NOT_YET
        if at > self.until:
            return State.EXPIRED
        return State.SOON if self.until - at < soon else State.OK


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
        """The time in which every part holds, from the last issue to the earliest expiry."""
        return Part(
            name="the set",
            issued=max(part.issued for part in self.parts),
            until=min(part.until for part in self.parts),
        )

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
    pck_crl = _crl(collateral.pck_crl, "the PCK revocation list")
    root_crl = _crl(collateral.root_ca_crl, "the root CA's revocation list")
    return Endorsements(
        collateral=collateral,
        fmspc=tcb.text("fmspc", pattern=f"{_HEX}{{12}}").lower(),
        pce_id=tcb.text("pceId", pattern=f"{_HEX}{{4}}").lower(),
        ca=ca_of(pck_crl),
        tcb_number=tcb.integer("tcbEvaluationDataNumber"),
        qe_number=qe.integer("tcbEvaluationDataNumber"),
        tcb_date=_newest_level(tcb),
        issued=oldest_issue(collateral),
        parts=(
            _text_part(tcb, "TCB info"),
            _text_part(qe, "QE identity"),
            _crl_part(pck_crl, "PCK CRL"),
            _crl_part(root_crl, "root CRL"),
            *_certificate_parts(collateral),
        ),
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
    _require_in_date(endorsements, at)
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
    begun = max(part.issued for part in endorsements.parts if part.name in _CERTIFICATES)
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


_CERTIFICATES = ("TCB info signer", "QE identity signer", "PCK CRL issuer", "root CA")
_CHAINS = ("tcb_info_issuer_chain", "qe_identity_issuer_chain", "pck_crl_issuer_chain")


def _members(text: str, what: str, identity: str, version: int) -> Members:
    members = Members(parse_json_object(text.encode()), what)
    members.text("id", choices=(identity,))
    members.integer("version", minimum=version, maximum=version)
    return members


def _newest_level(tcb: Members) -> str:
    levels = [Members(level, "a TCB level") for level in tcb.array("tcbLevels")]
    return max((level.text("tcbDate", pattern=_DATE) for level in levels), default="none")


def _text_part(members: Members, name: str) -> Part:
    dates = [_seconds(members.text(key, pattern=_DATE)) for key in ("issueDate", "nextUpdate")]
    return Part(name=name, issued=dates[0], until=dates[1])


def _seconds(text: str) -> int:
    try:
        return int(dt.datetime.fromisoformat(text).timestamp())
    except ValueError as error:
        raise MalformedError(
            "the endorsements name a day that there is not", code="date"
        ) from error


def _crl(data: bytes, what: str) -> x509.CertificateRevocationList:
    try:
        return x509.load_der_x509_crl(data)
    except NOT_A_CERTIFICATE as error:
        raise MalformedError(f"{what} does not parse", code="crl", expected="DER") from error


def _crl_part(crl: x509.CertificateRevocationList, name: str) -> Part:
    until = crl.next_update_utc
    if until is None:
        raise MalformedError(
            f"the {name} does not say until when it holds", code="crl", expected="nextUpdate"
        )
    return Part(
        name=name,
        issued=int(crl.last_update_utc.timestamp()),
        until=int(until.timestamp()),
    )


def _certificate_parts(collateral: Collateral) -> list[Part]:
    issuers = _issuers(collateral)
    (*_, root) = split_pem(collateral.tcb_info_issuer_chain.encode(), what="the issuer chain")
    issuers["root CA"] = parse_certificate(root, what="the root")
    return [
        Part(
            name=name,
            issued=int(certificate.not_valid_before_utc.timestamp()),
            until=int(certificate.not_valid_after_utc.timestamp()),
        )
        for name, certificate in issuers.items()
    ]


def _issuers(collateral: Collateral) -> dict[str, x509.Certificate]:
    """Return who signed what; a set may leave out the issuer of the PCK revocation list."""
    found: dict[str, x509.Certificate] = {}
    for name, chain in zip(_CERTIFICATES[:-1], _CHAINS, strict=True):
        if text := getattr(collateral, chain):
            first = split_pem(text.encode(), what=f"collateral.{chain}")[0]
            found[name] = parse_certificate(first, what=f"the {name}")
    return found


def _require_in_date(endorsements: Endorsements, at: int) -> None:
    for part in endorsements.parts:
        state = part.state(at)
        if state in (State.EXPIRED, State.NOT_YET):
            raise EvidenceError(
                f"endorsements: {part.name} "
                + ("has expired" if state is State.EXPIRED else "does not hold yet"),
                code="expired" if state is State.EXPIRED else "not_yet_valid",
                expected=f"a set that holds at {instant(at)}",
                observed=f"good from {instant(part.issued)} to {instant(part.until)}",
                hint="is the clock right? a cache may also serve what its source has renewed",
            )


def _require_not_revoked(collateral: Collateral) -> None:
    crl = x509.load_der_x509_crl(collateral.root_ca_crl)
    for name, certificate in _issuers(collateral).items():
        if crl.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None:
            raise EvidenceError(
                f"the root CA has revoked the {name}",
                code="revoked",
                expected="issuers that the root's revocation list does not name",
                hint="fetch again: a new set is signed by another certificate",
            )
