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
from attestation.lineage.context import LineageContext
from attestation.receipt.seal import parent_digest
from attestation.receipt.signing import sign_receipt
from gateway.notary.interface import SealedReceipt
from gateway.notary.local import LocalNotary
from gateway.notary.log.leaves import receipt_payload
from gateway.notary.log.segments import Kind, encode_record
from tests.notary.log.test_index import wait_until
from tests.notary.support import boot_of, claims_of, found_by
from tests.support.logs import leaves_of
from tests.support.notaries import ALICE, BOB, announcement, quiet_notary, sealed


@contextmanager
def opened(folder: Path) -> Iterator[sqlite3.Connection]:
    """The host's own connection to the index."""
    with closing(sqlite3.connect(folder / "data" / "index.sqlite", timeout=60)) as host:
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


async def parent_of_a_child(notary: LocalNotary, jti: str) -> Digest:
    """What the next receipt of Alice's signs when that id is declared as its parent."""
    lineage = LineageContext(txn="t", span="0" * 15 + "1", parents=(jti,))
    (parent,) = claims_of((await sealed(notary, lineage=lineage)).token).lineage.parents
    return parent.digest


async def test_parent_is_still_known_after_its_row_went_to_the_disk(tmp_path: Path) -> None:
    async with quiet_notary(tmp_path) as notary:
        mine = await sealed(notary)
        wait_indexed(notary)
        assert await parent_of_a_child(notary, mine.jti) == mine.digest


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE receipts SET digest = randomblob(32)",
        "UPDATE receipts SET digest = zeroblob(31)",
        "UPDATE receipts SET mark = x''",
        "UPDATE receipts SET mark = randomblob(16)",
        "UPDATE receipts SET (digest, mark) = (SELECT digest, mark FROM receipts WHERE id & 3 = 2)",
        "UPDATE receipts SET jti = randomblob(16)",
        "DELETE FROM receipts",
    ],
)
async def test_parent_in_an_altered_index_is_an_unknown_one(tmp_path: Path, change: str) -> None:
    async with quiet_notary(tmp_path) as notary:
        mine, other = await sealed(notary), await sealed(notary)
        assert (mine.index, other.index) == (1, 2)
        wait_indexed(notary)
        with opened(tmp_path) as host:
            host.execute(change)
        assert await parent_of_a_child(notary, mine.jti) == parent_digest(mine.jti, {})
        assert notary.healthy


async def test_parent_of_another_owner_is_unknown_whatever_the_index_says(tmp_path: Path) -> None:
    async with quiet_notary(tmp_path) as notary:
        theirs = await sealed(notary, BOB)
        wait_indexed(notary)
        with opened(tmp_path) as host:
            host.execute("UPDATE receipts SET sub = ?", (ALICE.value,))
        assert await parent_of_a_child(notary, theirs.jti) == parent_digest(theirs.jti, {})


async def test_parent_of_an_ended_boot_is_unknown_even_if_the_index_moves_it(
    tmp_path: Path,
) -> None:
    async with quiet_notary(tmp_path) as notary:
        earlier = await sealed(notary)
    async with quiet_notary(tmp_path) as notary:
        await sealed(notary)
        wait_indexed(notary)
        assert await parent_of_a_child(notary, earlier.jti) == parent_digest(earlier.jti, {})
        with opened(tmp_path) as host:
            now = host.execute("SELECT max(id) >> 40 FROM receipts").fetchone()[0]
            host.execute(
                "UPDATE receipts SET id = (? << 40) + 1000 WHERE jti = ?",
                (now, bytes.fromhex(earlier.jti)),
            )
        assert await parent_of_a_child(notary, earlier.jti) == parent_digest(earlier.jti, {})


@pytest.mark.parametrize("change", ["DELETE FROM receipts", "UPDATE receipts SET jti = ''"])
async def test_receipt_id_is_refused_again_whatever_became_of_its_row(
    tmp_path: Path, change: str
) -> None:
    async with quiet_notary(tmp_path) as notary:
        theirs = await sealed(notary, BOB)
        wait_indexed(notary)
        with opened(tmp_path) as host:
            host.execute(change)
        with pytest.raises(ValueError, match="twice"):
            notary.announce(announcement(theirs.jti, ALICE))


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
