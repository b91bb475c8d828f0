"""Parsing quotes: every field where Intel's layout puts it, everything else refused."""

from __future__ import annotations

import hashlib
import struct

import dcap_qvl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import MalformedError
from attestation.tdx.body import SIZE_10, SIZE_15, parse_report
from attestation.tdx.quote import MAX_QUOTE_BYTES, parse_quote
from tests.refusals import refusal
from tests.tdx import bench

# Where things lie in a version 4 quote with 32 bytes of authentication data.
V4_END, V4_LENGTH, V4_OUTER_TYPE, V4_OUTER_SIZE = 632, 632, 764, 766
V4_AUTH_SIZE, V4_INNER_TYPE, V4_INNER_SIZE, V4_PEM = 1218, 1252, 1254, 1258


def with_field(layout: str, offset: int, value: int, version: int = 4) -> bytes:
    data = bytearray(bench.raw_quote(version))
    struct.pack_into(layout, data, offset, value)
    return bytes(data)


@pytest.mark.parametrize("version", [4, 5])
def test_every_field_is_where_another_parser_finds_it(version: int) -> None:
    raw = bench.distinct(version)
    ours, theirs = parse_quote(raw), dcap_qvl.parse_quote(raw)
    body, report = ours.body, theirs.report
    assert ours.version == version == theirs.header.version
    assert ours.user_data == theirs.header.user_data
    assert body.tee_tcb_svn == report.tee_tcb_svn
    assert (body.mr_seam, body.mr_signer_seam) == (report.mr_seam, report.mr_signer_seam)
    assert body.seam_attributes == report.seam_attributes
    assert body.td_attributes.to_bytes(8, "little") == report.td_attributes
    assert body.xfam.to_bytes(8, "little") == report.xfam
    assert (body.mrtd, body.mr_config_id) == (report.mr_td, report.mr_config_id)
    assert (body.mr_owner, body.mr_owner_config) == (report.mr_owner, report.mr_owner_config)
    assert body.rtmrs == (report.rt_mr0, report.rt_mr1, report.rt_mr2, report.rt_mr3)
    assert body.report_data == report.report_data == bench.REPORT_DATA
    assert ours.cert_chain_pem == theirs.cert_chain_pem_bytes() + b"\x00"


def test_version_5_adds_the_current_tcb_and_the_service_domain() -> None:
    raw = bench.distinct(5)
    body, report = parse_quote(raw).body, dcap_qvl.parse_quote(raw).report
    assert body.tee_tcb_svn2 == report.tee_tcb_svn2
    assert body.mr_service_td == report.mr_service_td
    assert bench.quote(4).body.tee_tcb_svn2 is None
    assert bench.quote(4).body.mr_service_td is None


@pytest.mark.parametrize("version", [4, 5])
def test_platform_is_read_from_the_pck_certificate(version: int) -> None:
    pck = bench.quote(version).pck
    theirs = dcap_qvl.parse_quote(bench.raw_quote(version)).pck_extension()
    assert pck is not None
    assert (pck.ppid, pck.fmspc, pck.piid) == (
        theirs.ppid,
        theirs.fmspc,
        theirs.platform_instance_id,
    )
    assert (pck.cpu_svn, pck.pce_svn, pck.pce_id) == (theirs.cpu_svn, theirs.pce_svn, theirs.pce_id)
    assert bytes(pck.components) == pck.cpu_svn
    assert pck.sgx_type == theirs.sgx_type


@pytest.mark.parametrize(("version", "end"), [(4, 632), (5, 702)])
def test_quote_is_named_by_its_signed_region_alone(version: int, end: int) -> None:
    raw = bench.raw_quote(version)
    parsed = parse_quote(raw)
    assert parsed.signed_region == raw[:end]
    assert parsed.digest.value == hashlib.sha256(raw[:end]).digest()
    other_tail = bench.changed(bench.platform(version), writing={"complement_s": True})
    assert parse_quote(other_tail.quote(bench.REPORT_DATA)).digest == parsed.digest


def test_version_5_may_carry_the_shorter_report() -> None:
    one = bench.changed(bench.platform(5), writing={"td_report_10_in_v5": True})
    parsed = parse_quote(one.quote(bench.REPORT_DATA))
    assert parsed.body.tee_tcb_svn2 is None
    assert len(parsed.signed_region) == 638
    assert bench.verify(one).tcb_status == "UpToDate"


@pytest.mark.parametrize(
    ("bit", "name"), [(0, "debug"), (28, "sept_ve_disable"), (29, "migratable")]
)
def test_attribute_bits_have_their_names(bit: int, name: str) -> None:
    for value in (0, (1 << 64) - 1 - (1 << bit)):
        one = bench.changed(bench.platform(), domain={"td_attributes": value})
        assert getattr(parse_quote(one.quote(bench.REPORT_DATA)), name) is False
    one = bench.changed(bench.platform(), domain={"td_attributes": 1 << bit})
    assert getattr(parse_quote(one.quote(bench.REPORT_DATA)), name) is True


@pytest.mark.parametrize("padding", [1, 5006 - 4433, 8000 - 4433])
def test_zero_padding_is_counted_and_removed(padding: int) -> None:
    parsed = parse_quote(bench.raw_quote() + bytes(padding))
    assert parsed.raw == bench.raw_quote()
    assert parsed.padding == padding


@pytest.mark.parametrize("tail", [b"\x01", b"\x00\x01", bytes(100) + b"\xff"])
def test_other_bytes_after_the_quote_are_refused(tail: bytes) -> None:
    assert refusal(parse_quote, bench.raw_quote() + tail) == "quote"


def test_largest_quote_is_read_and_one_byte_more_is_not() -> None:
    padding = MAX_QUOTE_BYTES - len(bench.raw_quote())
    assert parse_quote(bench.raw_quote() + bytes(padding)).padding == padding
    assert refusal(parse_quote, bench.raw_quote() + bytes(padding + 1)) == "quote"


@pytest.mark.parametrize("version", [4, 5])
def test_every_truncation_is_refused(version: int) -> None:
    raw = bench.raw_quote(version)
    for size in range(len(raw)):
        with pytest.raises(MalformedError):
            parse_quote(raw[:size])


@pytest.mark.parametrize("version", [0, 1, 2, 3, 6, 0xFFFF])
def test_unknown_version_is_refused(version: int) -> None:
    assert refusal(parse_quote, with_field("<H", 0, version)) == "quote"


@pytest.mark.parametrize("key_type", [0, 1, 3, 4])
def test_other_kind_of_attestation_key_is_refused(key_type: int) -> None:
    assert refusal(parse_quote, with_field("<H", 2, key_type)) == "quote"


@pytest.mark.parametrize("tee", [0, 0x80, 0x82, 0x8100])
def test_other_tee_is_refused(tee: int) -> None:
    assert refusal(parse_quote, with_field("<I", 4, tee)) == "quote"


def test_other_vendor_is_refused() -> None:
    one = bench.changed(bench.platform(), writing={"vendor_id": bytes(16)})
    assert refusal(parse_quote, one.quote(bench.REPORT_DATA)) == "quote"


@pytest.mark.parametrize(("kind", "size"), [(1, 384), (2, 648), (3, 584), (4, 776), (0, 0)])
def test_version_5_body_of_another_type_or_size_is_refused(kind: int, size: int) -> None:
    data = bytearray(bench.raw_quote(5))
    struct.pack_into("<HI", data, 48, kind, size)
    assert refusal(parse_quote, bytes(data)) == "quote"


@pytest.mark.parametrize("offset", [V4_LENGTH, V4_OUTER_SIZE, V4_INNER_SIZE])
@pytest.mark.parametrize("delta", [-1, 1, 1 << 20])
def test_length_that_contradicts_the_others_is_refused(offset: int, delta: int) -> None:
    (value,) = struct.unpack_from("<I", bench.raw_quote(), offset)
    assert refusal(parse_quote, with_field("<I", offset, value + delta)) == "quote"


@pytest.mark.parametrize("delta", [-1, 1, 5000])
def test_authentication_data_of_another_length_is_refused(delta: int) -> None:
    assert refusal(parse_quote, with_field("<H", V4_AUTH_SIZE, 32 + delta)) == "quote"


def test_outer_certification_type_is_recorded() -> None:
    assert parse_quote(with_field("<H", V4_OUTER_TYPE, 7)).outer_type == 7
    assert bench.quote().outer_type == 6


def test_quote_with_another_kind_of_certificate_has_no_platform() -> None:
    parsed = parse_quote(with_field("<H", V4_INNER_TYPE, 3))
    assert parsed.pck is None
    assert parsed.cert_chain_pem == b""
    assert refusal(parsed.chain) == "pem"


def test_quote_with_an_unreadable_certificate_still_shows_its_measurements() -> None:
    data = bytearray(bench.raw_quote())
    data[V4_PEM + 40 : V4_PEM + 48] = b"AAAAAAAA"
    parsed = parse_quote(bytes(data))
    assert parsed.pck is None
    assert parsed.body == bench.quote().body


def test_quoting_enclave_report_is_read() -> None:
    qe = bench.quote().qe
    assert qe.isv_svn == bench.platform().machine.qe_isv_svn
    assert qe.auth_data == bytes(range(32))
    assert qe.binds(bench.quote().attestation_key)
    assert not qe.binds(bytes(64))


@pytest.mark.parametrize("size", [0, SIZE_10 - 1, SIZE_10 + 1, SIZE_15 - 1, SIZE_15 + 1])
def test_report_of_another_size_is_refused(size: int) -> None:
    assert refusal(parse_report, bytes(size)) == "quote"


def test_message_says_expected_and_seen() -> None:
    with pytest.raises(MalformedError) as caught:
        parse_quote(with_field("<H", 0, 9))
    assert (caught.value.expected, caught.value.observed) == ("4 or 5", "9")


@given(st.binary(max_size=2048))
def test_arbitrary_bytes_are_parsed_or_refused(data: bytes) -> None:
    assert bench.outcome(parse_quote, data) in ("accepted", "quote")


@given(st.data(), st.sampled_from([4, 5]))
def test_damaged_quote_is_parsed_or_refused(data: st.DataObject, version: int) -> None:
    raw = bytearray(bench.raw_quote(version))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    assert bench.outcome(parse_quote, bytes(raw)) in ("accepted", "quote")
