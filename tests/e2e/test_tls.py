"""TLS of a running gateway, seen by clients that know nothing of this project."""

from __future__ import annotations

import datetime as dt
import hashlib
import socket
import ssl

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from attestation.errors import EvidenceError
from tests.e2e.conftest import Engines, Serve
from tests.support.serving import Served

pytestmark = pytest.mark.slow

TLS = {"mode": "self-signed"}


def context(version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    """A client that takes any certificate."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    if version is not None:
        made.minimum_version = made.maximum_version = version
    return made


def certificate(served: Served) -> x509.Certificate:
    """What the gateway shows."""
    with (
        socket.create_connection(("127.0.0.1", served.port), 20) as raw,
        context().wrap_socket(raw) as connection,
    ):
        assert connection.version() == "TLSv1.3"
        der = connection.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der)


def spki(shown: x509.Certificate) -> str:
    key = shown.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(key).hexdigest()


def listed(served: Served) -> list[str]:
    answer = httpx2.get(f"{served.url}/v1/attestation", verify=context(), trust_env=False).json()
    return [entry["spki_sha256"] for entry in answer["boot"]["keyset"]["tls"]]


def test_key_of_the_connection_is_the_one_in_the_attested_keyset(
    serve: Serve, standin: Engines
) -> None:
    served = serve(standin(), tls=TLS)
    assert served.url.startswith("https://")
    assert "channel" not in served.lines
    assert [spki(certificate(served))] == listed(served)
    checks = {check.id: str(check.status) for check in served.connect().result.checks}
    assert checks["CHANNEL"] == "pass"


def test_two_boots_have_two_keys_and_a_session_does_not_follow_a_restart(
    serve: Serve, standin: Engines
) -> None:
    engine = standin()
    first = serve(engine, tls=TLS)
    session, port, before = first.connect(), first.port, spki(certificate(first))
    assert first.stop() == 0
    second = serve(engine, tls=TLS, listen={"port": port})
    assert spki(certificate(second)) != before
    with session.http_client() as client, pytest.raises((EvidenceError, httpx2.ConnectError)):
        client.post(f"{session.base_url}/chat/completions", json={})
    assert second.metrics()["attested_unauthenticated_total"] == 0


def test_older_tls_is_refused(serve: Serve, standin: Engines) -> None:
    served = serve(standin(), tls=TLS)
    with (
        socket.create_connection(("127.0.0.1", served.port), 20) as raw,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        context(ssl.TLSVersion.TLSv1_2).wrap_socket(raw)


@pytest.mark.parametrize(
    "data",
    [b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"\0" * 99, b"\0"],
)
def test_what_is_no_tls_gets_no_http(serve: Serve, standin: Engines, data: bytes) -> None:
    served = serve(standin(), tls=TLS)
    with socket.create_connection(("127.0.0.1", served.port), 20) as raw:
        raw.sendall(data)
        raw.shutdown(socket.SHUT_WR)
        answer = b""
        try:
            while piece := raw.recv(4096):
                answer += piece
        except ConnectionError:
            pass
    assert b"HTTP" not in answer
    assert httpx2.get(f"{served.url}/healthz", verify=context()).status_code == 200


def test_certificate_of_an_authority_goes_over_the_same_key(serve: Serve, standin: Engines) -> None:
    served = serve(standin(), tls=TLS)
    before = certificate(served)
    csr = httpx2.get(f"{served.admin}/tls/csr", trust_env=False).content
    chain, root = issued(x509.load_pem_x509_csr(csr))
    kind = {"content-type": "application/pem-certificate-chain"}
    done = httpx2.post(f"{served.admin}/tls/certificate", content=chain, headers=kind)
    assert done.json() == {"certificates": 2}
    after = certificate(served)
    assert after != before
    assert [spki(after)] == [spki(before)] == listed(served)
    # Now an ordinary client, which asks the authority, is content as well.
    ordinary = ssl.create_default_context(cadata=root)
    answer = httpx2.get(
        f"https://localhost:{served.port}/healthz", verify=ordinary, trust_env=False
    )
    assert answer.status_code == 200


def test_certificate_over_another_key_is_refused(serve: Serve, standin: Engines) -> None:
    served = serve(standin(), tls=TLS)
    before = certificate(served)
    other = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(_name("localhost"))
    chain, _ = issued(request.sign(other, hashes.SHA256()))
    kind = {"content-type": "application/pem-certificate-chain"}
    refused = httpx2.post(f"{served.admin}/tls/certificate", content=chain, headers=kind)
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "tls_key"
    assert certificate(served) == before


def issued(csr: x509.CertificateSigningRequest) -> tuple[bytes, str]:
    """A chain over the request's key by an authority made here, and its root."""
    key, now = ec.generate_private_key(ec.SECP256R1()), dt.datetime.now(dt.UTC)

    def sign(subject: x509.Name, public: object, *, ca: bool) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(_name("Authority made up here"))
            .public_key(public)  # type: ignore[arg-type]
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=2))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        )
        if ca:
            builder = builder.add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
        return builder.sign(key, hashes.SHA256())

    root = sign(_name("Authority made up here"), key.public_key(), ca=True)
    leaf = sign(csr.subject, csr.public_key(), ca=False)
    pem = [one.public_bytes(Encoding.PEM) for one in (leaf, root)]
    return b"".join(pem), pem[1].decode()


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
