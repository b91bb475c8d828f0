from __future__ import annotations

import datetime as dt
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from attestation.bundle import Bundle, with_endorsements
from attestation.bundle.endorse import fmspc_of
from attestation.tdx.chain import encode_pem
from attestation.tdx.collateral import Collateral
from attestation.tdx.quote import parse_quote
from gateway.attester.simulated.facts import Endorsements, Machine
from gateway.attester.simulated.platform import SimulatedPlatform
from tests.bundle.test_bundle import epoch_of
from tests.support.bundles import NOW, Gateway

GATEWAY = Gateway()
BARE = Bundle(boots=(replace(GATEWAY.evidence, collateral=None),))


def test_endorsements_for_the_platform_take_the_place_of_the_files() -> None:
    fresh = GATEWAY.machine.collateral(at=NOW + 86_400)
    bundle = with_endorsements(GATEWAY.bundle(), [fresh])
    assert bundle.boots[0].collateral == fresh.digest
    assert bundle.collateral[fresh.digest] == fresh


def test_endorsements_fill_in_where_the_file_has_none() -> None:
    collateral = GATEWAY.machine.collateral()
    assert with_endorsements(BARE, [collateral]).boots[0].collateral == collateral.digest


def test_endorsements_named_by_digest_are_found_whatever_they_are_for() -> None:
    other = SimulatedPlatform(
        now=NOW, seed=b"other", endorsements=Endorsements(fmspc=b"\xff" * 6)
    ).collateral()
    named = Bundle(boots=(replace(GATEWAY.evidence, collateral=other.digest),))
    assert with_endorsements(named, [other]).boots[0].collateral == other.digest


def test_endorsements_for_another_platform_change_nothing() -> None:
    other = SimulatedPlatform(
        now=NOW,
        seed=b"other",
        machine=Machine(fmspc=b"\xff" * 6),
        endorsements=Endorsements(fmspc=b"\xff" * 6),
    ).collateral()
    assert with_endorsements(GATEWAY.bundle(), [other]).boots == GATEWAY.bundle().boots
    assert with_endorsements(BARE, []) == BARE


def test_endorsements_with_another_authoritys_revocation_list_are_passed_over() -> None:
    good = GATEWAY.machine.collateral()
    other = replace(good, pck_crl=by_processor_ca(good))
    assert with_endorsements(BARE, [other]).boots[0].collateral is None
    assert with_endorsements(BARE, [other, good]).boots[0].collateral == good.digest


def test_endorsements_with_an_unreadable_revocation_list_go_by_their_fmspc() -> None:
    broken = replace(GATEWAY.machine.collateral(), pck_crl=b"0")
    assert with_endorsements(BARE, [broken]).boots[0].collateral == broken.digest


def test_quote_by_an_authority_of_another_name_goes_by_its_fmspc() -> None:
    pem = GATEWAY.evidence.quote
    chain = parse_quote(pem).chain()
    renamed = chain[0].replace(b"Simulated SGX PCK Platform CA", b"Simulated SGX PCK Elsewhere C")
    quote = pem.replace(encode_pem(chain[:1]), encode_pem([renamed]))
    assert quote != pem
    bare = Bundle(boots=(replace(GATEWAY.evidence, quote=quote, collateral=None),))
    good = GATEWAY.machine.collateral()
    assert with_endorsements(bare, [good]).boots[0].collateral == good.digest


def by_processor_ca(good: Collateral) -> bytes:
    """A revocation list as the other CA would write it; nobody looks at signatures here."""
    old = x509.load_der_x509_crl(good.pck_crl)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Intel SGX PCK Processor CA")])
    made = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(name)
        .last_update(old.last_update_utc)
        .next_update(old.last_update_utc + dt.timedelta(days=30))
        .sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.DER)


@pytest.mark.parametrize("quote", [b"", b"x"])
def test_quote_that_does_not_parse_gets_no_endorsements(quote: bytes) -> None:
    broken = Bundle(boots=(replace(GATEWAY.evidence, quote=quote, collateral=None),))
    assert with_endorsements(broken, [GATEWAY.machine.collateral()]).boots == broken.boots


def test_quote_without_a_platform_certificate_gets_no_endorsements() -> None:
    # The certification data still follows its length fields, but holds no certificate.
    quote = GATEWAY.evidence.quote.replace(b"CERTIFICATE", b"CERTIFICATX")
    broken = Bundle(boots=(replace(GATEWAY.evidence, quote=quote, collateral=None),))
    assert with_endorsements(broken, [GATEWAY.machine.collateral()]).boots == broken.boots


def test_epochs_are_endorsed_as_boots_are() -> None:
    collateral = GATEWAY.machine.collateral()
    epoch = epoch_of(GATEWAY, quote=GATEWAY.evidence.quote)
    bundle = with_endorsements(Bundle(epochs=(epoch,)), [collateral])
    assert bundle.epochs[0].collateral == collateral.digest


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"fmspc":1}'])
def test_collateral_that_names_no_platform_is_for_none(text: str) -> None:
    assert fmspc_of(replace(GATEWAY.machine.collateral(), tcb_info=text)) is None
