"""Every signature of a quote and its collateral, checked with `cryptography` alone.

This is a second implementation beside dcap-qvl, and it comes first: a verdict such as "debug"
or "expired" is about genuine evidence, so forged evidence must be refused before it.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from attestation.errors import EvidenceError, MalformedError
from attestation.tdx.chain import (
    NOT_A_CERTIFICATE,
    p256_key,
    parse_certificate,
    split_pem,
    verify_anchored,
    verify_issued,
    verify_links,
)

if TYPE_CHECKING:
    from attestation.tdx.anchor import Anchor
    from attestation.tdx.collateral import Collateral
    from attestation.tdx.quote import Quote


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnChecks:
    """What the signatures inside a quote say; None where there is nothing to check against.

    `body_sig`: the attestation key signed the report.  `ak_binding`: the quoting enclave's
    report names that key.  `qe_sig`: the PCK certificate's key signed that report.  `chain`:
    the embedded certificates sign each other up to a self-signed one, whosever it is.
    """

    body_sig: bool
    ak_binding: bool
    qe_sig: bool | None
    chain: bool | None


def own_checks(quote: Quote) -> OwnChecks:
    """Check the signatures inside `quote` without collateral, time or trust anchor.

    Never raises: what cannot be read counts as not holding.
    """
    try:
        ders = quote.chain()
    except MalformedError:
        return OwnChecks(
            body_sig=_body_signed(quote),
            ak_binding=quote.qe.binds(quote.attestation_key),
            qe_sig=None,
            chain=None,
        )
    return OwnChecks(
        body_sig=_body_signed(quote),
        ak_binding=quote.qe.binds(quote.attestation_key),
        qe_sig=_qe_signed(quote, ders[0]),
        chain=_self_contained(ders),
    )


def verify_quote_signatures(quote: Quote, anchor: Anchor) -> None:
    """Show that `anchor` stands behind the signed region of `quote`, or raise.

    1. the attestation key signed the report
    2. the quoting enclave's report names that key
    3. the PCK certificate's key signed the enclave's report
    4. the embedded chain is unbroken and ends at `anchor`

    Raises `EvidenceError` with code "signature" or "root", `MalformedError` for certificates
    that do not parse.  Dates and revocation are not looked at.
    """
    if not _body_signed(quote):
        raise _broken("the report", "a signature by the attestation key in the quote")
    if not quote.qe.binds(quote.attestation_key):
        raise _broken("the attestation key", "its hash in the quoting enclave's report")
    chain = _parse_chain(quote.chain(), "the PCK certificate chain")
    pck_key = p256_key(chain[0], what="the PCK certificate")
    if not _signed(pck_key, quote.qe.signature, quote.qe.raw):
        raise _broken("the quoting enclave's report", "a signature by the PCK certificate's key")
    verify_anchored(chain, anchor.certificate, what="the PCK certificate chain")


def verify_collateral_signatures(collateral: Collateral, anchor: Anchor, at: int) -> None:
    """Show that `anchor` stands behind every signed part of `collateral`, or raise.

    1. TCB info and QE identity, each by a leaf that the root itself issued: the PCK keys of
       platforms lead to the root as well and must not speak about TCB levels
    2. the root CA's revocation list, by the root
    3. the PCK revocation list, by the leaf of its issuer chain, if there is such a chain, which
       must hold at `at`: nothing else ever looks at it

    Raises `EvidenceError` (codes "signature", "root", "expired", "not_yet_valid") and
    `MalformedError`.
    """
    _verify_text(
        collateral.tcb_info,
        collateral.tcb_info_signature,
        collateral.tcb_info_issuer_chain,
        anchor,
        "the TCB info",
    )
    _verify_text(
        collateral.qe_identity,
        collateral.qe_identity_signature,
        collateral.qe_identity_issuer_chain,
        anchor,
        "the QE identity",
    )
    _verify_crl(collateral.root_ca_crl, anchor.certificate, "the root CA's revocation list")
    if collateral.pck_crl_issuer_chain:
        issuers = _load_chain(
            collateral.pck_crl_issuer_chain, "the issuer chain of the PCK revocation list"
        )
        verify_anchored(issuers, anchor.certificate, what="the PCK CRL issuer chain")
        _require_current(issuers, at)
        _verify_crl(collateral.pck_crl, issuers[0], "the PCK revocation list")


def _verify_text(text: str, signature: bytes, chain: str, anchor: Anchor, what: str) -> None:
    certificates = _load_chain(chain, f"the issuer chain of {what}")
    signer = certificates[0]
    verify_anchored(certificates, anchor.certificate, what=f"the issuer chain of {what}")
    verify_issued(signer, anchor.certificate, what=f"the signer of {what}")
    if _is_authority(signer):
        raise _broken(what, "a signer that is no certification authority")
    if not _signed(p256_key(signer, what=f"the signer of {what}"), signature, text.encode()):
        raise _broken(what, "a signature by its issuer over exactly this text")


def _verify_crl(data: bytes, issuer: x509.Certificate, what: str) -> None:
    try:
        crl = x509.load_der_x509_crl(data)
        signed = crl.issuer == issuer.subject and crl.is_signature_valid(
            p256_key(issuer, what=f"the issuer of {what}")
        )
    except (*NOT_A_CERTIFICATE, TypeError, UnsupportedAlgorithm) as error:
        raise MalformedError(f"{what} does not parse", code="malformed") from error
    if not signed:
        raise _broken(what, "a signature by its issuer")


def _require_current(chain: list[x509.Certificate], at: int) -> None:
    for certificate in chain:
        if certificate.not_valid_before_utc.timestamp() > at:
            raise _out_of_date(certificate, at, "does not hold yet", "not_yet_valid")
        if certificate.not_valid_after_utc.timestamp() < at:
            raise _out_of_date(certificate, at, "has expired", "expired")


def _out_of_date(certificate: x509.Certificate, at: int, what: str, code: str) -> EvidenceError:
    first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return EvidenceError(
        f"the PCK CRL issuer chain {what}",
        code=code,
        expected=f"an instant from {_shown(first)} to {_shown(last)}",
        observed=_shown(dt.datetime.fromtimestamp(at, dt.UTC)),
        hint="verify at the time the evidence was held, or bring the endorsements of this time",
    )


def _shown(moment: dt.datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def _load_chain(pem: str, what: str) -> list[x509.Certificate]:
    return _parse_chain(split_pem(pem.encode(), what=what), what)


def _parse_chain(ders: tuple[bytes, ...], what: str) -> list[x509.Certificate]:
    return [
        parse_certificate(der, what=f"certificate {index} of {what}")
        for index, der in enumerate(ders)
    ]


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    except x509.ExtensionNotFound:
        return False
    except (ValueError, x509.DuplicateExtension) as error:
        raise MalformedError(
            "a certificate has unreadable extensions", code="certificate"
        ) from error
    return constraints.value.ca


def _body_signed(quote: Quote) -> bool:
    x, y = quote.attestation_key[:32], quote.attestation_key[32:]
    numbers = ec.EllipticCurvePublicNumbers(
        int.from_bytes(x, "big"), int.from_bytes(y, "big"), ec.SECP256R1()
    )
    try:
        key = numbers.public_key()
    except ValueError:
        # Not a point of the curve.
        return False
    return _signed(key, quote.signature, quote.signed_region)


def _qe_signed(quote: Quote, leaf: bytes) -> bool:
    try:
        certificate = parse_certificate(leaf, what="the PCK certificate")
        key = p256_key(certificate, what="the PCK certificate")
    except MalformedError:
        return False
    return _signed(key, quote.qe.signature, quote.qe.raw)


def _self_contained(ders: tuple[bytes, ...]) -> bool:
    try:
        chain = _parse_chain(ders, "the PCK certificate chain")
        verify_links([*chain, chain[-1]], what="the PCK certificate chain")
    except (MalformedError, EvidenceError):
        return False
    return True


def _signed(key: ec.EllipticCurvePublicKey, signature: bytes, data: bytes) -> bool:
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    try:
        key.verify(encode_dss_signature(r, s), data, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def _broken(what: str, expected: str) -> EvidenceError:
    return EvidenceError(
        f"{what} is not signed as it must be",
        code="signature",
        expected=expected,
        observed="none that holds",
    )
