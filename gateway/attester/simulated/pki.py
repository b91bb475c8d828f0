"""The certificates of the simulated Intel: root, platform CA, PCK leaf, TCB signing."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from gateway.attester.simulated import der
from gateway.attester.simulated.facts import DAY

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cryptography.hazmat.primitives.asymmetric import ec

    from gateway.attester.simulated.facts import Endorsements, Machine
    from gateway.attester.simulated.keys import Derivation

MARK = "SIMULATED - NOT INTEL"
ROOT = "Simulated SGX Root CA"
PLATFORM_CA = "Simulated SGX PCK Platform CA"
PCK = "Simulated SGX PCK Certificate"
TCB_SIGNING = "Simulated SGX TCB Signing"

_LIFETIME = 7 * 365 * DAY
_CRL_URL = "https://simulated.invalid/crl"


class Pki:
    """Four certificates over four keys, made at `now` and good for seven years."""

    def __init__(self, derivation: Derivation, machine: Machine, now: int) -> None:
        self._derivation = derivation
        self.root_key = derivation.key("root")
        self.platform_key = derivation.key("platform-ca")
        self.pck_key = derivation.key("pck")
        self.tcb_key = derivation.key("tcb-signing")
        years = (now - DAY, now + _LIFETIME)
        self.root = self._sign(self._start(ROOT, self.root_key, years, path=1), ROOT)
        self.platform_ca = self._sign(
            self._start(PLATFORM_CA, self.platform_key, years, path=0), ROOT
        )
        self.tcb_signing = self._sign(
            self._start(TCB_SIGNING, self.tcb_key, years, path=None), ROOT
        )
        pck_dates = (now + machine.pck_not_before, now + machine.pck_not_after)
        extension = der.sgx_extension(
            machine,
            machine.ppid or derivation.octets("ppid", 16),
            machine.piid or derivation.octets("piid", 16),
        )
        self.pck = self._sign(
            self._start(PCK, self.pck_key, pck_dates, path=None).add_extension(
                x509.UnrecognizedExtension(x509.ObjectIdentifier(der.SGX_EXTENSION_OID), extension),
                critical=False,
            ),
            PLATFORM_CA,
        )

    def pck_chain(self) -> bytes:
        """Return the PEM chain a quote carries: leaf, platform CA, root."""
        return _pem(self.pck, self.platform_ca, self.root)

    def signer(self, name: str) -> tuple[ec.EllipticCurvePrivateKey, str]:
        """Return the key and PEM chain of who signs TCB info and QE identity."""
        if name == "pck":
            return self.pck_key, self.pck_chain().decode()
        return self.tcb_key, _pem(self.tcb_signing, self.root).decode()

    def crl_issuer_chain(self) -> str:
        """Return the PEM chain of the PCK revocation list."""
        return _pem(self.platform_ca, self.root).decode()

    def root_crl(self, endorsements: Endorsements, now: int) -> bytes:
        """Return the root's revocation list, DER; times count from `now`."""
        certificates = {"platform_ca": self.platform_ca, "tcb_signing": self.tcb_signing}
        return self._crl(ROOT, certificates, endorsements, now)

    def pck_crl(self, endorsements: Endorsements, now: int) -> bytes:
        """Return the platform CA's revocation list, DER; times count from `now`."""
        return self._crl(PLATFORM_CA, {"pck": self.pck}, endorsements, now)

    def _start(
        self,
        name: str,
        key: ec.EllipticCurvePrivateKey,
        dates: tuple[int, int],
        *,
        path: int | None,
    ) -> x509.CertificateBuilder:
        """Begin a certificate; `path` is the path length of an authority, None for a leaf."""
        return (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .public_key(key.public_key())
            .serial_number(self._derivation.serial(name))
            .not_valid_before(_time(dates[0]))
            .not_valid_after(_time(dates[1]))
            .add_extension(
                x509.BasicConstraints(ca=path is not None, path_length=path), critical=True
            )
            .add_extension(_key_usage(path), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
        )

    def _sign(self, builder: x509.CertificateBuilder, issuer: str) -> x509.Certificate:
        key = self._key_of(issuer)
        point = x509.DistributionPoint([x509.UniformResourceIdentifier(_CRL_URL)], None, None, None)
        return (
            builder.issuer_name(_name(issuer))
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()),
                critical=False,
            )
            .add_extension(x509.CRLDistributionPoints([point]), critical=False)
            .sign(key, hashes.SHA256(), ecdsa_deterministic=True)
        )

    def _crl(
        self,
        issuer: str,
        certificates: dict[str, x509.Certificate],
        endorsements: Endorsements,
        now: int,
    ) -> bytes:
        key = self._key_of(issuer)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(_name(issuer))
            .last_update(_time(now + endorsements.crl_issued))
            .next_update(_time(now + endorsements.crl_expires))
        )
        if endorsements.crl_extensions:
            builder = builder.add_extension(x509.CRLNumber(1), critical=False).add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()),
                critical=False,
            )
        for revoked in _revoked(certificates, endorsements):
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder()
                .serial_number(revoked.serial_number)
                .revocation_date(_time(now + endorsements.crl_issued))
                .build()
            )
        crl = builder.sign(key, hashes.SHA256(), ecdsa_deterministic=True)
        return crl.public_bytes(serialization.Encoding.DER)

    def _key_of(self, issuer: str) -> ec.EllipticCurvePrivateKey:
        return self.root_key if issuer == ROOT else self.platform_key


def der_bytes(certificate: x509.Certificate) -> bytes:
    """Return the DER encoding of a certificate."""
    return certificate.public_bytes(serialization.Encoding.DER)


def _revoked(
    certificates: dict[str, x509.Certificate], endorsements: Endorsements
) -> Iterable[x509.Certificate]:
    return (
        certificate for name, certificate in certificates.items() if name in endorsements.revoked
    )


def _pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in certificates)


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, MARK),
        ]
    )


def _time(seconds: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)


def _key_usage(path: int | None) -> x509.KeyUsage:
    authority = path is not None
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
