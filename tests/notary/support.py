"""What a notary left: its folder, the claims of a receipt, a receipt found again."""

from __future__ import annotations

from pathlib import Path

from attestation.encoding.digest import Digest
from attestation.receipt.claims import ReceiptClaims
from attestation.receipt.signing import parse_receipt
from gateway.notary.interface import Found
from gateway.notary.local import LocalNotary
from tests.support.logs import only_boot
from tests.support.notaries import ALICE


def boot_of(folder: Path) -> Path:
    """The folder of the only boot in `folder`/data."""
    return only_boot(folder / "data")


def claims_of(token: str | None) -> ReceiptClaims:
    assert token is not None
    return parse_receipt(token).claims


async def found_by(
    notary: LocalNotary, name: str, sub: Digest = ALICE, wait_seconds: float = 0.0
) -> Found:
    found = await notary.find(name, sub, wait_seconds=wait_seconds)
    assert found is not None
    return found
