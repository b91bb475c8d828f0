"""Checks that another one would hide: each is the only thing between a forgery and a pass."""

from __future__ import annotations

import datetime as dt
import json
import struct
from dataclasses import replace
from typing import Any

import dcap_qvl
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from attestation.errors import EvidenceError
from attestation.tdx import der, pck, signatures
from attestation.tdx.ccel import parse_ccel
from attestation.tdx.dcap import verify_quote
from attestation.tdx.endorsements import parse_endorsements
from attestation.tdx.identity import identity_of
from gateway.attester.simulated import der as writer
from gateway.attester.simulated.facts import Machine
from tests.refusals import refusal
from tests.tdx import bench

ROOT = bench.platform().anchor
END = b"\xff" * 4


# Attributes


@pytest.mark.parametrize(
    ("service", "refused"), [(None, False), (bytes(48), False), (bytes(47) + b"\x01", True)]
)
def test_bound_service_domain_is_seen_in_the_report(service: bytes | None, refused: bool) -> None:
    body = replace(bench.quote().body, mr_service_td=service)
    assert ("service_td" in body.refused_attributes) is refused


# A quote without a readable PCK certificate


def test_quote_without_its_platforms_facts_is_malformed() -> None:
    quote = replace(bench.quote(), pck=None)
    with pytest.raises(EvidenceError) as caught:
        verify_quote(quote, bench.collateral(), bench.NOW, ROOT)
    assert caught.value.code == "malformed"


def test_quote_without_its_platforms_facts_names_no_platform() -> None:
    seen = identity_of(replace(bench.quote(), pck=None))
    assert (seen["PPID"], seen["PIID"]) == (None, None)


def test_panic_is_the_cause_of_its_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    panic = type("PanicException", (BaseException,), {})("index out of bounds")

    def verifier(_root: bytes) -> object:
        raise panic

    monkeypatch.setattr(dcap_qvl, "QuoteVerifier", verifier)
    with pytest.raises(EvidenceError) as caught:
        verify_quote(bench.quote(), bench.collateral(), bench.NOW, ROOT)
    assert caught.value.__cause__ is panic


# DER


@pytest.mark.parametrize(
    "length", [b"\x83\x01\x00\x00", b"\x84\x00\x01\x00\x00", b"\x80", b"\x81\x7f", b"\x82\x00\xff"]
)
def test_length_is_in_its_one_short_form(length: bytes) -> None:
    data = bytes([der.SEQUENCE]) + length + bytes(0x10000)
    assert refusal(der.read_value, data, der.SEQUENCE) == "der"


def test_sgx_type_of_every_kind_of_machine_is_read() -> None:
    ppid, piid = bytes(16), bytes(16)
    for kind in (0, 1, 2):
        read = pck.parse_pck_extension_value(
            writer.sgx_extension(Machine(sgx_type=kind), ppid, piid)
        )
        assert read.sgx_type == kind


def test_object_identifier_of_another_tree_is_refused() -> None:
    good = writer.sgx_extension(Machine(), bytes(16), bytes(16))
    oid = bytes.fromhex("2a864886f84d010d01")
    # The same length and last arc, below another company's arc.
    other = oid[:-3] + b"\x02" + oid[-2:]
    place = good.rindex(oid + b"\x05")
    changed = good[:place] + other + good[place + len(oid) :]
    assert pck.parse_pck_extension_value(good).ppid == bytes(16)
    assert refusal(pck.parse_pck_extension_value, changed) == "pck"


# Endorsements


@pytest.mark.parametrize("field", ["tcb_info", "qe_identity"])
@pytest.mark.parametrize(
    "until", ["2126-03-03", "2126-03-03T00:00:00", "2126-03-03T00:00:00+14:00"]
)
def test_end_of_endorsements_is_an_instant_of_utc(field: str, until: str) -> None:
    good = bench.collateral()
    text = json.dumps({**json.loads(getattr(good, field)), "nextUpdate": until})
    changed: dict[str, Any] = {field: text}
    assert refusal(parse_endorsements, replace(good, **changed)) == "member_value"


# Event logs


def header(*algorithms: tuple[int, int]) -> bytes:
    spec = struct.pack("<16sIBBBBI", b"Spec ID Event03\x00", 0, 0, 2, 0, 2, len(algorithms))
    spec += b"".join(struct.pack("<HH", *one) for one in algorithms) + b"\x00"
    return struct.pack("<II20sI", 1, 3, bytes(20), len(spec)) + spec


@pytest.mark.parametrize("algorithms", [(), ((0x0B, 32),), ((0x0C, 32),), ((0x0C, 0),)])
def test_log_without_whole_sha384_digests_is_refused_though_it_is_empty(
    algorithms: tuple[tuple[int, int], ...],
) -> None:
    assert parse_ccel(header((0x0C, 48)) + END).events == ()
    assert refusal(parse_ccel, header(*algorithms) + END) == "event_log"


# Revocation lists


def _list_by(name: str, key: ec.EllipticCurvePrivateKey) -> bytes:
    first, last = dt.datetime(2025, 1, 1, tzinfo=dt.UTC), dt.datetime(2035, 1, 2, tzinfo=dt.UTC)
    return (
        x509.CertificateRevocationListBuilder()
        .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
        .last_update(first)
        .next_update(last)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.DER)
    )


def test_revocation_list_in_another_authoritys_name_is_refused_though_the_key_is_right() -> None:
    key = ec.derive_private_key(3, ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "root")])
    issuer = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(dt.datetime(2025, 1, 1, tzinfo=dt.UTC))
        .not_valid_after(dt.datetime(2035, 1, 1, tzinfo=dt.UTC))
        .sign(key, hashes.SHA256())
    )
    signatures._verify_crl(_list_by("root", key), issuer, "the list")
    forged = _list_by("another", key)
    assert (
        refusal(signatures._verify_crl, forged, issuer, "the list", error=EvidenceError)
        == "signature"
    )


# Intel TDX Module ABI specification, TDATTRIBUTES.
UNUSUAL = {
    **{bit: f"profiling (bit {bit})" for bit in (4, 5, 6)},
    0: "DEBUG",
    17: "SERVTD_EXT",
    27: "LASS",
    29: "MIGRATABLE",
    30: "PKS",
    31: "KL",
    63: "PERFMON",
}


@pytest.mark.parametrize("bit", [bit for bit in range(64) if bit != 28])
def test_every_bit_of_the_attributes_but_one_is_unusual_and_named(bit: int) -> None:
    body = replace(bench.quote().body, td_attributes=1 << 28 | 1 << bit)
    assert body.unusual_attributes == (UNUSUAL.get(bit, f"bit {bit}"),)
    without = replace(body, td_attributes=1 << bit)
    assert without.unusual_attributes == ("SEPT_VE_DISABLE off", *body.unusual_attributes)
