"""Settings of a notary apart: whole or not at all, and outside `config_digest`."""

from __future__ import annotations

from pathlib import Path

import pytest

from attestation.errors import UsageError
from gateway.cli import main as program
from gateway.processes.users import require_two_users
from gateway.settings import Settings, load_settings

APART = {
    "notary.socket": "/run/attested-notary/notary.sock",
    "notary.user": "attested-notary",
    "notary.gateway_user": "attested-gateway",
    "access.budgets_file": "/var/lib/attested-gateway/budgets.json",
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "gateway.toml"
    path.write_text(
        '[upstream]\nurl = "http://127.0.0.1:8000"\n[access]\nkeys_file = "keys.json"\n'
        '[notary]\ndata_dir = "/var/lib/attested"\n[evidence]\nprovider = "simulated:"\n'
    )
    return path


def settings(file: Path, flags: dict[str, str]) -> Settings:
    return load_settings(file, flags).settings


def test_notary_is_no_process_apart_unless_a_user_is_named(file: Path) -> None:
    assert not settings(file, {}).notary.apart
    assert not settings(file, {"notary.socket": "/run/n/notary.sock"}).notary.apart
    assert settings(file, APART).notary.apart


def test_who_runs_the_notary_and_where_changes_no_digest(file: Path) -> None:
    assert settings(file, APART).config_digest == settings(file, {}).config_digest


@pytest.mark.parametrize(
    ("missing", "told"),
    [
        ("notary.socket", "set notary.socket"),
        ("notary.user", "both of user and gateway_user"),
        ("notary.gateway_user", "both of user and gateway_user"),
        ("access.budgets_file", "access.budgets_file"),
    ],
)
def test_part_of_the_settings_of_a_notary_apart_is_refused(
    file: Path, missing: str, told: str
) -> None:
    with pytest.raises(UsageError, match=told):
        settings(file, {name: value for name, value in APART.items() if name != missing})


def test_notary_apart_has_no_place_in_one_process(file: Path) -> None:
    with pytest.raises(UsageError, match="set workers to 1 or more"):
        settings(file, APART | {"workers": "0"})


@pytest.mark.parametrize("name", ["", "a b", "../x", "-x", "x" * 33])
def test_name_that_no_user_has_is_refused(file: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"notary\.user"):
        settings(file, APART | {"notary.user": name})


@pytest.mark.parametrize(
    ("user", "gateway"), [("root", "root"), ("root", "0"), ("0", "00"), ("nobody-here",) * 2]
)
def test_notary_and_gateway_of_one_user_are_refused(
    file: Path, user: str, gateway: str, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = APART | {"notary.user": user, "notary.gateway_user": gateway}
    assigned = [part for pair in flags.items() for part in ("--set", "=".join(pair))]
    arguments = ["--config", str(file), *assigned]
    for command in (["config", "check"], ["notary"], ["serve"]):
        assert program.main([*command, *arguments]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert "notary.user and notary.gateway_user of different users" in said.err
        assert f"{user} " in said.err
        assert "hint" in said.err


@pytest.mark.parametrize(("user", "gateway"), [("root", "1"), ("root", "nobody-here"), ("a", "b")])
def test_two_users_are_accepted_known_here_or_not(file: Path, user: str, gateway: str) -> None:
    flags = APART | {"notary.user": user, "notary.gateway_user": gateway}
    require_two_users(settings(file, flags).notary)


def test_settings_without_a_notary_apart_name_no_users(file: Path) -> None:
    require_two_users(settings(file, {}).notary)


def test_budgets_are_kept_where_the_settings_say_relative_to_their_file(file: Path) -> None:
    text = file.read_text().replace("[notary]", 'budgets_file = "kept/budgets.json"\n[notary]')
    file.write_text(text)
    assert settings(file, {}).access.budgets_file == file.parent / "kept" / "budgets.json"
