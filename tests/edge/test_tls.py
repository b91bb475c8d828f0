"""TLS per boot: a key nobody stored, a certificate over it, and a channel that uses it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from attestation.errors import UsageError
from gateway.edge.server import Listen
from gateway.edge.tls import BootTls
from tests.edge.conftest import Serve

NOW = 1_800_000_000
GOOD = b"GET /x HTTP/1.1\r\nhost: h\r\n\r\n"
SPKI = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def unchecked() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def ca() -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    return key, issue(key, "CA", key.public_key(), "CA", is_ca=True)


def issue(
    signer: ec.EllipticCurvePrivateKey,
    issuer: str,
    public_key: ec.EllipticCurvePublicKey,
    subject: str,
    *,
    is_ca: bool = False,
) -> x509.Certificate:
    now = datetime.fromtimestamp(NOW, UTC)

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

    return (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=10))
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .sign(signer, hashes.SHA256())
    )


def descriptors() -> set[str]:
    return {entry.name for entry in Path("/proc/self/fd").iterdir()}


def pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(item.public_bytes(serialization.Encoding.PEM) for item in certificates)


async def peer_certificate(serve: Serve, tls: BootTls) -> x509.Certificate:
    served = await serve(tls=tls)
    client = await served.connect(ssl=unchecked(), server_hostname="localhost")
    client.send(GOOD)
    assert (await client.reply()).body == b"ok"
    shown = client.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    assert client.writer.get_extra_info("ssl_object").version() == "TLSv1.3"
    return x509.load_der_x509_certificate(shown)


async def test_peer_shows_the_key_that_the_keyset_names(serve: Serve) -> None:
    tls = BootTls.generate(["localhost", "127.0.0.1", "::1"], now=NOW)
    certificate = await peer_certificate(serve, tls)
    shown = hashlib.sha256(certificate.public_key().public_bytes(*SPKI)).digest()
    assert shown == tls.spki_sha256.value
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]
    assert certificate.not_valid_before_utc.timestamp() < NOW
    assert certificate.not_valid_after_utc.timestamp() > NOW


def test_every_boot_has_another_key() -> None:
    assert (
        BootTls.generate(["a"], now=NOW).spki_sha256 != BootTls.generate(["a"], now=NOW).spki_sha256
    )


def test_key_is_never_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.chdir(tmp_path)
    real = ssl.SSLContext.load_cert_chain

    def noting(self: ssl.SSLContext, certfile: str, *args: object, **kwargs: object) -> None:
        opened.append(str(Path(certfile).readlink()))
        real(self, certfile, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", noting)
    before = descriptors()
    BootTls.generate(["localhost"], now=NOW)
    assert [name.split(" ")[0] for name in opened] == ["/memfd:tls"]
    assert descriptors() == before
    assert list(tmp_path.iterdir()) == []


def test_certificate_without_names_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        BootTls.generate([], now=NOW)
    assert caught.value.code == "tls_names"


async def test_certificate_issued_over_the_same_key_is_installed(serve: Serve) -> None:
    tls = BootTls.generate(["localhost"], now=NOW)
    request = x509.load_pem_x509_csr(tls.csr())
    assert request.is_signature_valid
    key, root = ca()
    public_key = request.public_key()
    assert isinstance(public_key, ec.EllipticCurvePublicKey)
    leaf = issue(key, "CA", public_key, "gateway")
    spki = tls.spki_sha256
    assert tls.install(pem(leaf, root)) == 2
    assert tls.spki_sha256 == spki
    assert await peer_certificate(serve, tls) == leaf


def test_certificate_over_another_key_is_refused() -> None:
    tls = BootTls.generate(["localhost"], now=NOW)
    key, root = ca()
    other = issue(key, "CA", ec.generate_private_key(ec.SECP256R1()).public_key(), "gateway")
    with pytest.raises(UsageError) as caught:
        tls.install(pem(other, root))
    assert caught.value.code == "tls_key"
    assert tls.spki_sha256.hex in str(caught.value)


def test_broken_chain_is_refused() -> None:
    tls = BootTls.generate(["localhost"], now=NOW)
    (key, root), (_, stranger) = ca(), ca()
    public_key = x509.load_pem_x509_csr(tls.csr()).public_key()
    assert isinstance(public_key, ec.EllipticCurvePublicKey)
    leaf = issue(key, "CA", public_key, "gateway")
    for chain in (pem(leaf, stranger), pem(leaf, root, stranger)):
        with pytest.raises(UsageError) as caught:
            tls.install(chain)
        assert caught.value.code == "tls_chain"


@pytest.mark.parametrize(
    "chain",
    [
        b"",
        b"rubbish",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        b"x" * 70_000,
    ],
)
def test_chain_that_cannot_be_read_is_refused(chain: bytes) -> None:
    with pytest.raises(UsageError) as caught:
        BootTls.generate(["localhost"], now=NOW).install(chain)
    assert caught.value.code == "tls_chain"


async def test_older_tls_is_not_spoken(serve: Serve) -> None:
    served = await serve(tls=BootTls.generate(["localhost"], now=NOW))
    context = unchecked()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await served.connect(ssl=context, server_hostname="localhost")


async def test_tls_works_on_a_unix_socket_too(serve: Serve, tmp_path: Path) -> None:
    tls = BootTls.generate(["localhost"], now=NOW)
    served = await serve(listen=Listen(uds=tmp_path / "s"), tls=tls)
    client = await served.connect(ssl=unchecked(), server_hostname="localhost")
    client.send(GOOD)
    assert (await client.reply()).body == b"ok"


async def test_connection_that_does_not_go_on_with_tls_is_closed_in_time(serve: Serve) -> None:
    served = await serve(tls=BootTls.generate(["localhost"], now=NOW), header_seconds=0.2)
    silent, slow = await served.connect(), await served.connect()
    slow.send(b"\x16\x03\x01\x02\x00\x01")  # the beginning of a ClientHello
    # Without a bound the event loop would wait for a minute.
    for client in (silent, slow):
        async with asyncio.timeout(30):
            with contextlib.suppress(ConnectionError):
                assert not await client.reader.read()
    honest = await served.connect(ssl=unchecked(), server_hostname="localhost")
    honest.send(GOOD)
    assert (await honest.reply()).body == b"ok"
