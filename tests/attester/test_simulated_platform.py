"""The simulated platform says that it is simulated, and is otherwise like a real one."""

from __future__ import annotations

import json

import dcap_qvl
import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from attestation.tdx import chain as chains
from attestation.tdx.anchor import INTEL_ANCHOR
from attestation.tdx.pck import parse_pck_extension
from attestation.tdx.quote import canonical_quote, parse_quote, require_canonical_quote
from gateway.attester.simulated.facts import Domain, Machine, Writing
from gateway.attester.simulated.keys import P256_ORDER, Derivation, complement_s
from gateway.attester.simulated.platform import SimulatedPlatform

NOW = 1_760_000_000
MARK = "SIMULATED - NOT INTEL"
INTEL_FMSPC_FIRST_BYTES = {0x00, 0x10, 0x20, 0x30, 0x50, 0x60, 0x70, 0x80, 0x90, 0xB0, 0xC0}


def every_certificate(platform: SimulatedPlatform) -> list[x509.Certificate]:
    collateral = platform.collateral()
    pems = [
        parse_quote(platform.quote(bytes(64))).cert_chain_pem,
        collateral.pck_crl_issuer_chain.encode(),
        collateral.tcb_info_issuer_chain.encode(),
        collateral.qe_identity_issuer_chain.encode(),
    ]
    return [
        chains.parse_certificate(der, what="one")
        for pem in pems
        for der in chains.split_pem(pem, what="chain")
    ]


def test_every_certificate_says_that_it_is_simulated() -> None:
    certificates = every_certificate(SimulatedPlatform(now=NOW))
    assert len(certificates) == 9
    for one in certificates:
        for name in (one.subject, one.issuer):
            (owner,) = name.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
            assert owner.value == MARK
            assert "Simulated" in name.rfc4514_string()


def test_every_revocation_list_says_that_it_is_simulated() -> None:
    collateral = SimulatedPlatform(now=NOW).collateral()
    for der in (collateral.root_ca_crl, collateral.pck_crl):
        assert MARK in x509.load_der_x509_crl(der).issuer.rfc4514_string()


@pytest.mark.parametrize("version", [4, 5])
def test_quote_carries_the_mark_in_its_signed_region(version: int) -> None:
    quote = parse_quote(SimulatedPlatform(now=NOW, version=version).quote(bytes(64)))
    assert quote.user_data == b"SIMULATED-NOT-INTEL\x00"
    assert quote.user_data in quote.signed_region


def test_platform_family_is_none_of_intels() -> None:
    quote = parse_quote(SimulatedPlatform(now=NOW).quote(bytes(64)))
    assert quote.pck is not None
    assert quote.pck.fmspc[0] not in INTEL_FMSPC_FIRST_BYTES
    tcb_info = json.loads(SimulatedPlatform(now=NOW).collateral().tcb_info)
    assert tcb_info["fmspc"] == quote.pck.fmspc.hex().upper()


def test_root_is_never_intels() -> None:
    anchor = SimulatedPlatform(now=NOW).anchor
    assert anchor.trust_domain == "simulated"
    assert anchor != INTEL_ANCHOR


def test_keys_are_fresh_unless_a_seed_is_given() -> None:
    first, second = SimulatedPlatform(now=NOW), SimulatedPlatform(now=NOW)
    assert first.anchor != second.anchor
    keys = {parse_quote(one.quote(bytes(64))).attestation_key for one in (first, second)}
    assert len(keys) == 2


def test_five_keys_of_a_platform_are_different() -> None:
    platform = SimulatedPlatform(now=NOW, seed=b"one")
    certificates = every_certificate(platform)
    points = {chains.p256_key(one, what="one").public_numbers() for one in certificates}
    attestation = parse_quote(platform.quote(bytes(64))).attestation_key
    assert len(points) == 4
    assert int.from_bytes(attestation[:32], "big") not in {point.x for point in points}


@pytest.mark.parametrize("version", [4, 5])
def test_everything_about_a_seeded_platform_can_be_repeated(version: int) -> None:
    first, second = (SimulatedPlatform(now=NOW, version=version, seed=b"s") for _ in range(2))
    assert first.quote(bytes(64)) == second.quote(bytes(64))
    assert first.collateral() == second.collateral()
    assert first.anchor == second.anchor


def test_variant_has_the_same_root_and_keys() -> None:
    one = SimulatedPlatform(now=NOW)
    other = one.but(domain=Domain(xfam=3), writing=Writing(version=5), machine=Machine(pce_svn=9))
    assert other.anchor == one.anchor
    first, second = (parse_quote(each.quote(bytes(64))) for each in (one, other))
    assert first.attestation_key == second.attestation_key
    assert (second.version, second.body.xfam) == (5, 3)
    assert second.pck is not None
    assert second.pck.pce_svn == 9


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("padded", [0, 5006, 8000])
def test_quote_is_canonical_after_normalising(version: int, padded: int) -> None:
    platform = SimulatedPlatform(now=NOW, version=version, seed=b"s")
    size = len(platform.quote(bytes(64)))
    platform = platform.but(writing=Writing(version=version, padding=max(0, padded - size)))
    raw = platform.quote(bytes(64))
    assert len(raw) == max(size, padded)
    require_canonical_quote(parse_quote(canonical_quote(raw)), platform.anchor)


def test_other_implementation_reads_the_platform() -> None:
    platform = SimulatedPlatform(now=NOW, machine=Machine(sgx_type=2, ppid=bytes(range(16))))
    theirs = dcap_qvl.parse_quote(platform.quote(bytes(64)))
    assert theirs.is_tdx()
    assert theirs.fmspc() == "FFFEFD000000"
    assert theirs.pck_extension().ppid == bytes(range(16))
    assert theirs.pck_extension().sgx_type == 2


def test_instance_and_platform_identity_come_from_the_seed() -> None:
    certificates = [
        chains.parse_certificate(parse_quote(one.quote(bytes(64))).chain()[0], what="leaf")
        for one in (SimulatedPlatform(now=NOW, seed=b"1"), SimulatedPlatform(now=NOW, seed=b"2"))
    ]
    first, second = (parse_pck_extension(one) for one in certificates)
    assert len({first.ppid, second.ppid, first.piid, second.piid}) == 4


def test_derived_numbers_are_in_their_range() -> None:
    derivation = Derivation(b"s" * 100)
    assert len(derivation.octets("x", 64)) == 64
    assert derivation.octets("x", 16) != derivation.octets("y", 16)
    for label in map(str, range(50)):
        assert 0 < derivation.serial(label) < 1 << 159


def test_complement_of_a_signature_is_its_own_inverse() -> None:
    signature = bytes(range(64))
    other = complement_s(signature)
    assert other[:32] == signature[:32]
    total = int.from_bytes(signature[32:], "big") + int.from_bytes(other[32:], "big")
    assert total == P256_ORDER
    assert complement_s(other) == signature
