"""Certificate chains: PEM in its one canonical form, and links of P-256 signatures."""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec

from attestation.errors import EvidenceError, MalformedError

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_CERTIFICATES = 8

# What `cryptography` raises for bytes that are no certificate.  Its warnings about certificates
# that RFC 5280 forbids become errors too, in a process that turns warnings into errors.
NOT_A_CERTIFICATE = (ValueError, x509.InvalidVersion, UserWarning)

_BEGIN = b"-----BEGIN CERTIFICATE-----"
_END = b"-----END CERTIFICATE-----"
_BLOCK = re.compile(rb"\s*" + _BEGIN + rb"([A-Za-z0-9+/=\s]*)" + _END)
_LINE = 64


def split_pem(data: bytes, *, what: str) -> tuple[bytes, ...]:
    """Return the DER bytes of every certificate in `data`, at least one, in their order.

    Line lengths and line ends are free; anything but white space and trailing NULs beside the
    certificates, and base64 in another form than its canonical one, raises `MalformedError`
    (code "pem").
    """
    rest = data.rstrip(b"\x00").rstrip()
    found: list[bytes] = []
    while rest:
        block = _BLOCK.match(rest)
        if block is None or len(found) == MAX_CERTIFICATES:
            raise _pem(what, f"at most {MAX_CERTIFICATES} PEM certificates and nothing else")
        found.append(_decode(block[1], what))
        rest = rest[block.end() :]
    if not found:
        raise _pem(what, "at least one PEM certificate")
    return tuple(found)


def encode_pem(certificates: Sequence[bytes]) -> bytes:
    """Return the canonical PEM of DER certificates: 64 columns, LF, a final LF (RFC 7468)."""
    lines: list[bytes] = []
    for certificate in certificates:
        text = base64.b64encode(certificate)
        body = [text[start : start + _LINE] for start in range(0, len(text), _LINE)]
        lines += [_BEGIN, *body, _END]
    return b"".join(line + b"\n" for line in lines)


def parse_certificate(data: bytes, *, what: str) -> x509.Certificate:
    """Parse one DER certificate, or raise `MalformedError` (code "certificate")."""
    try:
        certificate = x509.load_der_x509_certificate(data)
    except NOT_A_CERTIFICATE as error:
        raise MalformedError(f"{what} is not an X.509 certificate", code="certificate") from error
    _require_strict(certificate, data, what)
    return certificate


def p256_key(certificate: x509.Certificate, *, what: str) -> ec.EllipticCurvePublicKey:
    """Return the P-256 key that `certificate` certifies; any other key is `MalformedError`."""
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise MalformedError(f"{what} has no readable key", code="certificate") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise MalformedError(
            f"{what} has the wrong kind of key", code="certificate", expected="an EC key on P-256"
        )
    return key


def verify_issued(certificate: x509.Certificate, issuer: x509.Certificate, *, what: str) -> None:
    """Show that `issuer` signed `certificate` and is named in it, or raise `EvidenceError`.

    Only ECDSA with P-256 counts.  Dates, extensions and revocation are not looked at.
    """
    p256_key(issuer, what=f"the issuer of {what}")
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise EvidenceError(
            f"{what} was not signed by the certificate above it",
            code="signature",
            expected="an unbroken chain of signatures",
        ) from error


def verify_links(chain: Sequence[x509.Certificate], *, what: str) -> None:
    """Show that each certificate of `chain` signed the one before it, or raise."""
    for index, issuer in enumerate(chain[1:]):
        verify_issued(chain[index], issuer, what=f"certificate {index} of {what}")


def verify_anchored(
    chain: Sequence[x509.Certificate], root: x509.Certificate, *, what: str
) -> None:
    """Show that `chain` is unbroken and ends at `root` or at a certificate `root` signed.

    Raises `EvidenceError` with code "signature" for a broken link and "root" for another root.
    """
    verify_links(chain, what=what)
    try:
        verify_issued(chain[-1], root, what=f"the last certificate of {what}")
    except EvidenceError as error:
        raise EvidenceError(
            f"{what} does not lead to the root that was asked for",
            code="root",
            expected="a chain that ends at the chosen trust anchor",
            observed="a chain under another root",
            hint="use --root only if you mean to accept evidence that Intel did not sign",
        ) from error


def _require_strict(certificate: x509.Certificate, data: bytes, what: str) -> None:
    """Refuse what `cryptography` lets pass: one certificate has one way of being written."""
    if certificate.serial_number <= 0:
        expected = "a positive serial number (RFC 5280, 4.1.2.2)"
    elif data[-len(certificate.signature) - 1] != 0:
        expected = "a signature of whole bytes, without unused bits"
    else:
        return
    raise MalformedError(
        f"{what} is not an X.509 certificate", code="certificate", expected=expected
    )


def _decode(text: bytes, what: str) -> bytes:
    compact = b"".join(text.split())
    try:
        data = base64.b64decode(compact, validate=True)
    except binascii.Error as error:
        raise _pem(what, "base64 between the PEM lines") from error
    if base64.b64encode(data) != compact:
        raise _pem(what, "base64 whose unused bits are zero")
    return data


def _pem(what: str, expected: str) -> MalformedError:
    return MalformedError(f"{what} is not a PEM certificate chain", code="pem", expected=expected)
