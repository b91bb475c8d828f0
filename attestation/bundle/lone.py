"""What people hold besides bundles: one receipt, as text or as the gateway's JSON answer."""

from __future__ import annotations

from attestation.bundle.model import Bundle, BundledReceipt
from attestation.bundle.parse import MAX_PROOF_CHARS, parse_bundle, parse_proof
from attestation.encoding.members import Members
from attestation.encoding.strict_json import JsonLimits, parse_json_object
from attestation.errors import MalformedError
from attestation.receipt.commitments import parse_openings
from attestation.receipt.signing import parse_receipt

_LONE_LIMITS = JsonLimits(max_bytes=1 << 20, max_depth=8, max_members=64)
# Names that a gateway's answer has no place for, not even inside its base64 texts.
_BUNDLE_MARKS = (b'"boots"', b'"schema"')
_ATTESTATION_MARK = b'"attested-gateway/attestation/v1"'
_STATES = ("sealed", "anchored", "unanchored-final")


def parse_evidence(data: bytes) -> Bundle:
    """Return the bundle in `data`, or one that holds nothing but the lone receipt in `data`.

    A lone receipt is the compact JWS as text (white space around it is ignored) or the JSON
    answer of `GET /v1/receipts/{id}`.  Raises `MalformedError`.
    """
    head = data.lstrip(b" \t\r\n")
    if not head:
        raise _unknown("the file is empty")
    if head.startswith(b"{"):
        if _ATTESTATION_MARK in data and _BUNDLE_MARKS[0] not in data:
            raise _unknown(
                "the file is a gateway's answer about its boot, not a bundle",
                hint="get the bundle with GET /v1/attestation?format=bundle",
            )
        is_bundle = any(mark in data for mark in _BUNDLE_MARKS)
        return parse_bundle(data) if is_bundle else _answer(data)
    if not head.isascii() or head.count(b".") != 2:
        raise _unknown(hint="for a quote use `attested quote FILE`")
    return Bundle(receipts=(BundledReceipt(receipt=parse_receipt(data.strip(b" \t\r\n"))),))


def _unknown(
    message: str = "the file is neither a bundle nor a receipt", *, hint: str = ""
) -> MalformedError:
    return MalformedError(
        message,
        code="unknown_file",
        expected="an audit bundle (JSON), a receipt (compact JWS) or a gateway's answer",
        hint=hint,
    )


def _answer(data: bytes) -> Bundle:
    if len(data) > _LONE_LIMITS.max_bytes:
        raise _unknown(
            hint="a bundle has the member boots, a gateway's answer is no larger than "
            f"{_LONE_LIMITS.max_bytes} bytes"
        )
    members = Members(parse_json_object(data, _LONE_LIMITS), "the file")
    if not members.has("receipt"):
        raise _unknown()
    receipt = parse_receipt(members.text("receipt", max_chars=4096))
    openings = proof = None
    if members.has("openings") and not members.is_null("openings"):
        openings = parse_openings(members.raw("openings"))
    if members.has("proof") and not members.is_null("proof"):
        proof = parse_proof(members.text("proof", max_chars=MAX_PROOF_CHARS), what="the file")
    if members.has("state"):
        members.text("state", choices=_STATES)
    members.close()
    return Bundle(receipts=(BundledReceipt(receipt=receipt, openings=openings, proof=proof),))
