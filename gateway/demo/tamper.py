"""One changed byte, in each place where somebody might want one changed."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from attestation.encoding import base64url, jcs
from attestation.encoding.strict_json import parse_json_object
from attestation.errors import UsageError
from attestation.merkle.tlog_proof import parse_tlog_proof, render
from attestation.tdx.quote import parse_quote

if TYPE_CHECKING:
    from attestation.bundle import Bundle

_ISSUED = re.compile(rb'"iat":\d+')


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One changed byte: where it stands, what it was and what it is now."""

    where: str
    offset: int
    before: int
    after: int

    def __str__(self) -> str:
        return f"byte {self.offset} of {self.where}: {self.before:#04x} became {self.after:#04x}"


def change_answer(body: bytes) -> tuple[bytes, Change]:
    """The answer with one letter of its text changed, or one byte if it has no text."""
    found = re.search(rb'"content": ?"[^"]*?([b-y])', body)
    return _flipped(body, found.start(1) if found else len(body) // 2, "the answer")


def change_receipt(bundle: Bundle, jti: str) -> tuple[bytes, Change]:
    """The bundle with the last digit of one receipt's time changed, its signature kept."""
    index = next(at for at, item in enumerate(bundle.receipts) if item.jti == jti)
    jws = bundle.receipts[index].receipt.jws
    found = _ISSUED.search(jws.payload_bytes)
    if found is None:
        raise UsageError("the receipt states no time", code="demo")
    payload, change = _flipped(jws.payload_bytes, found.end() - 1, "the receipt's claims")
    header, _, signature = jws.token.split(".")
    document = _document(bundle)
    document["receipts"][index]["receipt"] = f"{header}.{base64url.encode(payload)}.{signature}"
    return jcs.canonicalize(document), change


def change_quote(bundle: Bundle) -> tuple[bytes, Change]:
    """The bundle with one bit of the measurement in its quote changed."""
    quote = bundle.boots[0].quote
    at = quote.index(parse_quote(quote).body.mrtd)
    changed, change = _flipped(quote, at, "the quote (its MRTD)")
    document = _document(bundle)
    document["boots"][0]["quote"] = base64url.encode(changed)
    return jcs.canonicalize(document), change


def change_epoch_quote(bundle: Bundle) -> tuple[bytes, Change]:
    """The bundle with one bit of what an epoch's quote reports about the log changed."""
    epoch = bundle.epochs[0]
    at = epoch.quote.index(epoch.statement.report_data)
    changed, change = _flipped(epoch.quote, at, "the epoch's quote (its REPORTDATA)")
    document = _document(bundle)
    document["epochs"][0]["quote"] = base64url.encode(changed)
    return jcs.canonicalize(document), change


def change_proof(bundle: Bundle, jti: str) -> tuple[bytes, Change]:
    """The bundle with one bit of the first hash of one receipt's inclusion proof changed."""
    index = next(at for at, item in enumerate(bundle.receipts) if item.jti == jti)
    proof = parse_tlog_proof(bundle.receipts[index].proof or "")
    node, change = _flipped(proof.path[0], 0, "the inclusion proof (its first hash)")
    document = _document(bundle)
    document["receipts"][index]["proof"] = render(replace(proof, path=(node, *proof.path[1:])))
    return jcs.canonicalize(document), change


def _flipped(data: bytes, at: int, where: str) -> tuple[bytes, Change]:
    changed = bytearray(data)
    # The lowest bit keeps a letter from b to y a letter, and a digit a digit.
    changed[at] ^= 1
    return bytes(changed), Change(where=where, offset=at, before=data[at], after=changed[at])


def _document(bundle: Bundle) -> dict[str, Any]:
    return parse_json_object(bundle.encode())
