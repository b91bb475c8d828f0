"""Stores as `--endorsements`: what somebody put into the folder and nobody signed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from attestation.bundle import parse_bundle
from attestation.bundle.endorse import fmspc_of
from attestation.cli.endorsement_files import load_sets
from attestation.cli.main import main
from attestation.errors import MalformedError
from attestation.tdx.collateral import Collateral, encode_dcap_collateral
from gateway.attester.simulated.facts import Endorsements
from gateway.attester.simulated.platform import SimulatedPlatform
from tests.cli.support import Folder
from tests.support.bundles import NOW

AT = ["--at", str(NOW + 60)]


def keep(store: Path, one: Collateral) -> None:
    store.mkdir(exist_ok=True)
    (store / f"{one.digest.hex}.json").write_bytes(encode_dcap_collateral(one))


def test_altered_set_is_named_and_not_taken_for_the_newest(
    folder: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "kept"
    good = folder.gateway.machine.collateral()
    told = '"tcbEvaluationDataNumber":'
    altered = replace(good, tcb_info=good.tcb_info.replace(f"{told}20", f"{told}99"))
    assert altered != good
    keep(store, good)
    grounds = ["--policy", folder["policy.toml"], "--root", folder["root.pem"], *AT]
    verify = ["verify", folder["bundle.json"], *grounds, "--endorsements", str(store)]
    assert main(verify) == 15
    keep(store, altered)
    capsys.readouterr()
    assert main(verify) == 13
    assert altered.digest.hex in capsys.readouterr().err
    with pytest.raises(MalformedError) as caught:
        load_sets([str(store)], NOW, [folder.gateway.anchor])
    assert caught.value.code == "collateral_signature"


def planted(number: int) -> Collateral:
    """A set for the same platforms with a high number, under somebody else's root."""
    facts = Endorsements(evaluation_number=number, qe_evaluation_number=number)
    return SimulatedPlatform(now=NOW, seed=b"somebody", endorsements=facts).collateral()


def test_newer_set_under_another_root_is_passed_over_and_said(
    folder: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "kept"
    grounds = ["--policy", folder["policy.toml"], "--root", folder["root.pem"], *AT]
    verify = ["verify", folder["bundle.json"], *grounds, "--endorsements", str(store)]
    foreign = planted(99)
    keep(store, foreign)
    assert main(verify) == 15
    told = capsys.readouterr().err
    assert told.count(foreign.digest.hex) == 1
    assert "none left" in told
    good = folder.gateway.machine.collateral()
    assert fmspc_of(foreign) == fmspc_of(good)
    keep(store, good)
    assert main(verify) == 15
    assert "1 left" in capsys.readouterr().err
    assert load_sets([str(store)], NOW, [folder.gateway.anchor]) == [good]
    for number in range(90, 93):
        keep(store, planted(number))
    assert main(verify) == 15
    assert "and 1 more; 1 left" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["verify", "quote"])
def test_store_without_a_set_is_refused_and_not_passed_over(
    folder: Folder, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = folder.path / "nothing-fetched"
    empty.mkdir()
    (empty / "README").write_text("not a set")
    option = {"verify": "--endorsements", "quote": "--collateral"}[command]
    assert main([command, folder["bundle.json"], option, str(empty)]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "no endorsements in" in shown.err
    assert "endorsements fetch" in shown.err


def test_merging_takes_no_set_of_a_store_that_is_under_another_root_than_the_quotes(
    folder: Folder, tmp_path: Path
) -> None:
    store, out = tmp_path / "kept", tmp_path / "out.json"
    good = folder.gateway.machine.collateral()
    keep(store, planted(99))
    keep(store, good)
    merge = ["bundle", folder["bundle.json"], "--endorsements", str(store), "-o", str(out)]
    assert main(merge) == 0
    assert set(parse_bundle(out.read_bytes()).collateral) == {good.digest}


def test_quote_is_judged_by_the_set_of_a_store_for_its_platform(
    folder: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, machine = tmp_path / "kept", folder.gateway.machine
    other = replace(machine.endorsements, fmspc=b"\xff\xfe\xfd\0\0\1", evaluation_number=30)
    strange = machine.but(endorsements=other).collateral()
    keep(store, strange)
    quote = folder.write("quote", machine.quote(bytes(64)))
    policy = folder.write(
        "pinned.toml", folder.gateway.policy_toml(rtmr3=f'"{"00" * 48}"').encode()
    )
    grounds = ["--policy", policy, "--root", folder["root.pem"], *AT]
    # None of the store is for this platform: that says nothing against the quote.
    assert main(["quote", quote, "--collateral", str(store), *grounds]) == 12
    assert "no set in the folder of --collateral is for this quote" in capsys.readouterr().err
    # A file was meant, whichever platform it is for.
    file = folder.write("strange.json", encode_dcap_collateral(strange))
    assert main(["quote", quote, "--collateral", file, *grounds]) == 10
    keep(store, machine.collateral())
    assert main(["quote", quote, "--collateral", str(store), *grounds]) == 15
    assert capsys.readouterr().err == ""
    bad = folder.write("bad", b"no quote")
    assert main(["quote", bad, "--collateral", str(store), *grounds]) == 13
