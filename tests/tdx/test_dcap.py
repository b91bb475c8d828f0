"""The seam to dcap-qvl: what goes in, what comes out, and what happens when it misbehaves."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import dcap_qvl
import pytest

from attestation.errors import EvidenceError, UsageError
from attestation.tdx import dcap
from attestation.tdx.codes import POLICY_CODES, classify
from attestation.tdx.codes import refusal as as_refusal
from attestation.tdx.collateral import Collateral
from attestation.tdx.dcap import find_refusals, verify_quote
from attestation.tdx.quote import parse_quote
from tests.refusals import refusal
from tests.tdx import bench

LAST_INSTANT = 253_402_300_799
ROOT = bench.platform().anchor


def healthy_claims() -> dict[str, Any]:
    verifier = dcap_qvl.QuoteVerifier(ROOT.root_der)
    foreign = dcap_qvl.QuoteCollateralV3(
        **{name: getattr(bench.collateral(), name) for name in Collateral.__dataclass_fields__}
    )
    policy = dcap_qvl.QuotePolicy.claims_only(bench.NOW)
    claims = verifier.verify_with_policy(bench.raw_quote(), foreign, bench.NOW, policy)
    answer: dict[str, Any] = json.loads(claims.to_json())
    return answer


class Answering:
    """Stands in for dcap-qvl's verifier and does what the test wants."""

    def __init__(self, answer: Callable[[], str]) -> None:
        self._answer = answer

    def __call__(self, _root: bytes) -> Answering:
        return self

    def verify_with_policy(self, *_: object) -> Answering:
        return self

    def to_json(self) -> str:
        return self._answer()


def raising(error: BaseException) -> Callable[[], str]:
    def fail() -> str:
        raise error

    return fail


def code_with(monkeypatch: pytest.MonkeyPatch, answer: Callable[[], str]) -> str:
    monkeypatch.setattr(dcap_qvl, "QuoteVerifier", Answering(answer))
    return bench.code_of(bench.quote(), bench.collateral())


@pytest.mark.parametrize("at", [-1, LAST_INSTANT + 1, 1 << 63, 1 << 70])
def test_time_that_is_no_instant_is_a_usage_error(at: int) -> None:
    code = refusal(verify_quote, bench.quote(), bench.collateral(), at, ROOT, error=UsageError)
    assert code == "time"


@pytest.mark.parametrize(("at", "code"), [(0, "not_yet_valid"), (LAST_INSTANT, "expired")])
def test_first_and_last_instant_are_taken(at: int, code: str) -> None:
    assert bench.code_of(bench.quote(), bench.collateral(), at=at) == code
    with pytest.raises(EvidenceError, match=r"an instant from \d{4}-.* to \d{4}-.*; saw") as caught:
        verify_quote(bench.quote(), bench.collateral(), at, ROOT)
    assert caught.value.hint


def test_other_certification_type_is_refused() -> None:
    one = bench.changed(bench.platform(), writing={"outer_type": 5})
    assert bench.code_of(one.quote(bench.REPORT_DATA), bench.collateral()) == "malformed"


@pytest.mark.parametrize("inner_type", [1, 2, 3, 4, 6])
def test_quote_without_an_embedded_certificate_is_refused(inner_type: int) -> None:
    one = bench.changed(bench.platform(), writing={"inner_type": inner_type})
    assert bench.code_of(one.quote(bench.REPORT_DATA), bench.collateral()) == "malformed"


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("tcb_info_issuer_chain", "", "malformed"),
        ("root_ca_crl", b"", "malformed"),
        ("pck_crl", b"", "malformed"),
        ("tcb_info", "{}", "signature"),
    ],
)
def test_unusable_collateral_is_refused(name: str, value: object, code: str) -> None:
    broken = bench.altered(bench.collateral(), **{name: value})
    assert bench.code_of(bench.quote(), broken) == code


@pytest.mark.parametrize("pce_id", [b"", b"\x00", b"\x00\x00\x00", b"\x01\x00"])
def test_tcb_info_for_another_pce_is_refused(pce_id: bytes) -> None:
    assert bench.code_of(bench.quote(), bench.endorsed(pce_id=pce_id)) == "fmspc"


def test_pce_id_is_compared_without_regard_to_case() -> None:
    one = bench.changed(
        bench.platform(),
        machine={"pce_id": b"\xab\xcd"},
        endorsements={"pce_id": b"\xab\xcd"},
    )
    assert "ABCD" in one.collateral().tcb_info
    assert bench.verify(one).tcb_status == "UpToDate"


def test_signed_text_that_is_no_json_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dcap, "verify_collateral_signatures", lambda *_: None)
    for text, code in (("[]", "malformed"), ("x", "malformed"), ('{"pceId":0}', "fmspc")):
        broken = replace(bench.collateral(), tcb_info=text)
        assert bench.code_of(bench.quote(), broken) == code


def test_refusal_names_its_causes() -> None:
    collateral = bench.endorsed(revoked=frozenset({"pck"}))
    with pytest.raises(EvidenceError) as caught:
        verify_quote(bench.quote(), collateral, bench.NOW, ROOT)
    assert "CertRevoked" in caught.value.observed


def test_refusal_without_causes_keeps_its_own_text(monkeypatch: pytest.MonkeyPatch) -> None:
    assert code_with(monkeypatch, raising(ValueError("Fmspc mismatch"))) == "fmspc"


def test_unknown_refusal_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert code_with(monkeypatch, raising(ValueError("a new reason"))) == "other"


def test_panic_of_the_library_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    panic = type("PanicException", (BaseException,), {})
    assert code_with(monkeypatch, raising(panic("index out of bounds"))) == "other"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1), MemoryError()])
def test_what_is_not_the_librarys_passes_through(
    monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    with pytest.raises(type(error)):
        code_with(monkeypatch, raising(error))


def test_claims_as_they_are_today_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = json.dumps(healthy_claims())
    assert code_with(monkeypatch, lambda: answer) == "genuine"


@pytest.mark.parametrize(
    "path",
    [
        ("tcb",),
        ("tcb", "status"),
        ("tcb", "advisory_ids"),
        ("tcb", "eval_data_number"),
        ("qe", "tcb_eval_data_number"),
        ("platform", "tcb_level", "tcbDate"),
        ("platform", "pck", "fmspc"),
        ("platform", "pck", "ppid"),
        ("platform", "pck", "platform_instance_id"),
        ("platform", "pck", "sgx_type"),
        ("platform", "pck", "dynamic_platform"),
        ("platform", "pck", "cached_keys"),
        ("platform", "pck", "smt_enabled"),
        ("platform", "tcb_date_tag"),
        ("header", "version"),
        ("report",),
    ],
)
def test_claims_that_lack_something_are_refused(
    monkeypatch: pytest.MonkeyPatch, path: tuple[str, ...]
) -> None:
    claims = healthy_claims()
    inner = claims
    for name in path[:-1]:
        inner = inner[name]
    del inner[path[-1]]
    assert code_with(monkeypatch, lambda: json.dumps(claims)) == "other"


@pytest.mark.parametrize("answer", ["", "null", "[]", "{", '{"tcb":1}'])
def test_answer_in_another_form_is_refused(monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    assert code_with(monkeypatch, lambda: answer) == "other"


@pytest.mark.parametrize("reports", [{}, {"TD10": {}, "TD15": {}}])
def test_answer_about_no_report_or_two_is_refused(
    monkeypatch: pytest.MonkeyPatch, reports: dict[str, Any]
) -> None:
    claims = {**healthy_claims(), "report": reports}
    assert code_with(monkeypatch, lambda: json.dumps(claims)) == "other"


FIELDS = sorted(healthy_claims()["report"]["TD10"])


@pytest.mark.parametrize("name", FIELDS)
def test_field_that_two_parsers_read_differently_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    claims = healthy_claims()
    claims["report"]["TD10"][name] = "00" + claims["report"]["TD10"][name]
    assert code_with(monkeypatch, lambda: json.dumps(claims)) == "malformed"


@pytest.mark.parametrize(
    ("part", "name"), [("header", "version"), ("pck", "fmspc"), ("pck", "ppid")]
)
def test_platform_that_two_parsers_read_differently_is_refused(
    monkeypatch: pytest.MonkeyPatch, part: str, name: str
) -> None:
    claims = healthy_claims()
    inner = claims["header"] if part == "header" else claims["platform"]["pck"]
    inner[name] = 5 if name == "version" else [*inner[name][:-1], inner[name][-1] ^ 1]
    assert code_with(monkeypatch, lambda: json.dumps(claims)) == "malformed"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("platform_instance_id", None),
        ("platform_instance_id", [0] * 16),
        ("sgx_type", 0),
        ("sgx_type", "scalable"),
        ("dynamic_platform", "False"),
        ("cached_keys", "Undefined"),
        ("smt_enabled", "true"),
    ],
)
def test_kind_of_platform_that_two_parsers_read_differently_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: object
) -> None:
    claims = healthy_claims()
    claims["platform"]["pck"][name] = value
    assert code_with(monkeypatch, lambda: json.dumps(claims)) == "malformed"


@pytest.mark.parametrize("part", ["tcb", "qe"])
def test_number_that_two_parsers_read_differently_is_refused(
    monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    claims = healthy_claims()
    claims[part]["tcb_eval_data_number" if part == "qe" else "eval_data_number"] -= 1
    assert code_with(monkeypatch, lambda: json.dumps(claims)) == "malformed"


@pytest.mark.parametrize("tag", ["Infinity", "NaN", '"soon"', "[]"])
def test_date_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch, tag: str) -> None:
    claims = json.dumps(healthy_claims())
    date = str(healthy_claims()["platform"]["tcb_date_tag"])
    answer = claims.replace(f'"tcb_date_tag": {date}', f'"tcb_date_tag": {tag}')
    assert answer != claims
    assert code_with(monkeypatch, lambda: answer) == "other"


def test_platforms_of_a_single_package_are_read_alike() -> None:
    one = bench.changed(bench.platform(), machine={"single_package": True})
    pck = bench.verify(one).pck
    assert (pck.piid, pck.dynamic_platform, pck.cached_keys, pck.smt_enabled) == (None,) * 4


def test_refusals_of_forged_evidence_include_what_the_library_says() -> None:
    one = bench.changed(bench.platform(), endorsements={"tcb_expires": 9})
    forged = parse_quote(bench.flipped(one.quote(bench.REPORT_DATA), 300))
    found = find_refusals(forged, one.collateral(), bench.NOW + 10, ROOT)
    assert found == {"signature", "expired"}


def test_refusal_that_the_library_does_not_share_stands() -> None:
    found = find_refusals(bench.quote(), bench.endorsed(signer="pck"), bench.NOW, ROOT)
    assert found == {"signature"}


TEXTS = {
    "Debug mode is enabled": "debug",
    "QE report validation failed\n\nCaused by:\n    Debug mode is enabled": "qe",
    "SEPT_VE_DISABLE is not enabled": "sept_ve",
    "TD migration is enabled": "migratable",
    "TD profiling is enabled": "reserved_bits",
    "Reserved bits in TD attributes are set": "reserved_bits",
    "SERVTD_EXT is enabled": "service_td",
    "Invalid MR service TD": "service_td",
    "No matching TCB level found": "no_tcb_level",
    "TDX module TCB level check": "no_tcb_level",
    "Fmspc mismatch": "fmspc",
    "Failed to verify certificate chain\n\nCaused by:\n    CertRevoked": "revoked",
    "TCB status is invalid: Revoked": "revoked",
    "TCBInfo expired": "expired",
    "QE Identity expired": "expired",
    "CrlExpired { time: UnixTime(1), next_update: UnixTime(0) }": "expired",
    "Failed to verify certificate chain\n\nCaused by:\n    CertExpired { time: 1 }": "expired",
    "Collateral expired: earliest_expiration 1 < now 2": "expired",
    "certificate expired: verification time 2": "expired",
    "certificate revocation list expired: verification time 2": "expired",
    "TCBInfo issue date is in the future": "not_yet_valid",
    "QE Identity issue date is in the future": "not_yet_valid",
    "Failed to verify certificate chain: CertNotValidYet { time: 1 }": "not_yet_valid",
    "QE ISVSVN 3 is below minimum required 4 from QE Identity": "qe",
    "QE MRSIGNER mismatch: expected AA, got BB": "qe",
    "QE ISVPRODID mismatch: expected 2, got 1": "qe",
    "QE MISCSELECT mismatch: expected 0": "qe",
    "QE ATTRIBUTES mismatch at byte 0": "qe",
    "Invalid QE auth data length": "qe",
    "QE report hash mismatch": "qe",
    "TDX module MRSIGNER mismatch: expected 00": "module",
    "TDX module SEAMATTRIBUTES mismatch at byte 7": "module",
    "Failed to parse root CA CRL\n\nCaused by:\n    InvalidCrlSignatureForPublicKey": "root",
    "Failed to verify certificate chain\n\nCaused by:\n    UnknownIssuer": "root",
    "Failed to load root ca": "root",
    "Signature is invalid for tcb_info in quote_collateral": "signature",
    "ISV enclave report signature is invalid": "signature",
    "InvalidSignatureForPublicKey": "signature",
    "Unrecognized TCB status TDRelaunchAdvised in TCB Info": "malformed",
    "TDX module TCB level check\n\nCaused by:\n    Unrecognized TCB status X": "malformed",
    "Failed to decode TcbInfo": "malformed",
    "Failed to decode quote": "malformed",
    "Failed to parse PCK CRL": "malformed",
    "Unsupported DCAP attestation key type": "malformed",
    "Unknown QE vendor ID": "malformed",
    "Certificate chain is too short for TCB Info": "malformed",
    "MalformedExtensions": "malformed",
    "BadDer": "malformed",
    "TCB Info should be valid JSON": "malformed",
    "QE Identity signature must be valid hex": "malformed",
    "Empty PCK certificate chain": "malformed",
    "Invalid body size": "malformed",
    "TDX quote with non-TDX TCB info in the collateral": "malformed",
    "TDX TCB Info is missing tdxModule field": "malformed",
    "SGX component count mismatch: expected 16": "malformed",
    "Failed to verify certificate chain": "other",
    "": "other",
}


@pytest.mark.parametrize("text", TEXTS)
def test_text_of_the_library_has_its_code(text: str) -> None:
    assert classify(text) == classify(f"Verification failed: {text}") == TEXTS[text]


def test_policy_codes_are_those_of_genuine_evidence() -> None:
    assert {
        "expired", "not_yet_valid", "no_tcb_level", "debug", "sept_ve", "service_td",
        "migratable", "reserved_bits",
    } == POLICY_CODES  # fmt: skip
    assert {classify(text) for text in TEXTS} >= POLICY_CODES


def test_refusal_is_one_line_of_bounded_length() -> None:
    error = as_refusal("Verification failed: Fmspc mismatch\n\nCaused by:\n    " + "x" * 1000)
    assert error.code == "fmspc"
    assert error.observed.startswith("Fmspc mismatch Caused by: xxx")
    assert len(error.observed) == 400


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "CrlExpired { time: UnixTime(1795295528), next_update: UnixTime(0) }",
            "a revocation list that held until {0}, asked for at {1}",
        ),
        (
            "CertExpired { time: UnixTime(1795295528), not_after: UnixTime(0) }",
            "a certificate that held until {0}, asked for at {1}",
        ),
        (
            "CertNotValidYet { time: UnixTime(1795295528), not_before: UnixTime(0) }",
            "a certificate that holds from {0}, asked for at {1}",
        ),
        ("Other { time: UnixTime(0) }", "Other {{ time: {0} }}"),
    ],
)
def test_times_of_the_library_are_written_as_dates(text: str, words: str) -> None:
    dates = ("1970-01-01T00:00:00Z", "2026-11-21T21:12:08Z")
    assert as_refusal(text).observed == words.format(*dates)
    assert "UnixTime(12345678901)" in as_refusal("UnixTime(12345678901)").observed


@pytest.mark.parametrize("code", [*sorted(POLICY_CODES), "root", "fmspc"])
def test_frequent_refusals_say_what_to_do(code: str) -> None:
    (text, *_) = [text for text, known in TEXTS.items() if known == code]
    assert as_refusal(text).hint
    assert as_refusal("something else").hint == ""
