"""Writing a session's record: one bundle, and beside it the bodies and nonces it commits to."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from attestation.errors import MalformedError, UsageError
from gateway.client.call import Ended

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from attestation.bundle import Bundle
    from attestation.receipt.signing import Receipt
    from gateway.client.call import Call

BUNDLE_NAME = "bundle.json"
BODIES_NAME = "bodies"


def write_record(folder: Path, bundle: Bundle, calls: Iterable[Call]) -> Path:
    """Write `bundle.json`, and `bodies/<jti>` with the endings request, nonce and response.

    Of the nonce, the text that was sent.  The response is written only where it was read to its
    end.  The folder may exist, none of
    the files may: `UsageError` otherwise.
    """
    bodies = folder / BODIES_NAME
    bodies.mkdir(mode=0o700, parents=True, exist_ok=True)
    for call in calls:
        receipt = receipt_of(call)
        if receipt is None:
            continue
        jti = receipt.claims.jti
        write_private(bodies / f"{jti}.request", call.request_body)
        write_private(bodies / f"{jti}.nonce", f"{call.nonce}\n".encode())
        if call.ended is Ended.COMPLETE:
            write_private(bodies / f"{jti}.response", call.response_body)
    return write_private(folder / BUNDLE_NAME, bundle.encode())


def receipt_of(call: Call) -> Receipt | None:
    """The call's receipt, None where none came or what came is none."""
    try:
        return call.parse_receipt()
    except MalformedError:
        return None


def write_private(path: Path, data: bytes) -> Path:
    """Write a new file that only its owner can read; `UsageError` if there is one already."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise UsageError(
            f"{path} exists already",
            code="exists",
            expected="a folder without an earlier record",
            hint="name another folder, or move the old record away",
        ) from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    return path
