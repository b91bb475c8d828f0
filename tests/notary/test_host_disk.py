"""The disk is the host's: what it changes there opens no receipt to anybody else."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attestation.encoding.digest import Digest
from attestation.encoding.jwk import thumbprint
from attestation.errors import UnavailableError
from attestation.receipt.signing import sign_receipt
from gateway.notary.interface import SealedReceipt
from gateway.notary.local import LocalNotary
from gateway.notary.log.leaves import receipt_payload
from gateway.notary.log.segments import Kind, encode_record
from tests.notary.log.test_index import wait_until
from tests.notary.support import boot_of, claims_of, found_by
from tests.support.logs import leaves_of
from tests.support.notaries import ALICE, BOB, quiet_notary, sealed


@contextmanager
def opened(folder: Path) -> Iterator[sqlite3.Connection]:
    """The host's own connection to the index."""
    with closing(sqlite3.connect(folder / "data" / "index.sqlite", timeout=10)) as host:
        yield host
        host.commit()


def wait_indexed(notary: LocalNotary) -> None:
    """Return once the rows have left the notary's memory for the file."""
    index = notary._started.index
    wait_until(lambda: index.complete and not index._recent)


async def require_withheld(notary: LocalNotary, jti: str, sub: Digest) -> None:
    with pytest.raises(UnavailableError) as refusal:
        await notary.find(jti, sub)
    assert refusal.value.code == "log_unreadable"


async def test_index_that_points_at_a_strangers_receipt_opens_nothing(tmp_path: Path) -> None:
    async with quiet_notary(tmp_path) as notary:
        mine, theirs = await sealed(notary, ALICE), await sealed(notary, BOB)
        wait_indexed(notary)
        with opened(tmp_path) as host:
            host.execute(
                "UPDATE receipts SET (segment, offset, digest) ="
                " (SELECT segment, offset, digest FROM receipts WHERE jti = ?) WHERE jti = ?",
                (bytes.fromhex(theirs.jti), bytes.fromhex(mine.jti)),
            )
        await require_withheld(notary, mine.jti, ALICE)
        assert (await found_by(notary, theirs.jti, BOB)).token == theirs.token


async def test_index_that_names_another_owner_opens_nothing(tmp_path: Path) -> None:
    async with quiet_notary(tmp_path) as notary:
        theirs = await sealed(notary, BOB)
        wait_indexed(notary)
        with opened(tmp_path) as host:
            host.execute("UPDATE receipts SET sub = ?", (ALICE.value,))
        await require_withheld(notary, theirs.jti, ALICE)


async def test_record_that_this_boot_did_not_sign_opens_nothing(tmp_path: Path) -> None:
    """The openings follow from the id alone, so that a forged receipt under it would do."""
    async with quiet_notary(tmp_path) as notary:
        theirs = await sealed(notary, BOB)
        wait_indexed(notary)
        forge_owner(boot_of(tmp_path), theirs)
        with opened(tmp_path) as host:
            host.execute("UPDATE receipts SET sub = ?", (ALICE.value,))
        await require_withheld(notary, theirs.jti, ALICE)


@pytest.mark.parametrize("value", ["text", b"blob", None, -1, 1 << 40])
async def test_index_of_other_types_breaks_nothing(tmp_path: Path, value: object) -> None:
    async with quiet_notary(tmp_path) as notary:
        receipt = await sealed(notary)
        wait_indexed(notary)
        with opened(tmp_path) as host, suppress(sqlite3.IntegrityError):
            host.execute("UPDATE receipts SET segment = ?", (value,))
        with suppress(UnavailableError):
            assert (await found_by(notary, receipt.jti)).token == receipt.token


def forge_owner(folder: Path, receipt: SealedReceipt) -> None:
    """Put a receipt of Alice's with the same id in the place of Bob's, under a key of the host."""
    key = Ed25519PrivateKey.generate()
    claims = claims_of(receipt.token)
    object.__setattr__(claims, "subject", ALICE)
    token = sign_receipt(claims, key, thumbprint(key.public_key().public_bytes_raw()))
    (segment,) = (folder / "segments").iterdir()
    jti = bytes.fromhex(receipt.jti)
    old = encode_record(Kind.RECEIPT, receipt_payload(jti, BOB, receipt.token))
    new = encode_record(Kind.RECEIPT, receipt_payload(jti, ALICE, token))
    assert len(old) == len(new)
    content = segment.read_bytes()
    assert content.count(old) == 1
    segment.write_bytes(content.replace(old, new))
    assert leaves_of(folder)[receipt.index].payload.startswith(jti + ALICE.value)
