"""PEM chains and trust anchors: whose root, and nothing but a chain."""

from __future__ import annotations

import datetime as dt
import warnings

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import EvidenceError
from attestation.tdx import chain as chains
from attestation.tdx.anchor import INTEL_ANCHOR, Anchor, parse_anchor
from gateway.attester.simulated.platform import SimulatedPlatform
from tests.refusals import refusal
from tests.tdx import bench

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey

NOON = dt.datetime(2025, 1, 1, tzinfo=dt.UTC)
INTEL_NAME = INTEL_ANCHOR.certificate.subject
ROOT = bench.platform().anchor
PEM = bench.quote().certification_data.rstrip(b"\x00")


def certificate(
    key: Key,
    *,
    name: x509.Name | None = None,
    issuer: Key | None = None,
    extensions: tuple[x509.ExtensionType, ...] = (x509.BasicConstraints(ca=True, path_length=1),),
) -> bytes:
    subject = name or x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a root")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOON)
        .not_valid_after(NOON + dt.timedelta(days=1))
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    signer = issuer or key
    algorithm = None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(signer, algorithm).public_bytes(serialization.Encoding.DER)


def p256() -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(7, ec.SECP256R1())


def loaded(*ders: bytes) -> list[x509.Certificate]:
    return [chains.parse_certificate(der, what="one") for der in ders]


def test_chain_of_a_quote_is_leaf_authority_and_root() -> None:
    ders = chains.split_pem(PEM, what="chain")
    assert len(ders) == 3
    assert ders[-1] == ROOT.root_der
    assert chains.encode_pem(ders) == PEM


@given(st.lists(st.binary(min_size=1, max_size=200), min_size=1, max_size=8))
def test_canonical_pem_is_read_back(ders: list[bytes]) -> None:
    pem = chains.encode_pem(ders)
    assert chains.split_pem(pem, what="chain") == tuple(ders)
    assert max(len(line) for line in pem.splitlines()) <= 64


@pytest.mark.parametrize("count", [8, 9])
def test_at_most_eight_certificates_are_read(count: int) -> None:
    pem = chains.encode_pem([b"x"] * count)
    outcome = bench.outcome(lambda: chains.split_pem(pem, what="chain"))
    assert outcome == ("accepted" if count == 8 else "pem")


@pytest.mark.parametrize(
    "pem",
    [
        b"",
        b"\x00\x00",
        b" \n",
        b"text",
        b"text\n" + PEM,
        PEM + b"text",
        PEM.replace(b"-----END", b"----END", 1),
        PEM.replace(b"BEGIN CERTIFICATE", b"BEGIN TRUSTED CERTIFICATE", 1),
        PEM.replace(b"MII", b"MI\x00", 1),
        PEM.replace(b"MII", b"M=I", 1),
        PEM.replace(b"MII", b"MI", 1),
        b"\x00" + PEM,
    ],
)
def test_anything_but_certificates_is_refused(pem: bytes) -> None:
    assert refusal(chains.split_pem, pem, what="chain") == "pem"


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_no_certificate(data: bytes) -> None:
    assert bench.outcome(lambda: chains.parse_certificate(data, what="x")) == "certificate"
    assert bench.outcome(lambda: chains.split_pem(data, what="x")) in ("accepted", "pem")
    assert bench.outcome(parse_anchor, data) in ("certificate", "pem")


def test_base64_with_unused_bits_set_is_refused() -> None:
    pem = chains.encode_pem([b"x"])
    assert b"eA==" in pem
    assert refusal(chains.split_pem, pem.replace(b"eA==", b"eB=="), what="chain") == "pem"


def test_healthy_chain_is_anchored() -> None:
    links = loaded(*chains.split_pem(PEM, what="chain"))
    chains.verify_anchored(links, ROOT.certificate, what="chain")
    chains.verify_anchored(links[:2], ROOT.certificate, what="chain without its root")


@pytest.mark.parametrize("order", [(0, 2), (1, 0, 2), (2, 1, 0)])
def test_chain_with_a_missing_or_misplaced_link_is_refused(order: tuple[int, ...]) -> None:
    ders = chains.split_pem(PEM, what="chain")
    links = loaded(*(ders[index] for index in order))
    code = refusal(
        chains.verify_anchored, links, ROOT.certificate, what="chain", error=EvidenceError
    )
    assert code == "signature"


def test_chain_under_another_root_is_refused_as_such() -> None:
    links = loaded(*chains.split_pem(PEM, what="chain"))
    code = refusal(
        chains.verify_anchored, links, INTEL_ANCHOR.certificate, what="chain", error=EvidenceError
    )
    assert code == "root"


def test_root_of_the_same_name_and_another_key_is_another_root() -> None:
    other = SimulatedPlatform(now=bench.NOW, seed=b"another seed")
    links = loaded(*chains.split_pem(PEM, what="chain"))
    assert other.anchor.certificate.subject == ROOT.certificate.subject
    code = refusal(
        chains.verify_anchored, links, other.anchor.certificate, what="chain", error=EvidenceError
    )
    assert code == "root"


@pytest.mark.parametrize(
    "key",
    [
        ec.derive_private_key(7, ec.SECP384R1()),
        rsa.generate_private_key(65537, 2048),
        ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32)),
    ],
    ids=["P-384", "RSA", "Ed25519"],
)
def test_only_p256_keys_count(key: Key) -> None:
    (one,) = loaded(certificate(key))
    assert refusal(chains.p256_key, one, what="one") == "certificate"
    assert refusal(parse_anchor, certificate(key)) == "certificate"


def test_signature_by_another_kind_of_key_does_not_count() -> None:
    # The signature holds and the names fit; only the curve is not the one Intel's chains use.
    (own,) = loaded(certificate(ec.derive_private_key(7, ec.SECP384R1())))
    own.verify_directly_issued_by(own)
    assert refusal(chains.verify_issued, own, own, what="one") == "certificate"


def test_unreadable_key_is_refused() -> None:
    der = certificate(p256())
    point = (
        p256()
        .public_key()
        .public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    )
    (one,) = loaded(der.replace(point, b"\x04" + bytes(64)))
    assert refusal(chains.p256_key, one, what="one") == "certificate"
    unknown_curve = der.replace(
        bytes.fromhex("06082a8648ce3d030107"), b"\x06\x08*\x86H\xce=\x03\x01\x7f"
    )
    (one,) = loaded(unknown_curve)
    assert refusal(chains.p256_key, one, what="one") == "certificate"


@pytest.mark.parametrize("filters", ["error", "ignore"])
@pytest.mark.parametrize("serial", [b"\x02\x01\x00", b"\x02\x01\x80"], ids=["zero", "negative"])
def test_serial_number_that_is_not_positive_is_refused(serial: bytes, filters: str) -> None:
    der = certificate(p256()).replace(b"\x02\x01\x01", serial, 1)
    with warnings.catch_warnings():
        warnings.simplefilter(filters)  # type: ignore[arg-type]
        assert refusal(chains.parse_certificate, der, what="one") == "certificate"


@pytest.mark.parametrize("version", [1, 3])
def test_certificate_of_a_version_that_there_is_not_is_refused(version: int) -> None:
    good = chains.split_pem(PEM, what="the chain")[0]
    place = good.index(bytes.fromhex("a003020102")) + 4
    other = good[:place] + bytes([version]) + good[place + 1 :]
    chains.parse_certificate(good, what="it")
    assert refusal(chains.parse_certificate, other, what="it") == "certificate"


def test_signature_with_unused_bits_is_refused() -> None:
    # DER allows them if they are zero, so such a certificate could be written in two ways.
    for number in range(1, 40):
        der = certificate(ec.derive_private_key(number, ec.SECP256R1()))
        (one,) = loaded(der)
        if not der[-1] & 1:
            mark = -len(one.signature) - 1
            other = der[:mark] + b"\x01" + der[mark + 1 :]
            assert x509.load_der_x509_certificate(other).signature == one.signature
            assert refusal(chains.parse_certificate, other, what="one") == "certificate"
            return
    pytest.fail("no signature ended in a zero bit")


def test_intels_anchor_is_the_published_root() -> None:
    assert INTEL_ANCHOR.trust_domain == "intel"
    assert INTEL_NAME.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "Intel SGX Root CA"
    assert parse_anchor(INTEL_ANCHOR.root_der) == INTEL_ANCHOR


def test_trust_domain_is_a_matter_of_the_key_not_of_the_name() -> None:
    forged = parse_anchor(certificate(p256(), name=INTEL_NAME))
    assert forged.certificate.subject == INTEL_NAME
    assert forged.trust_domain == "simulated"
    assert ROOT.trust_domain == "simulated"


@pytest.mark.parametrize("extra", [b"", b"\n", b"\x00"])
def test_anchor_is_read_from_pem_and_der(extra: bytes) -> None:
    assert parse_anchor(chains.encode_pem([ROOT.root_der]) + extra) == ROOT
    assert parse_anchor(b"\n" + chains.encode_pem([ROOT.root_der])) == ROOT
    assert parse_anchor(ROOT.root_der) == Anchor(ROOT.root_der)


def test_anchors_are_equal_if_their_certificates_are() -> None:
    assert ROOT != INTEL_ANCHOR
    assert len({ROOT, Anchor(ROOT.root_der), INTEL_ANCHOR}) == 2


def test_two_roots_in_one_file_are_refused() -> None:
    pem = chains.encode_pem([ROOT.root_der, INTEL_ANCHOR.root_der])
    assert refusal(parse_anchor, pem) == "anchor"


def test_oversized_root_file_is_refused() -> None:
    pem = chains.encode_pem([ROOT.root_der])
    assert parse_anchor(pem + b"\n" * (16 * 1024 - len(pem))) == ROOT
    assert refusal(parse_anchor, pem + b"\n" * (16 * 1024 - len(pem) + 1)) == "anchor"


def test_certificate_that_signed_itself_with_another_key_is_no_root() -> None:
    other = ec.derive_private_key(8, ec.SECP256R1())
    assert refusal(parse_anchor, certificate(p256(), issuer=other)) == "anchor"


def test_leaf_and_intermediate_certificates_are_no_roots() -> None:
    for der in chains.split_pem(PEM, what="chain")[:2]:
        assert refusal(parse_anchor, der) == "anchor"


@pytest.mark.parametrize(
    "extensions", [(), (x509.BasicConstraints(ca=False, path_length=None),)], ids=["none", "no CA"]
)
def test_self_signed_certificate_of_no_authority_is_no_root(
    extensions: tuple[x509.ExtensionType, ...],
) -> None:
    assert refusal(parse_anchor, certificate(p256(), extensions=extensions)) == "anchor"
