"""The example's cases, on the quote that Intel hardware signed.  Needs the vectors."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.cli.main import main
from attestation.policy.cases import parse_cases
from tests.support.bundles import Gateway
from tests.verifier.test_intel_quote import EXAMPLES, QUOTE, THEN

Vectors = Callable[[str], Path]


def test_the_example_is_a_case_file() -> None:
    parsed = parse_cases((EXAMPLES / "policy-cases.toml").read_bytes())
    assert parsed.policy == "policy-intel-quote.toml"
    assert len(parsed.cases) == 5


def test_every_case_of_the_example_comes_to_what_it_expects(
    vectors: Vectors, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("policy-cases.toml", "policy-intel-quote.toml"):
        shutil.copy(EXAMPLES / name, tmp_path)
    sample = tmp_path / "dcap-qvl" / "sample"
    sample.mkdir(parents=True)
    shutil.copy(vectors("tdx") / QUOTE, sample / "tdx_quote")
    shutil.copy(vectors("tdx") / THEN, sample / "tdx_quote_collateral.json")
    root = Gateway().anchor.certificate.public_bytes(Encoding.PEM)
    (tmp_path / "other-root.pem").write_bytes(root)
    code = main(["policy", "test", str(tmp_path / "policy-cases.toml")])
    assert code == 0, capsys.readouterr().out
