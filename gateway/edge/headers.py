"""What the gateway reads of a request's head; nothing else of it is looked at or forwarded."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from attestation.encoding.making import maker_of
from attestation.errors import MalformedError
from attestation.lineage.context import LineageContext, lineage_from_headers
from attestation.receipt.text import CONTENT_TYPE, NONCE, fitting
from gateway.edge.errors import Refusal
from gateway.edge.ids import Draw, drawn

if TYPE_CHECKING:
    from collections.abc import Iterable

_JSON_TYPE: Final = re.compile(
    rb'application/json[ \t]*(?:;[ \t]*charset=(?:utf-8|"utf-8")[ \t]*)?', re.IGNORECASE
)
_TRACE: Final = 32
_SPAN: Final = 16
_MOST_DIGITS: Final = 19
_DRAWN: Final = _TRACE + _SPAN
_INLINE: Final = b"inline"
_FIRST_TRY: Final = [b"0"]
_SAID_OF_LINEAGE: Final = frozenset((b"traceparent", b"x-receipt-parents", b"x-task-id"))
_RETRY_COUNT: Final = re.compile(rb"[1-9][0-9]{0,3}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestHead:
    """The facts of a head, and the first thing in it that the gateway refuses, if any.

    A refused head still has every fact that could be read, because its receipt records them.
    """

    content_type: str | None
    accept: bytes | None
    declared_length: int | None
    inline: bool
    nonce: str | None
    lineage: LineageContext
    refusal: Refusal | None


_request_head = maker_of(RequestHead)
_lineage_of = maker_of(LineageContext)


def read_head(
    headers: Iterable[tuple[bytes, bytes]], query: bytes, draw: Draw = drawn
) -> RequestHead:
    """Read the head of an authenticated inference request; names are lower-case.

    Never raises: what is wrong stands in `refusal`.
    """
    fields = _Fields(headers)
    if query:
        fields.refuse(
            400,
            "query_string",
            "the request has a query string; expected none: these routes take everything in the "
            "body, and engines log their query strings",
        )
    content_type = _content_type(fields)
    if b"content-encoding" in fields.values:
        _require_identity(fields)
    inline = b"x-receipt" in fields.values and _inline(fields)
    nonce = _nonce(fields) if b"x-receipt-nonce" in fields.values else None
    lineage = _lineage(fields, draw(_DRAWN))
    length = fields.one(b"content-length")
    counts = length is not None and length.isdigit() and len(length) <= _MOST_DIGITS
    return _request_head(
        content_type=content_type,
        accept=fields.values.get(b"accept", (None,))[0],
        declared_length=int(length) if length is not None and counts else None,
        inline=inline,
        nonce=nonce,
        lineage=lineage,
        refusal=fields.refusal,
    )


def is_repeatable(head: RequestHead, headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether `read_again` may stand for reading these fields again: nothing of the head is
    refused, and of its lineage it says nothing but perhaps that it repeats a request.
    """
    return head.refusal is None and _SAID_OF_LINEAGE.isdisjoint(name for name, _ in headers)


def read_again(head: RequestHead, length: int, draw: Draw = drawn) -> RequestHead:
    """Return what `read_head` would for the head of another request with the same fields, whose
    content-length is `length`: a trace of its own, all else the same.
    """
    trace, span = draw(_TRACE), draw(_SPAN)
    return _request_head(
        content_type=head.content_type,
        accept=head.accept,
        declared_length=length,
        inline=head.inline,
        nonce=head.nonce,
        lineage=_lineage_of(trace, span, None, (), head.lineage.repeated),
        refusal=None,
    )


class _Fields:
    """The fields we know, by name, and the first refusal."""

    NAMES: Final = frozenset(
        (
            b"accept", b"content-encoding", b"content-length", b"content-type",
            b"idempotency-key", b"traceparent", b"x-receipt", b"x-receipt-nonce",
            b"x-receipt-parents", b"x-stainless-retry-count", b"x-task-id",
        )
    )  # fmt: skip

    def __init__(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self.values: dict[bytes, list[bytes]] = {}
        self.refusal: Refusal | None = None
        for name, value in headers:
            if name in self.NAMES:
                if name in self.values:
                    self.values[name].append(value.strip())
                else:
                    self.values[name] = [value.strip()]

    def one(self, name: bytes) -> bytes | None:
        """The value of a field that may stand once; twice is refused."""
        values = self.values.get(name)
        if values is None:
            return None
        if len(values) > 1:
            field = name.decode("ascii")
            self.refuse(400, "duplicate_header", f"expected one {field} header, saw several")
            return None
        return values[0]

    def text(self, name: bytes) -> str | None:
        """`one`, decoded; bytes outside ASCII become characters no pattern accepts."""
        value = self.one(name)
        return None if value is None else value.decode("ascii", "replace")

    def refuse(self, status: int, code: str, message: str) -> None:
        """Keep the first refusal."""
        if self.refusal is None:
            self.refusal = Refusal(status=status, code=code, message=message)


def _content_type(fields: _Fields) -> str | None:
    value = fields.one(b"content-type")
    if value is None or not _JSON_TYPE.fullmatch(value):
        fields.refuse(
            415,
            "content_type",
            "the content type must be application/json, in UTF-8 if it says so; "
            f"saw {'none' if value is None else 'another one'}",
        )
    return None if value is None else fitting(CONTENT_TYPE, value.decode("ascii", "replace"))


def _require_identity(fields: _Fields) -> None:
    coding = fields.one(b"content-encoding")
    if coding is not None and coding.lower() not in (b"", b"identity"):
        fields.refuse(
            415,
            "content_encoding",
            "the body must not be compressed: expected no content-encoding or identity; "
            "the receipt commits to the bytes sent",
        )


def _inline(fields: _Fields) -> bool:
    value = fields.one(b"x-receipt")
    if value is not None and value.lower() != _INLINE:
        fields.refuse(
            400,
            "receipt_delivery",
            "x-receipt asks for an unknown delivery; expected inline, "
            "or leave it out and GET /v1/receipts/{id}",
        )
        return False
    return value is not None


def _nonce(fields: _Fields) -> str | None:
    value = fields.text(b"x-receipt-nonce")
    if value is None:
        return None
    if not NONCE.fullmatch(value):
        fields.refuse(
            400,
            "receipt_nonce",
            "x-receipt-nonce has another form; expected 8 to 88 characters of base64url or hex",
        )
        return None
    return value


def _lineage(fields: _Fields, digits: str) -> LineageContext:
    random_trace, random_span = digits[:_TRACE], digits[_TRACE:]
    # Several traceparents are as good as none: an odd one starts a new root and is no error.
    traces = fields.values.get(b"traceparent", ())
    trace = traces[0].decode("ascii", "replace") if len(traces) == 1 else None
    task, parents = fields.text(b"x-task-id"), _parents(fields)
    repeated = _repeated(fields)
    try:
        return lineage_from_headers(
            trace,
            task,
            parents,
            random_trace=random_trace,
            random_span=random_span,
            repeated=repeated,
        )
    except MalformedError as error:
        fields.refuse(400, f"lineage_{error.code}", str(error))
    return lineage_from_headers(
        trace, None, None, random_trace=random_trace, random_span=random_span, repeated=repeated
    )


def _repeated(fields: _Fields) -> bool:
    """Whether this may repeat an earlier request; nothing of an idempotency key is looked at.

    SDKs count their repeats.  Applications and other clients give one key to all attempts at a
    request: then the first says so too, and the notary finds nothing that it repeats.
    """
    if b"idempotency-key" in fields.values:
        return True
    counts = fields.values.get(b"x-stainless-retry-count")
    if counts is None or counts == _FIRST_TRY:
        return False
    return len(counts) == 1 and _RETRY_COUNT.fullmatch(counts[0]) is not None


def _parents(fields: _Fields) -> str | None:
    # A list field may come in several lines (RFC 9110 section 5.3).
    lines = fields.values.get(b"x-receipt-parents")
    return None if lines is None else b",".join(lines).decode("ascii", "replace")
