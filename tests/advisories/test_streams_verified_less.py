"""nearai-cloud-verifier 1d64524: for streams, the signing address was never checked.

Lesson: plain answers and streams go through one verifier.  Whatever is wrong with a receipt is
found on both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attestation.encoding.digest import Digest
from attestation.receipt.signing import parse_receipt, sign_receipt
from attestation.result import Status
from tests.support.bundles import Exchanged, Gateway, failed

KEY = Ed25519PrivateKey.from_private_bytes(bytes([7]) * 32)
WAYS: dict[str, Callable[[Gateway], Exchanged]] = {"plain": Gateway.plain, "stream": Gateway.stream}
FAULTS: dict[str, dict[str, Any]] = {
    "RECEIPT-SIGNATURE": {},
    "RECEIPT-BINDING": {"keyset_digest": Digest.of(b"other keys")},
}


@pytest.fixture(params=WAYS)
def boot(request: pytest.FixtureRequest) -> Gateway:
    made = Gateway()
    WAYS[request.param](made)
    return made


def test_untouched_exchange_is_accepted(boot: Gateway) -> None:
    result = boot.verify()
    assert result.exit_code == 15
    passed = {check.id for check in result.checks if check.status is Status.PASS}
    assert {"RECEIPT-SIGNATURE", "RECEIPT-BINDING", "REQUEST-BODY", "RESPONSE-BODY"} <= passed


@pytest.mark.parametrize("fault", FAULTS)
def test_receipt_that_is_wrong_is_refused_in_either_form(boot: Gateway, fault: str) -> None:
    (exchanged,) = boot.exchanged
    key = KEY if fault == "RECEIPT-SIGNATURE" else boot.receipt_key
    claims = replace(exchanged.item.receipt.claims, **FAULTS[fault])
    token = sign_receipt(claims, key, boot.receipt_jwk.kid)
    item = replace(exchanged.item, receipt=parse_receipt(token))
    assert fault in failed(boot.verify(bundle=boot.bundle(receipts=[item])))


@pytest.mark.parametrize("part", ["request", "response"])
def test_changed_body_is_refused_in_either_form(boot: Gateway, part: str) -> None:
    (exchanged,) = boot.exchanged
    body = getattr(exchanged, part)
    for changed in (body + b" ", body[:-1], body.replace(b"{", b"[", 1)):
        known = exchanged.contents(**{part: changed})
        result = boot.verify(contents={exchanged.jti: known})
        assert failed(result) >= {f"{part.upper()}-BODY"}


def test_receipts_without_their_boot_stay_open_in_either_form(boot: Gateway) -> None:
    assert boot.verify(bundle=boot.bundle(boots=[], collateral=[])).exit_code == 12
