"""Stores as `--endorsements`: what somebody put into the folder and nobody signed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from attestation.cli.endorsement_files import load_sets
from attestation.cli.main import main
from attestation.errors import MalformedError
from attestation.tdx.collateral import Collateral, encode_dcap_collateral
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
        load_sets([str(store)], NOW)
    assert caught.value.code == "collateral_signature"
