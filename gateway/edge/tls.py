"""TLS that ends inside the trust domain: a key born for one boot, kept in memory only.

The digest of its public key stands in the keyset, which the boot quote covers.  The certificate
says nothing that anyone should believe by itself: it is self-signed, or issued by a CA over the
same key.  A new key is a new boot.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from attestation.encoding.digest import Digest
from attestation.errors import UsageError

_LIFETIME = timedelta(days=397)
_BACKDATED = timedelta(days=1)
_MAX_CHAIN_BYTES = 64 * 1024
_DER = serialization.Encoding.DER
_PEM = serialization.Encoding.PEM
_SPKI = serialization.PublicFormat.SubjectPublicKeyInfo


class BootTls:
    """The TLS identity of one boot."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, names: Sequence[str]) -> None:
        self._key = key
        self._names = tuple(names)
        self._context = _new_context()
        self._chain: Sequence[x509.Certificate] = ()

    @classmethod
    def generate(cls, names: Sequence[str], *, now: int) -> BootTls:
        """Draw an ECDSA P-256 key and certify it for `names` (DNS names and IP addresses).

        `now` is Unix seconds by a clock the host controls; the certificate starts a day earlier
        and lasts 397 days, and nothing rests on either.
        """
        if not names:
            raise UsageError(
                "a TLS certificate needs a name",
                code="tls_names",
                expected="at least one DNS name or IP address",
                hint="set [tls] names",
            )
        tls = cls(ec.generate_private_key(ec.SECP256R1()), names)
        tls._load(tls._self_signed(datetime.fromtimestamp(now, UTC)))
        return tls

    @classmethod
    def restore(cls, *, key_pem: bytes, chain_pem: bytes, names: Sequence[str]) -> BootTls:
        """Return the identity that `key_pem` and `chain_pem` of another process show.

        For processes of one boot only: whoever has the key is the boot's TLS end.
        """
        key = serialization.load_pem_private_key(key_pem, password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise UsageError("the TLS key is of another kind", code="tls_key", expected="ECDSA")
        tls = cls(key, names)
        tls._load(_parse_chain(chain_pem))
        return tls

    @property
    def names(self) -> tuple[str, ...]:
        """The names in the self-signed certificate and in the certificate request."""
        return self._names

    @property
    def key_pem(self) -> bytes:
        """The private key in PKCS #8 PEM, without encryption: never for a file or a log."""
        return self._key.private_bytes(
            _PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    @property
    def chain_pem(self) -> bytes:
        """The certificates in use, leaf first."""
        return b"".join(certificate.public_bytes(_PEM) for certificate in self._chain)

    @property
    def spki_sha256(self) -> Digest:
        """SHA-256 of the public key's SubjectPublicKeyInfo, as `keyset.tls` lists it."""
        return Digest.of(self._key.public_key().public_bytes(_DER, _SPKI))

    def context(self) -> ssl.SSLContext:
        """Return the server context; certificates installed later count for new handshakes."""
        return self._context

    def csr(self) -> bytes:
        """Return a certificate signing request over the boot's key, in PEM (RFC 2986)."""
        request = x509.CertificateSigningRequestBuilder().subject_name(self._subject())
        request = request.add_extension(self._alternative_names(), critical=False)
        return request.sign(self._key, hashes.SHA256()).public_bytes(_PEM)

    def install(self, chain_pem: bytes) -> int:
        """Use a CA-issued chain, leaf first, from the next handshake on; returns its length.

        Raises `UsageError` unless the leaf certifies exactly the boot's key and every
        certificate is signed by the next one.
        """
        chain = _parse_chain(chain_pem)
        leaf_key = chain[0].public_key().public_bytes(_DER, _SPKI)
        if Digest.of(leaf_key) != self.spki_sha256:
            raise UsageError(
                "the certificate is for another key",
                code="tls_key",
                expected=f"SPKI {self.spki_sha256.hex}",
                observed=f"SPKI {Digest.of(leaf_key).hex}",
                hint="have this boot's certificate request signed; the key never changes",
            )
        for index in range(len(chain) - 1):
            _require_issued_by(chain[index], chain[index + 1])
        self._load(chain)
        return len(chain)

    def _load(self, chain: Sequence[x509.Certificate]) -> None:
        # load_cert_chain only takes file names.  A memfd has one under /proc and no storage: the
        # key exists in this process's memory and nowhere else.
        pem = b"".join(certificate.public_bytes(_PEM) for certificate in chain) + self.key_pem
        descriptor = os.memfd_create("tls", os.MFD_CLOEXEC)
        try:
            with os.fdopen(os.dup(descriptor), "wb") as file:
                file.write(pem)
            self._context.load_cert_chain(f"/proc/self/fd/{descriptor}")
        finally:
            os.close(descriptor)
        self._chain = tuple(chain)

    def _self_signed(self, now: datetime) -> list[x509.Certificate]:
        subject = self._subject()
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _BACKDATED)
            .not_valid_after(now - _BACKDATED + _LIFETIME)
            .add_extension(self._alternative_names(), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        )
        return [builder.sign(self._key, hashes.SHA256())]

    def _subject(self) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self._names[0][:64])])

    def _alternative_names(self) -> x509.SubjectAlternativeName:
        return x509.SubjectAlternativeName([_general_name(name) for name in self._names])


def _new_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["http/1.1"])
    # Every connection shows its certificate: a resumed one would show a caller none to check.
    context.num_tickets = 0
    return context


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _parse_chain(chain_pem: bytes) -> list[x509.Certificate]:
    try:
        if len(chain_pem) > _MAX_CHAIN_BYTES:
            raise ValueError
        return x509.load_pem_x509_certificates(chain_pem)
    except ValueError:
        raise UsageError(
            "the certificate chain cannot be read",
            code="tls_chain",
            expected=f"PEM certificates, the leaf first, in at most {_MAX_CHAIN_BYTES} bytes",
        ) from None


def _require_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> None:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        raise UsageError(
            "the certificate chain is broken",
            code="tls_chain",
            expected="every certificate signed by the one after it",
        ) from None
