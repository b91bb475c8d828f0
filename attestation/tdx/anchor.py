"""Trust anchors: the root certificate a chain must end at, chosen by the caller."""

from __future__ import annotations

from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from attestation.encoding.digest import Digest
from attestation.errors import EvidenceError, MalformedError
from attestation.tdx.chain import p256_key, parse_certificate, split_pem, verify_issued

# Intel SGX Root CA, published with Intel's Provisioning Certification Service.
_INTEL_SGX_ROOT_CA = b"""\
-----BEGIN CERTIFICATE-----
MIICjzCCAjSgAwIBAgIUImUM1lqdNInzg7SVUr9QGzknBqwwCgYIKoZIzj0EAwIw
aDEaMBgGA1UEAwwRSW50ZWwgU0dYIFJvb3QgQ0ExGjAYBgNVBAoMEUludGVsIENv
cnBvcmF0aW9uMRQwEgYDVQQHDAtTYW50YSBDbGFyYTELMAkGA1UECAwCQ0ExCzAJ
BgNVBAYTAlVTMB4XDTE4MDUyMTEwNDUxMFoXDTQ5MTIzMTIzNTk1OVowaDEaMBgG
A1UEAwwRSW50ZWwgU0dYIFJvb3QgQ0ExGjAYBgNVBAoMEUludGVsIENvcnBvcmF0
aW9uMRQwEgYDVQQHDAtTYW50YSBDbGFyYTELMAkGA1UECAwCQ0ExCzAJBgNVBAYT
AlVTMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEC6nEwMDIYZOj/iPWsCzaEKi7
1OiOSLRFhWGjbnBVJfVnkY4u3IjkDYYL0MxO4mqsyYjlBalTVYxFP2sJBK5zlKOB
uzCBuDAfBgNVHSMEGDAWgBQiZQzWWp00ifODtJVSv1AbOScGrDBSBgNVHR8ESzBJ
MEegRaBDhkFodHRwczovL2NlcnRpZmljYXRlcy50cnVzdGVkc2VydmljZXMuaW50
ZWwuY29tL0ludGVsU0dYUm9vdENBLmRlcjAdBgNVHQ4EFgQUImUM1lqdNInzg7SV
Ur9QGzknBqwwDgYDVR0PAQH/BAQDAgEGMBIGA1UdEwEB/wQIMAYBAf8CAQEwCgYI
KoZIzj0EAwIDSQAwRgIhAOW/5QkR+S9CiSDcNoowLuPRLsWGf/Yi7GSX94BgwTwg
AiEA4J0lrHoMs+Xo5o/sX6O9QWxHRAvZUGOdRQ7cvqRXaqI=
-----END CERTIFICATE-----
"""

_MAX_ANCHOR_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class Anchor:
    """A self-signed P-256 CA certificate in DER form, whoever it belongs to.

    Raises `MalformedError` if `root_der` is not such a certificate.
    """

    root_der: bytes
    certificate: x509.Certificate = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        certificate = parse_certificate(self.root_der, what="the root")
        _require_root(certificate)
        object.__setattr__(self, "certificate", certificate)

    @property
    def trust_domain(self) -> str:
        """Say "intel" if and only if this is Intel's key, "simulated" for every other key.

        Names in the certificate do not matter: anyone can write them.
        """
        return "intel" if _key_bytes(self) == _key_bytes(INTEL_ANCHOR) else "simulated"

    @property
    def name(self) -> str:
        """Tell roots apart: "intel", or "simulated:" and the SHA-256 of the certificate.

        No certificate but one with Intel's key is called "intel".
        """
        if self.trust_domain == "intel":
            return self.trust_domain
        return f"simulated:{Digest.of(self.root_der).hex}"

    @property
    def title(self) -> str:
        """Name the root for people: Intel's, or the one that a caller gave."""
        return "Intel's root" if self.trust_domain == "intel" else "the simulated root given"


def parse_anchor(data: bytes) -> Anchor:
    """Read one root certificate, PEM or DER, or raise `MalformedError`."""
    if len(data) > _MAX_ANCHOR_BYTES:
        raise MalformedError(
            "the root certificate is too large",
            code="anchor",
            expected=f"at most {_MAX_ANCHOR_BYTES} bytes",
            observed=f"{len(data)} bytes",
        )
    if not data.lstrip().startswith(b"-----"):
        return Anchor(data)
    certificates = split_pem(data, what="the root")
    if len(certificates) != 1:
        raise MalformedError(
            "the root file holds more than one certificate",
            code="anchor",
            expected="one root certificate",
            observed=f"{len(certificates)} certificates",
        )
    return Anchor(certificates[0])


def _require_root(certificate: x509.Certificate) -> None:
    try:
        # Which shows too that it has a P-256 key.
        verify_issued(certificate, certificate, what="the root")
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    except (EvidenceError, ValueError, x509.ExtensionNotFound, x509.DuplicateExtension) as error:
        raise _not_a_root() from error
    if not constraints.value.ca:
        raise _not_a_root()


def _not_a_root() -> MalformedError:
    return MalformedError(
        "the certificate is not a root",
        code="anchor",
        expected="a self-signed certificate of a certification authority",
    )


def _key_bytes(anchor: Anchor) -> bytes:
    return p256_key(anchor.certificate, what="the root").public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )


INTEL_ANCHOR = Anchor(split_pem(_INTEL_SGX_ROOT_CA, what="Intel's root")[0])
