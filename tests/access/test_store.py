"""Authentication: which headers name a caller, and when a change of the file counts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import MalformedError
from gateway.access.keyfile import add_key, revoke_key
from gateway.access.principal import Grant, Principal, subject_of
from gateway.access.slots import RefusalBudget, Slots
from gateway.access.store import Clocks, KeyStore

NOW = 1_800_000_000


@dataclass
class Time:
    """Both clocks, moved by hand."""

    wall: float = NOW
    monotonic: float = 0.0

    @property
    def clocks(self) -> Clocks:
        return Clocks(wall=lambda: self.wall, monotonic=lambda: self.monotonic)


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def add(path: Path, **grant: Any) -> str:
    return add_key(path, label="l", grant=Grant(**grant), now=NOW)


def bearer(key: str) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"x"), (b"authorization", b"Bearer " + key.encode())]


def test_bearer_and_x_api_key_name_the_caller(path: Path, time: Time) -> None:
    key = add(path, models=("m",))
    store = KeyStore(path, time.clocks)
    for headers in (
        bearer(key),
        [(b"authorization", b"bearer  " + key.encode())],
        [(b"x-api-key", key.encode())],
        [(b"x-api-key", key.encode()), (b"authorization", b"Bearer " + key.encode())],
    ):
        principal = store.authenticate(headers)
        assert principal is not None
        assert principal.sub == subject_of(key.encode())
        assert principal.grant_digest == Grant(models=("m",)).digest


def test_nothing_else_names_a_caller(path: Path, time: Time) -> None:
    key = add(path).encode()
    other = add(path).encode()
    store = KeyStore(path, time.clocks)
    for headers in (
        [],
        [(b"authorization", key)],
        [(b"authorization", b"Basic " + key)],
        [(b"authorization", b"Bearer")],
        [(b"authorization", b"Bearer ")],
        [(b"authorization", b"Bearer " + key[:-1])],
        [(b"authorization", b"Bearer " + key + b"x")],
        [(b"authorization", b"Bearer " + key.upper())],
        [(b"authorization", b"Bearer " + subject_of(key).base64url.encode())],
        [(b"x-api-key", b"")],
        [(b"x-api-key", b"a" * 257)],
        [(b"x-api-key", b"\xff\xfe")],
        [(b"x-api-key", key), (b"x-api-key", key)],
        [(b"authorization", b"Bearer " + key), (b"authorization", b"Bearer " + key)],
        [(b"x-api-key", other), (b"authorization", b"Bearer " + key)],
        [(b"x-api-key", key), (b"authorization", b"Basic " + key)],
        [(b"cookie", key)],
    ):
        assert store.authenticate(headers) is None


@given(st.binary(max_size=60))
def test_random_keys_are_nobody(tmp_path_factory: pytest.TempPathFactory, value: bytes) -> None:
    path = tmp_path_factory.mktemp("keys") / "keys.json"
    add(path)
    assert KeyStore(path, Time().clocks).authenticate([(b"x-api-key", value)]) is None


def test_key_ends_at_its_expiry(path: Path, time: Time) -> None:
    key = add(path, expires=NOW + 10)
    store = KeyStore(path, time.clocks)
    time.wall = NOW + 9.9
    assert store.authenticate(bearer(key)) is not None
    time.wall = NOW + 10
    assert store.authenticate(bearer(key)) is None


def test_revocation_counts_within_a_second_without_restart(path: Path, time: Time) -> None:
    key = add(path)
    store = KeyStore(path, time.clocks)
    assert store.authenticate(bearer(key)) is not None
    revoke_key(path, name="l", now=NOW)
    time.monotonic += 1.0
    assert store.authenticate(bearer(key)) is None


def test_new_key_and_removed_file_count_within_a_second(path: Path, time: Time) -> None:
    add(path)
    store = KeyStore(path, time.clocks)
    key = add(path)
    time.monotonic += 1.0
    assert store.authenticate(bearer(key)) is not None
    path.unlink()
    time.monotonic += 1.0
    assert store.authenticate(bearer(key)) is None
    assert (store.healthy, store.reason) == (False, "keys_file")


def test_file_that_stops_parsing_lets_nobody_in_until_it_parses_again(
    path: Path, time: Time
) -> None:
    key = add(path)
    good = path.read_bytes()
    store = KeyStore(path, time.clocks)
    path.write_bytes(good[:-3])
    time.monotonic += 1.0
    assert store.authenticate(bearer(key)) is None
    assert not store.healthy
    path.write_bytes(good)
    time.monotonic += 1.0
    assert store.authenticate(bearer(key)) is not None
    assert store.healthy


def test_store_does_not_start_on_a_bad_file(path: Path, time: Time) -> None:
    path.write_text("{}")
    path.chmod(0o600)
    with pytest.raises(MalformedError):
        KeyStore(path, time.clocks)


def principal(concurrency: int) -> Principal:
    grant = Grant(concurrency=concurrency)
    return Principal(sub=subject_of(b"k"), grant=grant, label="")


def test_slots_are_as_many_as_the_grant_says() -> None:
    slots, caller = Slots(), principal(2)
    assert [slots.acquire(caller) for _ in range(3)] == [True, True, False]
    slots.release(caller)
    assert slots.acquire(caller)
    slots.release(caller)
    slots.release(caller)
    assert slots.running(caller.sub) == 0
    with pytest.raises(ValueError, match="nobody holds"):
        slots.release(caller)


def test_slots_of_one_key_do_not_take_anothers() -> None:
    slots, caller = Slots(), principal(1)
    other = Principal(sub=subject_of(b"o"), grant=caller.grant, label="")
    assert slots.acquire(caller)
    assert slots.acquire(other)


def test_refusals_above_the_rate_get_no_receipt_and_come_back_with_time() -> None:
    now = [0.0]
    budget = RefusalBudget(per_second=2.0, clock=lambda: now[0])
    sub, other = subject_of(b"k"), subject_of(b"o")
    for _ in range(4):
        assert not budget.spent(sub)
        budget.charge(sub)
    assert budget.spent(sub)
    assert not budget.spent(other)
    now[0] = 0.5
    assert not budget.spent(sub)
    budget.charge(sub)
    assert budget.spent(sub)
