"""TLS whose peer is known by its key alone: the SPKI that the attested keyset lists.

No certificate authority is asked: a gateway's certificate is self-signed by default, and a name
that some authority vouched for says nothing about what runs behind it.  The check is made inside
the handshake, so that not one byte of a request leaves for an unknown key.  That the peer holds
the key is TLS's own proof (RFC 8446 section 4.4.3), which no verification mode switches off.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attestation.encoding.digest import Digest
from attestation.errors import EvidenceError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection


def spki_digest(certificate_der: bytes) -> Digest:
    """SHA-256 of the certificate's SubjectPublicKeyInfo (RFC 5280 section 4.1), as keysets list."""
    try:
        key = x509.load_der_x509_certificate(certificate_der).public_key()
        return Digest.of(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    except Exception as error:
        # Any certificate may arrive here, and the parser's failures have no common base.
        raise EvidenceError(
            "the peer's certificate has no usable key",
            code="channel",
            expected="an X.509 certificate with a known kind of key",
        ) from error


def require_listed(spki: Digest, listed: Collection[Digest]) -> None:
    """Raise `EvidenceError` (code "channel") unless the keyset lists this TLS key."""
    if spki not in listed:
        raise EvidenceError(
            "CHANNEL: the connection does not end at a key of the attested keyset",
            code="channel",
            expected=f"one of {', '.join(sorted(pin.hex for pin in listed)) or 'none: tls is []'}",
            observed=spki.hex,
            hint="something between you and the gateway ends TLS, or the gateway was restarted:"
            " connect again to look at its new evidence",
        )


def checked_context(approve: Callable[[Digest], None]) -> ssl.SSLContext:
    """A client context whose handshakes call `approve(SPKI digest)`; what that raises ends them.

    TLS 1.3 only: every gateway speaks it, and with it the certificate is never sent in clear.
    """

    def approve_peer(connection: ssl.SSLSocket | ssl.SSLObject) -> None:
        certificate = connection.getpeercert(binary_form=True)
        if certificate is None:
            raise EvidenceError("the peer showed no certificate", code="channel")
        approve(spki_digest(certificate))

    class CheckedSocket(ssl.SSLSocket):
        def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 - stdlib's
            super().do_handshake(block)
            try:
                approve_peer(self)
            except EvidenceError:
                self.close()
                raise

    class CheckedObject(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            approve_peer(self)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.sslsocket_class = CheckedSocket
    context.sslobject_class = CheckedObject
    return context


def pinned_context(listed: Collection[Digest]) -> ssl.SSLContext:
    """A context that connects to the keys in `listed` and to no other."""
    pins = frozenset(listed)
    return checked_context(lambda spki: require_listed(spki, pins))
