"""Stores of endorsements: which files are sets, and that a file is the one its name says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.cli.endorsement_files import load_store
from attestation.errors import MalformedError
from attestation.tdx.collateral import encode_dcap_collateral
from attestation.tdx.endorsement_store import digest_in, parse_stored, stored_name
from attestation.tdx.endorsements import parse_endorsements
from gateway.attester.simulated.platform import SimulatedPlatform
from gateway.endorsements.store import EndorsementStore
from tests.refusals import refusal

GOOD = SimulatedPlatform(now=1_790_000_000, seed=b"stored").collateral()
DATA = encode_dcap_collateral(GOOD)


def test_set_is_read_from_the_file_of_its_digest() -> None:
    name = stored_name(GOOD.digest)
    assert digest_in(name) == GOOD.digest.hex
    assert parse_stored(DATA, GOOD.digest.hex) == parse_endorsements(GOOD)


def test_file_that_holds_another_set_than_its_name_says_is_malformed() -> None:
    assert refusal(parse_stored, DATA, "0" * 64) == "collateral_digest"


@pytest.mark.parametrize(
    "name", ["README", f"{'0' * 63}.json", f"{'A' * 64}.json", f".{'0' * 64}.json", f"{'0' * 64}"]
)
def test_other_names_are_no_sets(name: str) -> None:
    assert digest_in(name) is None


@given(st.binary(max_size=300))
def test_any_other_bytes_are_malformed(data: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_stored(data, GOOD.digest.hex)


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        json.dumps(GOOD.to_json()).encode(),
        encode_dcap_collateral(SimulatedPlatform(now=1_790_000_000, seed=b"other").collateral()),
    ],
    ids=["no JSON", "the spelling of bundles", "another set"],
)
def test_verifier_and_gateway_refuse_the_same_files(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / stored_name(GOOD.digest)
    path.write_bytes(DATA)
    assert load_store(str(tmp_path)) == [EndorsementStore(tmp_path).load(GOOD.digest.hex)]
    path.write_bytes(data)
    for read in (
        lambda: load_store(str(tmp_path)),
        lambda: EndorsementStore(tmp_path).load(path.stem),
    ):
        with pytest.raises(MalformedError) as caught:
            read()
        assert path.name in str(caught.value)
