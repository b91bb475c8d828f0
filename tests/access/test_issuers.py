"""Tokens of configured issuers: which caller they make, with which grant, and for how long."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from gateway.access import bearer
from gateway.access import issuers as issuers_module
from gateway.access.denials import refusal_of
from gateway.access.issuers import Denial, Issuer, Rule, TokenVerifier
from gateway.access.keyfile import add_key
from gateway.access.principal import Grant, Principal, Quota, identity_of, subject_of
from gateway.access.store import Clocks, KeyStore
from tests.support.tokens import ISSUER, NOW, PROFILE, Signer

SIGNER = Signer()
OTHER_ISSUER = "https://other.test"
OTHER = Signer(alg="EdDSA", kid="k1")


def rule(issuer: str = ISSUER, label: str = "", **changes: Any) -> Rule:
    grant = Grant(models=(label or "m",), **changes.pop("grant", {}))
    return Rule(issuer=issuer, claims=tuple(changes.items()), grant=grant, label=label)


@dataclass(slots=True, kw_only=True)
class Door:
    """A verifier and the clock it looks at."""

    rules: tuple[Rule, ...] = (rule(),)
    now: int = NOW
    leeway: int = 0
    verifier: TokenVerifier = field(init=False)

    def __post_init__(self) -> None:
        profile = replace(PROFILE, leeway=self.leeway)
        issuers = (
            Issuer(profile=profile, keys=SIGNER.keys),
            Issuer(profile=replace(profile, issuer=OTHER_ISSUER), keys=OTHER.keys),
        )
        self.verifier = TokenVerifier(issuers, self.rules, lambda: self.now)

    def caller(self, token: bytes) -> Principal:
        found = self.verifier.identify(token)
        assert isinstance(found, Principal), found
        return found

    def denial(self, token: bytes) -> Denial:
        found = self.verifier.identify(token)
        assert isinstance(found, Denial), found
        return found


def test_identity_is_the_labelled_hash_of_issuer_and_subject() -> None:
    name = ISSUER.encode()
    data = b"attested-gateway/jwt/v1/" + len(name).to_bytes(4, "big") + name + "agent-é".encode()
    assert identity_of(ISSUER, "agent-é").value == hashlib.sha256(data).digest()


def test_issuer_and_subject_cannot_be_cut_elsewhere_and_are_no_api_key() -> None:
    assert identity_of("ab", "c") != identity_of("a", "bc")
    assert identity_of("a", "b") != identity_of("b", "a")
    framed = b"\0\0\0\1ab"
    assert identity_of("a", "b") != subject_of(framed)


def test_renewed_token_is_the_same_caller() -> None:
    door = Door()
    first = door.caller(SIGNER.token(jti="1"))
    second = door.caller(SIGNER.token(jti="2", exp=NOW + 400))
    assert first.sub == second.sub == identity_of(ISSUER, "agent-1")
    assert door.caller(SIGNER.token(sub="agent-2")).sub != first.sub


def test_first_rule_that_fits_decides_the_grant() -> None:
    door = Door(
        rules=(
            rule(label="admin", sub="root"),
            rule(label="prod", env="prod", level=2),
            rule(label="team", groups="team-a"),
            rule(label="strict", flag=True),
            rule(OTHER_ISSUER, label="other"),
        )
    )

    def label(**claims: Any) -> str:
        found = door.verifier.identify(SIGNER.token(**claims))
        return found.label if isinstance(found, Principal) else str(found)

    assert label(sub="root", env="prod", level=2) == "admin"
    assert label(env="prod", level=2) == "prod"
    assert label(groups=["x", "team-a"]) == "team"
    assert label(flag=True) == "strict"
    for claims in (
        {},
        {"env": "prod"},
        {"env": "prod", "level": "2"},
        {"env": "prod", "level": True},
        {"env": "prod", "level": 2.0},
        {"flag": 1},
        {"groups": "team-a "},
        {"groups": ["team-ab"]},
        {"groups": {"team-a": True}},
        {"sub": "ROOT"},
    ):
        assert label(**claims) == Denial.NO_RULE


def test_rule_of_one_issuer_says_nothing_about_another() -> None:
    door = Door(rules=(rule(OTHER_ISSUER),))
    assert door.denial(SIGNER.token()) is Denial.NO_RULE
    token = OTHER.token(iss=OTHER_ISSUER)
    assert door.caller(token).sub == identity_of(OTHER_ISSUER, "agent-1")


def test_issuer_cannot_sign_for_another_even_under_the_same_kid() -> None:
    door = Door(rules=(rule(), rule(OTHER_ISSUER)))
    assert door.denial(OTHER.token()) is Denial.TOKEN
    assert door.denial(SIGNER.token(iss=OTHER_ISSUER)) is Denial.TOKEN
    assert door.denial(SIGNER.token(iss="https://third.test")) is Denial.TOKEN


def test_expiry_is_told_of_genuine_tokens_only() -> None:
    door = Door()
    assert door.denial(SIGNER.token(exp=NOW)) is Denial.EXPIRED
    assert door.denial(Signer().token(exp=NOW)) is Denial.TOKEN
    assert door.denial(SIGNER.token(exp=NOW, aud="other")) is Denial.TOKEN


def test_remembered_token_ends_when_it_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    door, token = Door(leeway=5), SIGNER.token(exp=NOW + 10)
    verified: list[int] = []

    def counted(*given: Any) -> None:
        verified.append(1)
        bearer.verify_bearer_token(*given)

    monkeypatch.setattr(issuers_module, "verify_bearer_token", counted)
    for _ in range(5):
        assert door.caller(token).sub == identity_of(ISSUER, "agent-1")
    assert len(verified) == 1
    door.now = NOW + 14
    door.caller(token)
    door.now = NOW + 15
    assert door.denial(token) is Denial.EXPIRED
    assert len(verified) == 2


def test_rules_grant_ends_remembered_tokens_too() -> None:
    door = Door(rules=(rule(grant={"expires": NOW + 5}),))
    token = SIGNER.token()
    door.caller(token)
    door.now = NOW + 5
    assert door.denial(token) is Denial.NO_RULE


def test_refused_tokens_are_not_remembered_and_accepted_ones_up_to_a_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(issuers_module, "_MAX_KEPT", 3)
    door = Door()
    for at in range(10):
        door.denial(SIGNER.token(aud=f"other-{at}"))
    assert len(door.verifier._kept) == 0
    tokens = [SIGNER.token(sub=f"agent-{at}") for at in range(5)]
    for token in tokens:
        door.caller(token)
    assert len(door.verifier._kept) == 3
    assert all(token not in repr(door.verifier._kept).encode() for token in tokens)
    door.caller(tokens[0])


# -- beside API keys -----------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class Desk:
    """A key store with an issuer, and its clock."""

    path: Path
    wall: float = NOW
    key: str = ""
    store: KeyStore = field(init=False)

    def __post_init__(self) -> None:
        self.key = add_key(self.path, label="l", grant=Grant(), now=NOW)
        self.store = KeyStore(
            self.path,
            Clocks(wall=lambda: self.wall, monotonic=lambda: 0.0),
            issuers=(Issuer(profile=PROFILE, keys=SIGNER.keys),),
            rules=(rule(grant={"quota": Quota(requests_per_minute=1)}),),
        )

    def ask(self, credential: bytes, name: bytes = b"authorization") -> Principal | Denial:
        value = credential if name == b"x-api-key" else b"Bearer " + credential
        return self.store.identify([(b"host", b"x"), (name, value)])


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(path=tmp_path / "keys.json")


def test_keys_and_tokens_are_told_apart_by_their_form(desk: Desk) -> None:
    token = SIGNER.token()
    for name in (b"authorization", b"x-api-key"):
        by_key, by_token = desk.ask(desk.key.encode(), name), desk.ask(token, name)
        assert isinstance(by_key, Principal)
        assert isinstance(by_token, Principal)
        assert by_key.sub == subject_of(desk.key.encode())
        assert by_token.sub == identity_of(ISSUER, "agent-1")
    assert desk.ask(b"a.b") is Denial.NO_KEY
    assert desk.ask(b"a.b.c") is Denial.TOKEN
    assert desk.ask(b"a.b.c.d") is Denial.NO_KEY
    assert desk.ask(token + b"x" * 9000) is Denial.TOKEN
    assert desk.ask(b"x" * 9000) is Denial.NO_KEY


def test_without_issuers_a_token_is_an_unknown_key(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    add_key(path, label="l", grant=Grant(), now=NOW)
    store = KeyStore(path, Clocks(wall=lambda: NOW, monotonic=lambda: 0.0))
    headers = [(b"authorization", b"Bearer " + SIGNER.token())]
    assert store.identify(headers) is Denial.NO_KEY
    assert store.authenticate(headers) is None


def test_clock_set_back_does_not_revive_a_token_or_a_key(desk: Desk) -> None:
    key = add_key(desk.path, label="short", grant=Grant(expires=NOW + 5), now=NOW).encode()
    desk.store = KeyStore(
        desk.path,
        Clocks(wall=lambda: desk.wall, monotonic=lambda: 0.0),
        issuers=(Issuer(profile=PROFILE, keys=SIGNER.keys),),
        rules=(rule(),),
    )
    token = SIGNER.token(exp=NOW + 5)
    assert isinstance(desk.ask(token), Principal)
    assert isinstance(desk.ask(key), Principal)
    desk.wall = NOW + 6
    assert desk.ask(token) is Denial.EXPIRED
    desk.wall = NOW
    assert desk.ask(token) is Denial.EXPIRED
    assert desk.ask(key) is Denial.NO_KEY


def test_tokens_are_let_in_while_the_keys_file_cannot_be_read(desk: Desk) -> None:
    desk.path.unlink()
    store = desk.store
    store._looked = -10.0
    assert not store.healthy
    assert desk.ask(desk.key.encode()) is Denial.NO_KEY
    assert isinstance(desk.ask(SIGNER.token()), Principal)


@pytest.mark.parametrize("denial", list(Denial))
def test_every_denial_has_an_answer_with_a_challenge(denial: Denial) -> None:
    refusal = refusal_of(denial)
    assert refusal.status == (403 if denial is Denial.NO_RULE else 401)
    challenge = dict(refusal.headers)[b"www-authenticate"]
    assert challenge.startswith(b"Bearer")
    assert (b"invalid_token" in challenge) is (denial in (Denial.TOKEN, Denial.EXPIRED))
