"""What lies in the data folder opens nothing: no key, no salt, no secret, in no spelling."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from attestation.bundle import parse_bundle
from attestation.encoding import base64url
from attestation.encoding.digest import Digest
from attestation.receipt.outcome import Body
from gateway.notary.boot import BootSecrets
from gateway.notary.interface import ReceiptState
from gateway.notary.local import LocalNotary
from tests.support.files import contents
from tests.support.notaries import ALICE, notary_parts, sealed


def spellings(value: bytes) -> list[bytes]:
    """How bytes might stand in a file."""
    return [value, value.hex().encode(), base64url.encode(value).encode()]


async def test_data_folder_holds_no_secret_and_nothing_that_opens_a_commitment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boot = BootSecrets.draw()
    monkeypatch.setattr(BootSecrets, "draw", lambda: boot)
    prompt, answer = secrets.token_hex(20).encode(), secrets.token_hex(20).encode()
    notary = await LocalNotary.start(notary_parts(tmp_path))
    forbidden: list[bytes] = []
    receipt = None
    for _ in range(40):
        receipt = await sealed(
            notary,
            request=Body(digest=Digest.of(prompt), length=len(prompt)),
            response=Body(digest=Digest.of(answer), length=len(answer)),
        )
        forbidden += receipt.openings.keys.values()
    assert receipt is not None
    found = await notary.find(receipt.jti, ALICE, wait_seconds=20)
    assert found is not None
    assert found.state is ReceiptState.ANCHORED
    await notary.close()
    forbidden += [
        boot.commitment,
        boot.receipt_key.private_bytes_raw(),
        boot.log_key.private_bytes_raw(),
        # A plain digest of a body could be guessed at.
        Digest.of(prompt).value,
        Digest.of(answer).value,
    ]
    files = contents(tmp_path)
    kinds = {path.suffix or path.name for path in files}
    assert {".seg", ".json", "checkpoint", ".sqlite"} <= kinds
    everything = b"\n".join(files.values())
    assert receipt.token.encode() in everything
    for secret in forbidden:
        assert len(secret) >= 16
        for spelling in spellings(secret):
            assert spelling not in everything
    for body in (prompt, answer):
        assert body not in everything


async def test_boot_folder_is_all_that_an_auditor_needs(tmp_path: Path) -> None:
    notary = await LocalNotary.start(notary_parts(tmp_path))
    origin = notary.boot.log_origin
    await sealed(notary)
    await notary.close()
    inside = {
        path.relative_to(tmp_path / "data"): data for path, data in contents(tmp_path).items()
    }
    folder = Path(origin.rpartition("/")[2])
    assert {path.parts[0] for path in inside} == {folder.name, "index.sqlite"}
    assert {path.parts[1] for path in inside if path.parts[0] == folder.name} == {
        "boot.json",
        "log",
        "root.pem",
        "segments",
    }
    (boot,) = parse_bundle(inside[folder / "boot.json"]).boots
    assert boot.statement.log_origin == origin
