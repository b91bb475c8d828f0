"""Quotes that real hardware made: parsed, verified at their time, appraised a second time."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import dcap_qvl
import pytest

from attestation.errors import EvidenceError, MalformedError
from attestation.tdx.anchor import INTEL_ANCHOR
from attestation.tdx.collateral import Collateral, parse_collateral, parse_dcap_collateral
from attestation.tdx.dcap import POLICY_CODES, classify, find_refusals, own_checks, verify_quote
from attestation.tdx.quote import (
    Quote,
    canonical_quote,
    parse_quote,
    require_canonical_quote,
)
from tests import vectors_path
from tests.tdx import bench
from tests.tdx.second_opinion import appraise


def quote_entries() -> list[tuple[str, dict[str, Any]]]:
    folder = vectors_path.find("tdx")
    if folder is None:
        return []
    manifests = {
        path.parent.name: json.loads(path.read_text()) for path in folder.glob("*/manifest.json")
    }
    return [
        (f"{name}/{entry['file']}", entry)
        for name, manifest in sorted(manifests.items())
        for entry in manifest["entries"]
        if entry["kind"] == "quote"
    ]


ENTRIES = quote_entries()
VERDICTS = [(file, case) for file, entry in ENTRIES for case in entry.get("cases", [])]

# Each is a real quote whose one fault has a name of its own.
NAMED = {
    "confidential-containers-trustee/quote-12b401a8.bin": "debug",
    "confidential-containers-trustee/quote-a187b0da.bin": "sept_ve",
    "datachainlab-zkdcap/quote-94d26a4a.bin": "sept_ve",
    "automata-network-automata-dcap-attestation/quote-d0010db6.bin": "service_td",
    "Phala-Network-dcap-qvl/quote-4c453ea4.bin": "no_tcb_level",
}


def read(folder: Path, file: str) -> Quote:
    return parse_quote((folder / file).read_bytes())


def read_collateral(folder: Path, file: str) -> Collateral:
    return parse_dcap_collateral((folder / file).read_bytes())


@pytest.mark.parametrize(("file", "case"), VERDICTS or [("any", {})])
def test_verdict_on_a_real_quote_is_the_recorded_one(file: str, case: dict[str, Any]) -> None:
    folder = vectors_path.need("tdx")
    quote, collateral = read(folder, file), read_collateral(folder, case["collateral"])
    opinion = appraise(quote.raw, collateral, case["now_secs"])
    if case["expect"] == "ok":
        genuine = verify_quote(quote, collateral, case["now_secs"], INTEL_ANCHOR)
        assert genuine.tcb_status == case["status"] == opinion.status
        assert sorted(genuine.advisory_ids) == sorted(case["advisory_ids"])
        assert set(genuine.advisory_ids) == opinion.advisories
        assert genuine.holds.issued <= case["now_secs"] <= genuine.holds.until
        assert genuine.trust_domain == "intel"
        assert opinion.refusals == set()
    else:
        code = bench.code_of(quote, collateral, at=case["now_secs"], anchor=INTEL_ANCHOR)
        assert code == classify(case["error"])
        assert code in POLICY_CODES
        assert code in opinion.refusals
        found = find_refusals(quote, collateral, case["now_secs"], INTEL_ANCHOR)
        assert found <= opinion.refusals


@pytest.mark.parametrize("file", NAMED)
def test_real_quote_with_one_fault_is_refused_by_its_name(file: str) -> None:
    folder = vectors_path.need("tdx")
    (case, *_) = dict(ENTRIES)[file]["cases"]
    collateral = read_collateral(folder, case["collateral"])
    code = bench.code_of(read(folder, file), collateral, at=case["now_secs"], anchor=INTEL_ANCHOR)
    assert code == NAMED[file]


@pytest.mark.parametrize("file", [file for file, _ in ENTRIES] or ["any"])
def test_real_quote_is_read_as_another_parser_reads_it(file: str) -> None:
    folder = vectors_path.need("tdx")
    raw = (folder / file).read_bytes()
    ours, theirs = parse_quote(raw), dcap_qvl.parse_quote(raw)
    assert ours.body.mrtd == theirs.report.mr_td
    assert ours.body.rtmrs[3] == theirs.report.rt_mr3
    assert ours.body.report_data == theirs.report.report_data
    extension = theirs.pck_extension()
    assert (extension is None) == (ours.pck is None)
    if ours.pck is not None:
        assert ours.pck.fmspc == extension.fmspc
        assert ours.pck.ppid == extension.ppid
        assert ours.pck.piid == extension.platform_instance_id
        assert bytes(ours.pck.components) == extension.cpu_svn


@pytest.mark.parametrize("file", [file for file, _ in ENTRIES] or ["any"])
def test_real_quote_has_a_canonical_form_of_the_same_name(file: str) -> None:
    folder = vectors_path.need("tdx")
    quote = read(folder, file)
    if quote.pck is None:
        with pytest.raises(MalformedError):
            canonical_quote(quote.raw)
        return
    canonical = parse_quote(canonical_quote(quote.raw))
    assert canonical.digest == quote.digest
    assert own_checks(canonical) == own_checks(quote)
    outcome = bench.outcome(require_canonical_quote, canonical, INTEL_ANCHOR)
    assert outcome == ("root" if "cc-api" in file else "accepted")


def test_quote_under_intels_retired_test_root_is_refused() -> None:
    folder = vectors_path.need("tdx")
    quote = read(folder, "cc-api-cc-trusted-api/quote-3f49cfeb.bin")
    assert own_checks(quote).chain is True
    collateral = read_collateral(folder, "_collateral/90c06f000000-20260112-eval18-36dc00.json")
    with pytest.raises(EvidenceError) as caught:
        verify_quote(quote, collateral, 1_769_529_299, INTEL_ANCHOR)
    assert caught.value.code == "root"


def test_real_collateral_is_read_back_from_its_bundle_form() -> None:
    folder = vectors_path.need("tdx")
    files = sorted(folder.glob("_collateral/*eval*.json"))
    assert files
    for file in files:
        collateral = parse_dcap_collateral(file.read_bytes())
        assert parse_collateral(collateral.to_json()) == collateral


def test_real_signed_region_cannot_be_changed() -> None:
    folder = vectors_path.need("tdx")
    file, case = next((file, case) for file, case in VERDICTS if case["expect"] == "ok")
    quote, collateral = read(folder, file), read_collateral(folder, case["collateral"])
    for position in range(0, len(quote.signed_region), 5):
        data = bench.flipped(quote.raw, position)
        outcome = bench.outcome(parse_quote, data)
        if outcome == "accepted":
            outcome = bench.code_of(data, collateral, at=case["now_secs"], anchor=INTEL_ANCHOR)
        assert outcome in ("quote", "signature")


def test_real_quote_is_appraised_alike_with_the_endorsements_of_any_other() -> None:
    """Other platforms' endorsements, and those of other times: refused for a reason both see."""
    folder = vectors_path.need("tdx")
    quotes = [read(folder, file) for file, entry in ENTRIES if entry.get("cases")]
    seen: set[str] = set()
    for file in sorted(folder.glob("_collateral/*eval*.json")):
        collateral = parse_dcap_collateral(file.read_bytes())
        issued = json.loads(collateral.tcb_info)["issueDate"]
        at = int(dt.datetime.fromisoformat(issued).timestamp()) + 86_400
        for quote in quotes:
            opinion = appraise(quote.raw, collateral, at)
            found = find_refusals(quote, collateral, at, INTEL_ANCHOR)
            assert found <= opinion.refusals
            assert bool(found) is bool(opinion.refusals)
            if not found:
                genuine = verify_quote(quote, collateral, at, INTEL_ANCHOR)
                assert genuine.tcb_status == opinion.status
                assert set(genuine.advisory_ids) == opinion.advisories
                seen.add(genuine.tcb_status)
            seen |= found
    assert seen >= {"UpToDate", "fmspc", "no_tcb_level", "debug", "sept_ve", "service_td"}
