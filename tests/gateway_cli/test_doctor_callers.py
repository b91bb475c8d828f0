"""What `attested doctor` says of issuers and of token budgets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.access.budgets import SCHEMA
from gateway.cli import main as program
from tests.gateway_cli.doctors import config, doctor
from tests.support.tokens import AUDIENCE, ISSUER, Signer

ENGINE = "http://127.0.0.1:9"


def test_issuers_are_counted_and_stand_in_for_keys(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = config(tmp_path, ENGINE)
    (tmp_path / "keys.json").write_text('{"keys":[],"schema":"attested-gateway/keys/v1"}')
    _, found = doctor(*arguments, capsys=capsys)
    assert found["service.keys"]["level"] == "warn"
    assert "service.issuers" not in found
    (tmp_path / "issuer.json").write_text(json.dumps(Signer().jwks))
    with (tmp_path / "gateway.toml").open("a") as file:
        file.write(
            f'[[access.issuers]]\nissuer="{ISSUER}"\naudience="{AUDIENCE}"\n'
            f'jwks_file="issuer.json"\n[[access.rules]]\nissuer="{ISSUER}"\nmatch={{}}\n'
        )
    _, found = doctor(*arguments, capsys=capsys)
    assert found["service.keys"]["level"] == "ok"
    assert found["service.issuers"]["data"] == {"issuers": 1, "keys": 1, "rules": 1}


def test_key_set_that_cannot_be_read_ends_the_command_with_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = config(tmp_path, ENGINE)
    with (tmp_path / "gateway.toml").open("a") as file:
        file.write(f'[[access.issuers]]\nissuer="{ISSUER}"\naudience="x"\njwks_file="none.json"\n')
    for command in (["doctor"], ["config", "check"]):
        assert program.main([*command, *arguments]) == 2
        told = capsys.readouterr().err
        assert "expected a JWK Set" in told
        assert "No such file" in told
        assert "jwks_uri" in told


def test_damaged_file_of_budgets_fails_and_a_good_one_is_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = config(tmp_path, ENGINE)
    _, found = doctor(*arguments, capsys=capsys)
    assert "service.budgets" not in found
    kept = tmp_path / "data" / "budgets.json"
    budget = {"day": None, "spent": 5, "sub": "A" * 43}
    kept.write_text(json.dumps({"budgets": [budget], "schema": SCHEMA}))
    _, found = doctor(*arguments, capsys=capsys)
    assert found["service.budgets"]["data"] == {"budgets": 1}
    kept.write_text("{")
    code, found = doctor(*arguments, capsys=capsys)
    assert code == 14
    assert found["service.budgets"]["level"] == "fail"
    assert "backup" in found["service.budgets"]["todo"]
