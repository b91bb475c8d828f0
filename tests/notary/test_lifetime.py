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
from gateway.notary.local import LocalNotary
from tests.notary.support import boot_of, claims_of
from tests.support.logs import boot_folders, leaves_of, tokens_of
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
    claims = [claims_of(token) for token in tokens_of(boot_of(tmp_path))]
    ends = {one.jti: one.response for one in claims}
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
    assert len(leaves_of(boot_of(tmp_path))) == 1


async def test_notary_that_closes_after_its_keyset_ended_issues_nothing(tmp_path: Path) -> None:
    now = [float(int(time.time()))]
    parts = notary_parts(tmp_path, clock=Clock(wall=lambda: now[0]))
    notary = await LocalNotary.start(parts)
    notary.announce(announcement(new_jti()))
    now[0] = parts.plan.not_after
    await notary.close()
    assert len(leaves_of(boot_of(tmp_path))) == 1


async def test_restart_is_a_new_boot_and_leaves_old_files_as_they_were(tmp_path: Path) -> None:
    async with running_notary(tmp_path) as notary:
        await sealed(notary)
        old_boot = notary.boot
    (old,) = boot_folders(tmp_path / "data")
    before = {path: (path.lstat(), path.is_file() and path.read_bytes()) for path in old.rglob("*")}
    async with running_notary(tmp_path) as notary:
        assert notary.boot.keyset_digest != old_boot.keyset_digest
        assert notary.boot.log_origin != old_boot.log_origin
        await sealed(notary)
    assert {path: path.is_file() and path.read_bytes() for path in old.rglob("*")} == {
        path: content for path, (_, content) in before.items()
    }
    for path, (state, _) in before.items():
        assert path.lstat().st_mtime_ns == state.st_mtime_ns
    assert len(boot_folders(tmp_path / "data")) == 2


async def test_no_secret_of_the_boot_is_in_the_data_folder(tmp_path: Path) -> None:
    async with running_notary(tmp_path) as notary:
        receipt = await sealed(notary)
        drawn = notary._ledger._boot.drawn
        keys = [key.private_bytes_raw() for key in (drawn.receipt_key, drawn.log_key)]
        secrets_drawn = [*keys, drawn.commitment, *receipt.openings.keys.values()]
    files = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    data = b"".join(path.read_bytes() for path in files)
    for secret in secrets_drawn:
        assert secret not in data
        assert secret.hex().encode() not in data
        assert base64url.encode(secret).encode() not in data
    assert b"request" not in data.replace(b'"purpose"', b"")


async def test_data_folder_and_files_are_private(tmp_path: Path) -> None:
    async with running_notary(tmp_path) as notary:
        await sealed(notary)
    data = tmp_path / "data"
    assert data.stat().st_mode & 0o777 == 0o700
    for path in data.rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


async def test_data_folder_that_others_can_enter_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o755)
    with pytest.raises(UnavailableError) as refusal:
        await LocalNotary.start(notary_parts(tmp_path))
    assert "chmod 700" in str(refusal.value)
