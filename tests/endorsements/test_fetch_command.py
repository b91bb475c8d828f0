"""`attested endorsements fetch`: nothing unverified is stored, nothing stored twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from attestation.tdx.collateral import parse_dcap_collateral
from attestation.tdx.endorsements import parse_endorsements
from attestation.tdx.quote import parse_quote
from gateway.attester.simulated.facts import Endorsements
from gateway.cli.main import main
from tests import vectors_path
from tests.endorsements import pcs
from tests.endorsements.fetching import FMSPC, GOOD, PLATFORM, run, stored
from tests.endorsements.pcs import TCB, PcsDouble, serving


def test_fetched_set_is_stored_by_its_digest_and_only_once(
    double: PcsDouble, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    assert run(double, store) == 0
    assert stored(store) == [f"{GOOD.digest.hex}.json"]
    assert parse_dcap_collateral((store / stored(store)[0]).read_bytes()) == GOOD
    before = (store / stored(store)[0]).stat()
    assert run(double, store) == 0
    assert "unchanged" in capsys.readouterr().out
    after = (store / stored(store)[0]).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_older_set_than_a_stored_one_is_stored_and_reported(
    double: PcsDouble, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    facts = Endorsements(evaluation_number=21, qe_evaluation_number=21)
    newer = PLATFORM.but(endorsements=facts).collateral()
    double.sets = {FMSPC.upper(): newer}
    assert run(double, store) == 0
    double.sets = {FMSPC.upper(): GOOD}
    assert run(double, store) == 0
    assert newer.digest.hex in capsys.readouterr().err
    assert len(stored(store)) == 2
    assert run(double, store, "--fmspc", FMSPC, "--ca", "platform", "--json") == 0
    (one,) = json.loads(capsys.readouterr().out)["sets"]
    assert (one["stored"], one["newer"]) == (False, [newer.digest.hex])


def test_platform_is_read_out_of_a_quote_and_out_of_a_bundle(
    double: PcsDouble, tmp_path: Path
) -> None:
    from tests.support.bundles import Gateway  # noqa: PLC0415 - slow to make

    raw = tmp_path / "quote.bin"
    raw.write_bytes(PLATFORM.quote(bytes(64)))
    assert run(double, tmp_path / "a", "--quote", str(raw)) == 0
    bundle = tmp_path / "bundle.json"
    bundle.write_bytes(Gateway().bundle().encode())
    assert run(double, tmp_path / "b", "--bundle", str(bundle)) == 0
    assert stored(tmp_path / "a") == stored(tmp_path / "b")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--fmspc", "90c06f00000", "--ca", "platform"],
        ["--fmspc", "90c06f000000"],
        ["--fmspc", "90c06f000000", "--quote", "x"],
        ["--quote", "/absent"],
        ["--ca", "platform"],
        ["--fmspc", "90c06f000000", "--ca", "platform", "--timeout", "0"],
        ["--fmspc", "90c06f000000", "--ca", "platform", "--timeout", "3601"],
    ],
)
def test_question_that_makes_no_sense_asks_nobody(
    double: PcsDouble, tmp_path: Path, arguments: list[str]
) -> None:
    assert run(double, tmp_path / "store", *arguments) == 2
    assert double.asked == []


def test_quote_says_its_authority_itself(double: PcsDouble, tmp_path: Path) -> None:
    raw = tmp_path / "quote.bin"
    raw.write_bytes(PLATFORM.quote(bytes(64)))
    assert run(double, tmp_path / "s", "--quote", str(raw), "--ca", "processor") == 2
    raw.write_bytes(b"no quote")
    assert run(double, tmp_path / "s", "--quote", str(raw)) == 13


def test_bundle_without_quotes_has_no_platform(double: PcsDouble, tmp_path: Path) -> None:
    from attestation.bundle import Bundle  # noqa: PLC0415

    empty = tmp_path / "bundle.json"
    empty.write_bytes(Bundle().encode())
    assert run(double, tmp_path / "s", "--bundle", str(empty)) == 2


def test_store_that_cannot_be_made_is_unavailable(double: PcsDouble, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"")
    assert run(double, file) == 14


def test_service_that_is_away_is_unavailable(double: PcsDouble, tmp_path: Path) -> None:
    double.fail(TCB, pcs.status(404))
    assert run(double, tmp_path / "store") == 14


def matching_quote(folder: Path, file: str) -> tuple[Path, int] | None:
    """A real quote that a real set was recorded to accept, and when."""
    for manifest in sorted(folder.glob("*/manifest.json")):
        for entry in json.loads(manifest.read_bytes())["entries"]:
            for case in entry.get("cases", []):
                if case["collateral"] == file and case["expect"] == "ok":
                    return manifest.parent / entry["file"], case["now_secs"]
    return None


def real_sets() -> list[str]:
    folder = vectors_path.find("tdx")
    if folder is None:
        return []
    entries = json.loads((folder / "_collateral" / "manifest.json").read_bytes())["entries"]
    return [entry["file"] for entry in entries]


@pytest.mark.parametrize("file", real_sets() or ["any"])
def test_set_that_intel_signed_is_stored_byte_for_byte_and_its_quote_accepted(
    file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = vectors_path.need("tdx")
    real = parse_dcap_collateral((folder / file).read_bytes())
    one = parse_endorsements(real)
    raw, at = matching_quote(folder, file) or (None, one.whole.until)
    which = ["--quote", str(raw)] if raw else ["--fmspc", one.fmspc, "--ca", one.ca]
    store, out = tmp_path / "store", tmp_path / "set.json"
    with serving(real) as double:
        base = ["--from", double.url, "--store", str(store), "--at", str(at)]
        assert main(["endorsements", "fetch", *base, *which]) == 0
    assert stored(store) == [f"{real.digest.hex}.json"]
    assert main(["endorsements", "export", "--store", str(store), "-o", str(out)]) == 0
    theirs = json.loads((folder / file).read_bytes())
    ours = json.loads(out.read_bytes())
    assert {name: ours[name] for name in theirs} == theirs
    assert len(ours) == 9
    if raw is None:
        return
    capsys.readouterr()
    main(["quote", str(raw), "--collateral", str(out), "--at", str(at), "--json"])
    told = capsys.readouterr().out
    assert parse_quote(raw.read_bytes()).pck is not None
    assert '"QUOTE-GENUINE"' in told
    checks = json.loads(told)
    assert _genuine(checks) == "pass"


def _genuine(value: Any) -> str | None:
    if isinstance(value, dict):
        if value.get("id") == "QUOTE-GENUINE":
            return str(value["status"])
        value = list(value.values())
    if isinstance(value, list):
        return next((found for found in map(_genuine, value) if found), None)
    return None
