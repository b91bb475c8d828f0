"""The admin listener and TLS over the boot's key, on real sockets."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from attestation.encoding.digest import Digest

CHAIN = "application/pem-certificate-chain"
PEM = serialization.Encoding.PEM


class Authority:
    """A made-up certificate authority."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        self.certificate = self._sign(name, name, self.key.public_key(), authority=True)

    def _sign(
        self, subject: x509.Name, issuer: x509.Name, key: Any, *, authority: bool
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
            .sign(self.key, hashes.SHA256())
        )

    def issue(self, key: Any) -> bytes:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
        leaf = self._sign(name, self.certificate.subject, key, authority=False)
        return leaf.public_bytes(PEM) + self.certificate.public_bytes(PEM)


def admin(running: Any, **headers: str) -> httpx2.AsyncClient:
    address = running.gateway.addresses.admin
    return httpx2.AsyncClient(base_url=address, trust_env=False, headers=headers, timeout=30)


async def served_certificate(running: Any) -> bytes:
    host, port = running.gateway.addresses.public.removeprefix("https://").split(":")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection(host, int(port), ssl=context)
    found: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    await writer.wait_closed()
    return found


async def test_metrics_are_served_on_the_admin_listener_only(running: Any) -> None:
    async with admin(running) as client:
        response = await client.get("/metrics")
        assert response.status_code == 200
        assert "attested_log_size 1.0" in response.text
        assert (await client.get("/v1/attestation")).status_code == 404
        assert (await client.get("/docs")).status_code == 404


@pytest.mark.parametrize("host", ["evil.example", "10.0.0.1", "localhost.evil.example:80"])
async def test_other_host_names_are_refused(running: Any, host: str) -> None:
    async with admin(running, host=host) as client:
        assert (await client.get("/metrics")).status_code == 421


async def test_without_tls_there_is_no_certificate_to_install(running: Any) -> None:
    async with admin(running) as client:
        assert (await client.get("/tls/csr")).status_code == 404
        assert (await client.post("/tls/certificate", content=b"")).status_code == 404


async def test_issued_certificate_over_the_boots_key_is_used_from_then_on(
    tmp_path: Path, start: Callable[..., Any]
) -> None:
    async with start(tmp_path, tls={"mode": "self-signed"}) as running:
        spki = running.gateway.boot.evidence.keyset.tls_spki
        before = x509.load_der_x509_certificate(await served_certificate(running))
        assert (spki_of(before),) == spki
        assert before.issuer == before.subject
        authority = Authority()
        async with admin(running) as client:
            csr = x509.load_pem_x509_csr((await client.get("/tls/csr")).content)
            response = await client.post(
                "/tls/certificate",
                content=authority.issue(csr.public_key()),
                headers={"content-type": CHAIN},
            )
            assert response.json() == {"certificates": 2}
        after = x509.load_der_x509_certificate(await served_certificate(running))
        assert (spki_of(after),) == spki
        assert after.issuer == authority.certificate.subject


def spki_of(certificate: x509.Certificate) -> Digest:
    encoded = certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return Digest.of(encoded)


async def test_certificate_that_cannot_be_used_is_refused_and_nothing_changes(
    tmp_path: Path, start: Callable[..., Any]
) -> None:
    async with start(tmp_path, tls={"mode": "self-signed"}) as running:
        before = await served_certificate(running)
        foreign = Authority().issue(ec.generate_private_key(ec.SECP256R1()).public_key())
        async with admin(running) as client:
            for content, kind, status in (
                (foreign, CHAIN, 400),
                (b"nonsense", CHAIN, 400),
                (b"x" * 200_000, CHAIN, 413),
                (foreign, "text/plain", 415),
            ):
                response = await client.post(
                    "/tls/certificate", content=content, headers={"content-type": kind}
                )
                assert response.status_code == status
                assert response.json()["error"]["code"]
        assert await served_certificate(running) == before


async def test_admin_listener_is_off_unless_it_has_a_port(
    tmp_path: Path, start: Callable[..., Any]
) -> None:
    async with start(tmp_path, admin={}) as running:
        assert running.gateway.addresses.admin is None
