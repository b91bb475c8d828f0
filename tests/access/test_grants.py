"""Grants with quotas: old files read on, digests cover every limit, nothing is guessed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.encoding.digest import Digest
from attestation.encoding.members import Members
from attestation.errors import MalformedError, UsageError
from gateway.access.grants import parse_budget, parse_grant, require_grant
from gateway.access.keyfile import add_key, load_keys, parse_keys
from gateway.access.principal import Grant, Period, Quota
from gateway.cli import main as cli

OLD = {"concurrency": 64, "expires": None, "models": ["*"], "routes": ["*"]}


def test_grant_without_quota_has_the_digest_it_always_had() -> None:
    assert Grant().to_json() == OLD
    # RFC 8785 form of OLD, as receipts of earlier versions have it.
    old = b'{"concurrency":64,"expires":null,"models":["*"],"routes":["*"]}'
    assert Grant().digest == Digest.of(old)


def test_file_without_quotas_reads_on() -> None:
    key = {"created": 1, "grant": OLD, "label": "", "revoked": None, "sub": "A" * 43}
    document = {"keys": [key], "schema": "attested-gateway/keys/v1"}
    (record,) = parse_keys(json.dumps(document).encode())
    assert record.grant == Grant()


def test_digest_covers_every_limit() -> None:
    quotas = [
        None,
        Quota(requests_per_minute=5),
        Quota(tokens_per_minute=5),
        Quota(token_budget=5),
        Quota(token_budget=5, budget_period=Period.DAY),
        Quota(token_budget=6),
    ]
    assert len({Grant(quota=quota).digest for quota in quotas}) == len(quotas)


limits = st.none() | st.integers(1, 100_000)


@given(limits, limits, limits, st.sampled_from(Period))
def test_quota_is_read_as_it_was_written(
    requests: int | None, tokens: int | None, budget: int | None, period: Period
) -> None:
    quota = Quota(
        requests_per_minute=requests,
        tokens_per_minute=tokens,
        token_budget=budget,
        budget_period=period if budget else Period.TOTAL,
    )
    grant = Grant(quota=None if quota == Quota() else quota)
    assert require_grant(grant) == grant


@pytest.mark.parametrize(
    "quota",
    [
        {},
        {"requests_per_minute": 0},
        {"requests_per_minute": 100_001},
        {"requests_per_minute": "5"},
        {"requests_per_minute": None},
        {"tokens_per_minute": 1.5},
        {"tokens_per_minute": -1},
        {"token_budget": 5},
        {"token_budget": 5, "budget_period": "week"},
        {"budget_period": "day"},
        {"requests_per_hour": 5},
        [],
        None,
    ],
)
def test_quota_that_is_not_understood_is_refused(quota: Any) -> None:
    with pytest.raises(MalformedError):
        parse_grant(Members({**OLD, "quota": quota}, "the grant"))


@pytest.mark.parametrize(
    ("text", "budget"),
    [("1", (1, Period.TOTAL)), ("100000/day", (100_000, Period.DAY))],
)
def test_budget_is_read_from_text(text: str, budget: tuple[int, Period]) -> None:
    assert parse_budget(text) == budget


@pytest.mark.parametrize("text", ["", "/day", "5/week", "-5", "1e6", "5 /day", "\u0665", "9" * 17])
def test_budget_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_budget(text)


def test_key_with_limits_is_made_listed_and_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "keys.json"
    limits = ["--requests-per-minute", "60", "--tokens-per-minute", "9000"]
    budget = ["--token-budget", "100000/day"]
    assert cli.main(["keys", "add", "--keys-file", str(path), *limits, *budget]) == 0
    assert cli.main(["keys", "add", "--keys-file", str(path), "--token-budget", "5"]) == 0
    one, two = load_keys(path)
    assert one.grant.quota == Quota(
        requests_per_minute=60,
        tokens_per_minute=9000,
        token_budget=100_000,
        budget_period=Period.DAY,
    )
    assert two.grant.quota == Quota(token_budget=5)
    capsys.readouterr()
    assert cli.main(["keys", "list", "--keys-file", str(path)]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert "token-budget=100000/day" in first
    assert "requests-per-minute=60 tokens-per-minute=9000" in first
    assert "token-budget=5 " in second
    assert cli.main(["keys", "list", "--keys-file", str(path), "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["keys"]
    assert listed[0]["grant"]["quota"]["budget_period"] == "day"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--requests-per-minute", "0"),
        ("--requests-per-minute", "100001"),
        ("--tokens-per-minute", "-1"),
        ("--token-budget", "0"),
        ("--token-budget", "much"),
    ],
)
def test_limits_out_of_bounds_make_no_key(
    tmp_path: Path, arguments: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "keys.json"
    assert cli.main(["keys", "add", "--keys-file", str(path), *arguments]) == 2
    assert not path.exists()
    assert capsys.readouterr().out == ""


def test_grant_that_cannot_be_written_is_not_added(tmp_path: Path) -> None:
    grant = Grant(quota=Quota())
    with pytest.raises(UsageError, match="limits nothing"):
        add_key(tmp_path / "keys.json", label="", grant=grant, now=1)
