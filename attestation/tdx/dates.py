"""When endorsements and certificates hold: every dated part, and the time that all of them share.

A part is good from one second to another, both included.  Layouts: Intel's PCS API, version 4
(issueDate, nextUpdate); RFC 5280, section 4.1.2.5 for certificates and section 5.1.2 for
revocation lists.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from cryptography import x509

from attestation.encoding.instants import instant
from attestation.encoding.members import Members
from attestation.encoding.strict_json import parse_json_object
from attestation.errors import EvidenceError, MalformedError
from attestation.tdx.chain import NOT_A_CERTIFICATE, parse_certificate, split_pem

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from attestation.tdx.collateral import Collateral

DAY_SECONDS = 86_400
SOON_SECONDS = 7 * DAY_SECONDS
"""How long before its end a set counts as ending soon: Intel's monthly parts live 30 days."""
DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z"
ISSUERS = ("TCB info signer", "QE identity signer", "PCK CRL issuer")
ROOT = "root CA"

_CHAINS = ("tcb_info_issuer_chain", "qe_identity_issuer_chain", "pck_crl_issuer_chain")
_PCK = "PCK certificate"


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


def shared(parts: Iterable[Part]) -> Part:
    """Return the time in which every part holds, from the last issue to the earliest end.

    Its name is that of the part that ends first, of several all of them.
    """
    held = tuple(parts)
    until = min(part.until for part in held)
    first = dict.fromkeys(part.name for part in held if part.until == until)
    return Part(name=", ".join(first), issued=max(part.issued for part in held), until=until)


def require_in_date(parts: Iterable[Part], at: int) -> None:
    """Refuse the first part that does not hold at `at` (Unix seconds), or return.

    Raises `EvidenceError` with code "expired" or "not_yet_valid".
    """
    for part in parts:
        state = part.state(at)
        if state in (State.EXPIRED, State.NOT_YET):
            raise EvidenceError(
                f"endorsements: {part.name} "
                + ("has expired" if state is State.EXPIRED else "does not hold yet"),
                code="expired" if state is State.EXPIRED else "not_yet_valid",
                expected=f"a set that holds at {instant(at)}",
                observed=f"{part.name}, good from {instant(part.issued)} to {instant(part.until)}",
                hint="is the clock right? a cache may also serve what its source has renewed",
            )


def collateral_parts(collateral: Collateral) -> tuple[Part, ...]:
    """Return every dated part of a set: texts, revocation lists, then certificates.

    Raises `MalformedError` for one that cannot be read or says no dates.
    """
    return (
        _text_part(collateral.tcb_info, "TCB info"),
        _text_part(collateral.qe_identity, "QE identity"),
        _crl_part(collateral.pck_crl, "PCK CRL"),
        _crl_part(collateral.root_ca_crl, "root CRL"),
        *certificate_parts(collateral),
    )


def pck_parts(chain: Sequence[bytes]) -> tuple[Part, ...]:
    """Return the parts that the certificates in a quote are (DER, leaf first)."""
    return tuple(_named(_PCK, chain))


def certificate_parts(collateral: Collateral) -> tuple[Part, ...]:
    """Return the parts that certificates are; the root, which all chains share, once and last.

    Raises `MalformedError`.
    """
    every = [part for name, chain in _chains(collateral).items() for part in _named(name, chain)]
    return tuple(sorted(dict.fromkeys(every), key=lambda part: part.name == ROOT))


def issuers_of(collateral: Collateral) -> dict[str, x509.Certificate]:
    """Return who signed what; a set may leave out the issuer of the PCK revocation list.

    Raises `MalformedError`.
    """
    return {
        name: parse_certificate(chain[0], what=f"the {name}")
        for name, chain in _chains(collateral).items()
    }


def parse_crl(data: bytes, what: str) -> x509.CertificateRevocationList:
    """Parse one DER revocation list, or raise `MalformedError` (code "crl")."""
    try:
        return x509.load_der_x509_crl(data)
    except NOT_A_CERTIFICATE as error:
        raise MalformedError(f"{what} does not parse", code="crl", expected="DER") from error


def _text_part(text: str, name: str) -> Part:
    members = Members(parse_json_object(text.encode()), f"the {name}")
    dates = [_seconds(members.text(key, pattern=DATE)) for key in ("issueDate", "nextUpdate")]
    return Part(name=name, issued=dates[0], until=dates[1])


def _seconds(text: str) -> int:
    try:
        return int(dt.datetime.fromisoformat(text).timestamp())
    except ValueError as error:
        raise MalformedError(
            "the endorsements name a day that there is not", code="date"
        ) from error


def _crl_part(data: bytes, name: str) -> Part:
    crl = parse_crl(data, f"the {name}")
    until = crl.next_update_utc
    if until is None:
        raise MalformedError(
            f"the {name} does not say until when it holds", code="crl", expected="nextUpdate"
        )
    # At nextUpdate itself there is a newer list, and dcap-qvl no longer takes this one.
    return Part(
        name=name,
        issued=int(crl.last_update_utc.timestamp()),
        until=int(until.timestamp()) - 1,
    )


def _named(name: str, chain: Sequence[bytes]) -> list[Part]:
    """Return a part for each certificate of a chain: the leaf by its name, the root as such."""
    found = []
    for index, der in enumerate(chain):
        certificate = parse_certificate(der, what=f"certificate {index} over the {name}")
        above = ROOT if _is_root(certificate, name) else f"CA over the {name}"
        found.append(
            Part(
                name=above if index else name,
                issued=int(certificate.not_valid_before_utc.timestamp()),
                until=int(certificate.not_valid_after_utc.timestamp()),
            )
        )
    return found


def _is_root(certificate: x509.Certificate, name: str) -> bool:
    try:
        return certificate.issuer == certificate.subject
    except NOT_A_CERTIFICATE as error:
        raise MalformedError(
            f"a certificate over the {name} has names that cannot be read",
            code="certificate",
            expected="distinguished names (RFC 5280, 4.1.2.4)",
        ) from error


def _chains(collateral: Collateral) -> dict[str, tuple[bytes, ...]]:
    texts = {name: getattr(collateral, chain) for name, chain in zip(ISSUERS, _CHAINS, strict=True)}
    return {
        name: split_pem(text.encode(), what=f"the chain of the {name}")
        for name, text in texts.items()
        if text
    }
