"""What ends a boot, what a restart leaves alone, and what is in the data folder."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from attestation.encoding import base64url
from attestation.errors import UnavailableError
from attestation.receipt.claims import End
from gateway.errors import NotaryUnavailable
from gateway.notary.clock import Clock
from gateway.notary.journal import parse_records
from gateway.notary.local import LocalNotary
from tests.notary.support import claims_of, journal_of
from tests.support.notaries import (
    ALICE,
    announcement,
    new_jti,
    notary_parts,
    outcome,
    running_notary,
    sealed,
)


async def test_what_is_announced_at_shutdown_gets_a_gateway_failure(tmp_path: Path) -> None:
    ended: list[str] = []
    notary = await LocalNotary.start(notary_parts(tmp_path, on_end=ended.append))
    jtis = [new_jti() for _ in range(3)]
    for jti in jtis:
        notary.announce(announcement(jti))
    await notary.seal(outcome(jtis[1]))
    await notary.close()
    records = list(parse_records(journal_of(tmp_path).read_bytes()))[1:]
    ends = {
        claims_of(record.payload.decode()).jti: claims_of(record.payload.decode()).response
        for record in records
    }
    assert {jti: response.end for jti, response in ends.items()} == {
        jtis[0]: End.GATEWAY_FAILURE,
        jtis[1]: End.COMPLETE,
        jtis[2]: End.GATEWAY_FAILURE,
    }
    assert ends[jtis[0]].commitment is None
    assert ended == ["closed"]


async def test_closed_notary_answers_nothing(tmp_path: Path) -> None:
    notary = await LocalNotary.start(notary_parts(tmp_path))
    await notary.close()
    await notary.close()
    for call in (
        notary.seal(outcome(new_jti())),
        notary.find(new_jti(), ALICE),
        notary.challenge(bytes(32)),
    ):
        with pytest.raises(NotaryUnavailable):
            await call
    with pytest.raises(NotaryUnavailable):
        notary.announce(announcement(new_jti()))


async def test_boot_ends_when_its_keyset_does(tmp_path: Path) -> None:
    now = [float(int(time.time()))]
    parts = notary_parts(tmp_path, clock=Clock(wall=lambda: now[0]))
    notary = await LocalNotary.start(parts)
    notary.announce(announcement(new_jti()))
    now[0] = parts.plan.not_after
    with pytest.raises(NotaryUnavailable):
        notary.announce(announcement(new_jti()))
    assert notary.reason == "keyset_expired"
    await notary.close()


async def test_no_receipt_is_issued_after_the_keyset_ended(tmp_path: Path) -> None:
    now = [float(int(time.time()))]
    parts = notary_parts(tmp_path, clock=Clock(wall=lambda: now[0]))
    notary = await LocalNotary.start(parts)
    jtis = [new_jti(), new_jti()]
    for jti in jtis:
        notary.announce(announcement(jti))
    now[0] = parts.plan.not_after
    with pytest.raises(NotaryUnavailable):
        await notary.seal(outcome(jtis[0]))
    assert notary.reason == "keyset_expired"
    await notary.close()
    assert len(list(parse_records(journal_of(tmp_path).read_bytes()))) == 1


async def test_notary_that_closes_after_its_keyset_ended_issues_nothing(tmp_path: Path) -> None:
    now = [float(int(time.time()))]
    parts = notary_parts(tmp_path, clock=Clock(wall=lambda: now[0]))
    notary = await LocalNotary.start(parts)
    notary.announce(announcement(new_jti()))
    now[0] = parts.plan.not_after
    await notary.close()
    assert len(list(parse_records(journal_of(tmp_path).read_bytes()))) == 1


async def test_restart_is_a_new_boot_and_leaves_old_files_as_they_were(tmp_path: Path) -> None:
    async with running_notary(tmp_path) as notary:
        receipt = await sealed(notary)
        old_boot = notary.boot
    data = tmp_path / "data"
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in data.iterdir()}
    async with running_notary(tmp_path) as notary:
        assert notary.boot.keyset_digest != old_boot.keyset_digest
        assert notary.boot.log_origin != old_boot.log_origin
        assert await notary.find(receipt.jti, ALICE) is None
        await sealed(notary)
    for name, state in before.items():
        assert ((data / name).read_bytes(), (data / name).stat().st_mtime_ns) == state
    assert len(list(data.iterdir())) == 2 * len(before)


async def test_no_secret_of_the_boot_is_in_the_data_folder(tmp_path: Path) -> None:
    async with running_notary(tmp_path) as notary:
        receipt = await sealed(notary)
        drawn = notary._ledger._boot.drawn
        keys = [key.private_bytes_raw() for key in (drawn.receipt_key, drawn.log_key)]
        secrets_drawn = [*keys, notary._secret, *receipt.openings.keys.values()]
        data = b"".join(path.read_bytes() for path in (tmp_path / "data").iterdir())
        for secret in secrets_drawn:
            assert secret not in data
            assert secret.hex().encode() not in data
            assert base64url.encode(secret).encode() not in data
        assert b"request" not in data.replace(b'"purpose"', b"")


async def test_data_folder_and_files_are_private(tmp_path: Path) -> None:
    async with running_notary(tmp_path):
        data = tmp_path / "data"
        assert data.stat().st_mode & 0o777 == 0o700
        assert {path.stat().st_mode & 0o777 for path in data.iterdir()} == {0o600}


async def test_data_folder_that_others_can_enter_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o755)
    with pytest.raises(UnavailableError) as refusal:
        await LocalNotary.start(notary_parts(tmp_path))
    assert "chmod 700" in str(refusal.value)
