"""Endorsements: what Intel signed about platforms, quoting enclaves and revocation.

Nine fields, as Intel's Provisioning Certification Service delivers them.  Texts that carry a
signature are kept exactly as they were signed.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from cryptography import x509

from attestation.encoding import base64url
from attestation.encoding.digest import Digest
from attestation.encoding.jcs import canonicalize
from attestation.encoding.members import Members
from attestation.encoding.strict_json import JsonLimits, parse_json_object
from attestation.errors import EvidenceError, MalformedError
from attestation.tdx.chain import encode_pem, split_pem

if TYPE_CHECKING:
    from collections.abc import Callable

    from attestation.encoding.strict_json import JsonValue
    from attestation.tdx.anchor import Anchor

MAX_TEXT = 256 * 1024
MAX_CRL = 256 * 1024

_LIMITS = JsonLimits(max_bytes=2 * 1024 * 1024, max_depth=4, max_members=64)
_HEX = re.compile(r"(?:[0-9a-fA-F]{2})*", re.ASCII)
# The JSON that other tools write may repeat the PCK chain.  The quote carries its own, and
# that one counts: a second source would let the file decide which platform is verified.
_NOT_OURS = "pck_certificate_chain"
_CHAINS = ("pck_crl_issuer_chain", "tcb_info_issuer_chain", "qe_identity_issuer_chain")


@dataclass(frozen=True, slots=True, kw_only=True)
class Collateral:
    """One set of endorsements for one FMSPC, good from its issue to its first expiry.

    Chains are PEM, leaf first; CRLs are DER; signatures are 64 bytes, r then s, over the exact
    bytes of the text beside them.  `pck_crl_issuer_chain` may be empty.
    """

    pck_crl_issuer_chain: str
    root_ca_crl: bytes
    pck_crl: bytes
    tcb_info_issuer_chain: str
    tcb_info: str
    tcb_info_signature: bytes
    qe_identity_issuer_chain: str
    qe_identity: str
    qe_identity_signature: bytes

    def to_json(self) -> dict[str, str]:
        """Return the form a bundle carries: texts as signed, binary as base64url."""
        return {
            name: base64url.encode(value) if isinstance(value, bytes) else value
            for name, value in ((field.name, getattr(self, field.name)) for field in fields(self))
        }

    @property
    def digest(self) -> Digest:
        """The name of this set in a bundle: SHA-256 of the JCS of `to_json`."""
        return Digest.of(canonicalize(dict(self.to_json())))


def parse_collateral(value: JsonValue) -> Collateral:
    """Read the form a bundle carries, with closed members, or raise `MalformedError`."""
    members = Members(value, "collateral")
    return _collateral(members, lambda name, limit: members.bytes_base64url(name, max_bytes=limit))


def parse_dcap_collateral(data: bytes) -> Collateral:
    """Read the JSON that dcap-qvl and its relatives write, with binary as hexadecimal.

    A `pck_certificate_chain` in it is dropped: the chain in the quote is the one that counts.
    Raises `MalformedError`.
    """
    value = parse_json_object(data, _LIMITS)
    members = Members(
        {name: member for name, member in value.items() if name != _NOT_OURS}, "collateral"
    )
    return _collateral(
        members,
        lambda name, limit: bytes.fromhex(members.text(name, pattern=_HEX, max_chars=2 * limit)),
    )


def encode_dcap_collateral(collateral: Collateral) -> bytes:
    """Return the JSON file that `parse_dcap_collateral` reads back: the nine fields, one a line.

    Texts stand in it exactly as they were signed; the same set always makes the same bytes.
    """
    shown = {
        name: value.hex() if isinstance(value, bytes) else value
        for name, value in (
            (field.name, getattr(collateral, field.name)) for field in fields(Collateral)
        )
    }
    return json.dumps(shown, indent=0, sort_keys=True).encode() + b"\n"


def require_canonical_collateral(collateral: Collateral, anchor: Anchor) -> None:
    """Refuse a set whose issuer chains are written in another way than Intel's service writes them.

    Each is canonical PEM of two certificates, the issuer and `anchor`.  Nothing signs the chains,
    so any other way of writing them would be a change that nobody notices.  Raises
    `MalformedError` (codes "pem", "not_canonical") or `EvidenceError` (code "root").
    """
    for name in _CHAINS:
        text = getattr(collateral, name).encode()
        chain = split_pem(text, what=f"collateral.{name}")
        if encode_pem(chain) != text:
            raise MalformedError(
                f"collateral.{name} is not in canonical form",
                code="not_canonical",
                expected="PEM in lines of 64 characters and nothing else",
                hint="take endorsements as Intel's service delivers them",
            )
        if chain[1:] != (anchor.root_der,):
            raise EvidenceError(
                f"collateral.{name} is not an issuer under the root that was asked for",
                code="root",
                expected=f"two certificates: the issuer, then {anchor.title}",
                observed=f"another chain, of {len(chain)}",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueDates:
    """When the parts that Intel issues every month were issued, in Unix seconds.

    The root CA's revocation list lives a year and does not count.  `tcb_number` and `qe_number`
    are the TCB evaluation numbers of TCB info and QE identity.
    """

    tcb_info: int
    qe_identity: int
    revocations: int
    tcb_number: int
    qe_number: int

    @property
    def oldest(self) -> int:
        """The age of the whole set.

        A mixture of old and new parts is as old as its oldest, or whoever puts the set together
        could hide an old verdict behind a new list.
        """
        return min(self.tcb_info, self.qe_identity, self.revocations)


def issue_dates(collateral: Collateral) -> IssueDates:
    """Return when TCB info, QE identity and the PCK revocation list were issued.

    Raises `MalformedError`.
    """
    try:
        revocations = x509.load_der_x509_crl(collateral.pck_crl).last_update_utc
        tcb_info, tcb_number = _issue(collateral.tcb_info)
        qe_identity, qe_number = _issue(collateral.qe_identity)
        return IssueDates(
            tcb_info=tcb_info,
            qe_identity=qe_identity,
            revocations=int(revocations.timestamp()),
            tcb_number=tcb_number,
            qe_number=qe_number,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise MalformedError(
            "the endorsements do not say when and by which evaluation they were issued",
            code="collateral",
            expected="issueDate and tcbEvaluationDataNumber in TCB info and QE identity, "
            "thisUpdate in the revocation list",
        ) from error


def oldest_issue(collateral: Collateral) -> int:
    """Return when the oldest part that Intel issues every month was issued, in Unix seconds.

    Raises `MalformedError`.
    """
    return issue_dates(collateral).oldest


def _issue(text: str) -> tuple[int, int]:
    """Return when a signed text was issued (Unix seconds), and its TCB evaluation number."""
    members = parse_json_object(text.encode())
    moment = dt.datetime.fromisoformat(members["issueDate"])
    number = members["tcbEvaluationDataNumber"]
    if moment.tzinfo is None or type(number) is not int:
        raise ValueError("no offset, or no number")
    return int(moment.timestamp()), number


def _collateral(members: Members, binary: Callable[[str, int], bytes]) -> Collateral:
    result = Collateral(
        pck_crl_issuer_chain=_text(members, "pck_crl_issuer_chain"),
        root_ca_crl=binary("root_ca_crl", MAX_CRL),
        pck_crl=binary("pck_crl", MAX_CRL),
        tcb_info_issuer_chain=_text(members, "tcb_info_issuer_chain"),
        tcb_info=_text(members, "tcb_info"),
        tcb_info_signature=_signature(binary("tcb_info_signature", 64), "tcb_info_signature"),
        qe_identity_issuer_chain=_text(members, "qe_identity_issuer_chain"),
        qe_identity=_text(members, "qe_identity"),
        qe_identity_signature=_signature(
            binary("qe_identity_signature", 64), "qe_identity_signature"
        ),
    )
    members.close()
    return result


def _text(members: Members, name: str) -> str:
    text = members.text(name, max_chars=MAX_TEXT)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise MalformedError(
            f"collateral.{name} is not Unicode text", code="member_value", observed="a surrogate"
        ) from None
    return text


def _signature(data: bytes, name: str) -> bytes:
    if len(data) != 64:
        raise MalformedError(
            f"collateral.{name} has the wrong length",
            code="member_value",
            expected="64 bytes, r then s",
            observed=f"{len(data)} bytes",
        )
    return data
