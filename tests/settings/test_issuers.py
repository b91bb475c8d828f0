"""Issuers and rules in the settings: files become keys, keys are measured, mistakes are named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from attestation.errors import UsageError
from gateway.access.configured import load_key_store
from gateway.access.keyfile import add_key
from gateway.access.principal import Grant, Period, Principal, Quota, identity_of
from gateway.settings import Settings, load_settings
from tests.support.tokens import AUDIENCE, ISSUER, Signer, good_claims

SIGNER = Signer()
BASE = """
[upstream]
url = "http://127.0.0.1:8000"
[access]
keys_file = "keys.json"
[notary]
data_dir = "data"
[evidence]
provider = "simulated:"
"""
ISSUERS = f"""
[[access.issuers]]
issuer = "{ISSUER}"
audience = "{AUDIENCE}"
jwks_file = "issuer.json"
"""
RULES = f"""
[[access.rules]]
issuer = "{ISSUER}"
match = {{ sub = "agent-1" }}
label = "one"
models = ["m"]
concurrency = 2
requests_per_minute = 60
token_budget = "1000/day"
[[access.rules]]
issuer = "{ISSUER}"
match = {{}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "issuer.json").write_text(json.dumps(SIGNER.jwks))
    add_key(tmp_path / "keys.json", label="l", grant=Grant(), now=1)
    return tmp_path


def write(folder: Path, text: str) -> Path:
    path = folder / "gateway.toml"
    path.write_text(BASE + text)
    return path


def loaded(folder: Path, text: str = ISSUERS + RULES) -> Settings:
    return load_settings(write(folder, text)).settings


def refusal(folder: Path, text: str) -> str:
    with pytest.raises(UsageError) as caught:
        loaded(folder, text)
    return str(caught.value)


def test_keys_are_read_once_and_the_file_no_more(folder: Path) -> None:
    settings = loaded(folder)
    (folder / "issuer.json").unlink()
    # What the other processes are sent is all they need.
    sent = settings.model_dump(mode="json", exclude_unset=True)
    again = Settings.model_validate(json.loads(json.dumps(sent)))
    assert again.config_digest == settings.config_digest
    store = load_key_store(again)
    now = int(store.now())
    token = SIGNER.token(**good_claims(now))
    found = store.identify([(b"authorization", b"Bearer " + token)])
    assert isinstance(found, Principal)
    assert found.sub == identity_of(ISSUER, "agent-1")
    assert found.label == "one"
    assert found.grant == Grant(
        models=("m",),
        concurrency=2,
        quota=Quota(requests_per_minute=60, token_budget=1000, budget_period=Period.DAY),
    )
    other = SIGNER.token(**good_claims(now) | {"sub": "agent-2"})
    found = store.identify([(b"authorization", b"Bearer " + other)])
    assert isinstance(found, Principal)
    assert found.grant == Grant()


def test_keys_and_names_are_measured_and_rules_are_not(folder: Path) -> None:
    base = loaded(folder).config_digest
    assert loaded(folder, ISSUERS + RULES + 'models = ["x"]\n').config_digest == base
    for name, value in (("audience", '"other"'), ("issuer", '"https://x"'), ("jwks_file", None)):
        text = ISSUERS + RULES
        if value is None:
            (folder / "issuer.json").write_text(json.dumps(Signer().jwks))
        else:
            old = {"audience": f'"{AUDIENCE}"', "issuer": f'"{ISSUER}"'}[name]
            text = text.replace(old, value)
        assert loaded(folder, text).config_digest != base
        (folder / "issuer.json").write_text(json.dumps(SIGNER.jwks))
    for more in ('typ = "JWT"', "max_lifetime = 60", "leeway = 0"):
        assert loaded(folder, ISSUERS + more + "\n" + RULES).config_digest != base


def test_spelling_and_order_of_a_key_set_do_not_matter(folder: Path) -> None:
    two = Signer(alg="EdDSA", kid="a")
    (folder / "issuer.json").write_text(json.dumps({"keys": [SIGNER.jwk, two.jwk]}))
    base = loaded(folder).config_digest
    other = {"keys": [two.jwk | {"use": "sig", "x5t": "y"}, SIGNER.jwk], "more": 1}
    (folder / "issuer.json").write_text(json.dumps(other, indent=2))
    assert loaded(folder).config_digest == base


def test_keys_may_stand_in_the_settings_themselves(folder: Path) -> None:
    base = loaded(folder).config_digest
    inline = ISSUERS.replace('jwks_file = "issuer.json"', f"jwks = '{json.dumps(SIGNER.jwks)}'")
    assert loaded(folder, inline + RULES).config_digest == base


def test_unreadable_key_set_says_what_was_expected_and_what_to_do(folder: Path) -> None:
    (folder / "issuer.json").unlink()
    message = refusal(folder, ISSUERS + RULES)
    for words in ("access.issuers.0", "issuer.json", "JWK Set", "No such file", "jwks_uri"):
        assert words in message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"x" * ((1 << 20) + 1), "no JSON"),
        (b"{", "not JSON"),
        (b"[]", "not an object"),
        (b'{"keys":[]}', "1 to 64"),
        (b'{"keys":[],"keys":[]}', "twice"),
    ],
)
def test_file_that_is_no_key_set_is_named(folder: Path, content: bytes, words: str) -> None:
    (folder / "issuer.json").write_bytes(content)
    message = refusal(folder, ISSUERS + RULES)
    assert "access.issuers.0" in message
    assert words in message


def test_private_key_in_a_key_set_is_refused_without_being_quoted(folder: Path) -> None:
    (folder / "issuer.json").write_text(json.dumps({"keys": [SIGNER.jwk | {"d": "canary"}]}))
    message = refusal(folder, ISSUERS + RULES)
    assert "secret" in message
    assert "canary" not in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (ISSUERS, "an issuer has no rule"),
        (RULES, "not listed under [[access.issuers]]"),
        (ISSUERS + ISSUERS + RULES, "every issuer once"),
        (ISSUERS.replace("audience", "audiences") + RULES, "no such setting"),
        (ISSUERS.replace("audience", "audiences") + RULES, "did you mean access.issuers.audience?"),
        (ISSUERS + RULES + "\ngrant = 1\n", "an entry of access.rules takes concurrency"),
        (ISSUERS.replace("jwks_file", "jwks") + RULES, "jwks_file names a file"),
        (ISSUERS + 'typ = ""\n' + RULES, "typ"),
        (ISSUERS + "max_lifetime = 5\n" + RULES, "max_lifetime"),
        (ISSUERS + "leeway = 301\n" + RULES, "leeway"),
        (ISSUERS + 'jwks = "{}"\n' + RULES, "both jwks and jwks_file"),
        (ISSUERS + RULES.replace("match = {}", ""), "match: missing"),
        (ISSUERS + RULES.replace('"agent-1"', "1.5"), "match"),
        (ISSUERS + RULES.replace('"agent-1"', '["agent-1"]'), "match"),
        (ISSUERS + RULES.replace("concurrency = 2", "concurrency = 0"), "concurrency"),
        (ISSUERS + RULES.replace('"1000/day"', '"1000/week"'), "token budget"),
        (ISSUERS + RULES.replace('models = ["m"]', 'models = ["a b"]'), "models"),
    ],
)
def test_mistake_is_refused_by_name(folder: Path, text: str, words: str) -> None:
    assert words in refusal(folder, text)


def test_issuers_come_from_the_environment_too(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer: dict[str, Any] = {"issuer": ISSUER, "audience": AUDIENCE}
    issuer["jwks_file"] = str(folder / "issuer.json")
    monkeypatch.setenv("ATTESTED_ACCESS__ISSUERS", json.dumps([issuer]))
    assert loaded(folder, RULES).config_digest == loaded(folder, ISSUERS + RULES).config_digest
