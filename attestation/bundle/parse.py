"""From bytes to a `Bundle`: one canonical form, closed members, nothing left over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from attestation.bundle.model import (
    EVENT_LOG_FORMATS,
    SCHEMA,
    BootEvidence,
    Bundle,
    BundledReceipt,
    EpochEvidence,
    EventLogRecord,
)
from attestation.encoding.digest import Digest
from attestation.encoding.jcs import parse_canonical
from attestation.encoding.jws import parse_compact_jws
from attestation.encoding.members import Members
from attestation.encoding.strict_json import JsonLimits
from attestation.errors import MalformedError
from attestation.merkle.checkpoint import parse_checkpoint
from attestation.merkle.note import MAX_NOTE_BYTES, parse_note
from attestation.merkle.tlog_proof import parse_tlog_proof
from attestation.receipt.commitments import parse_openings
from attestation.receipt.signing import parse_receipt
from attestation.statement import parse_boot_statement, parse_epoch_statement, parse_keyset
from attestation.tdx.collateral import parse_collateral
from attestation.tdx.quote import MAX_QUOTE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from attestation.encoding.strict_json import JsonValue
    from attestation.tdx.collateral import Collateral

MAX_BUNDLE_BYTES = 64 << 20
MAX_ITEMS = 1_000_000
# Values take 20 times the memory of their text and more, so that size alone is no bound.  A
# bundle full of receipts has one comma in 300 bytes; this allows ten times as many.
MAX_COMMAS = 2_000_000
MAX_GPU_ITEMS = 64
MAX_PROOF_CHARS = 2 * MAX_NOTE_BYTES
MAX_RECEIPT_CHARS = 4096

_LIMITS = JsonLimits(max_bytes=MAX_BUNDLE_BYTES, max_depth=24, max_members=4 * MAX_ITEMS)

T = TypeVar("T")


def parse_bundle(data: bytes) -> Bundle:
    """Return the bundle in `data` (at most 64 MiB).

    1. strict JSON whose bytes are the RFC 8785 form of its value, of two million values at most
    2. closed members, the schema of this version
    3. every collateral set stands under its own digest
    4. statements, keysets, event logs, receipts, openings and proofs parse
    5. arrays are in order and nothing stands in them twice
    6. every collateral set is used

    Quotes are only decoded: whether they parse is the check QUOTE-FORMAT.  Raises
    `MalformedError`; the message says where.
    """
    _require_bounded(data)
    top = Members(parse_canonical(data, _LIMITS, what="the bundle"), "bundle")
    top.text("schema", choices=(SCHEMA,))
    bundle = Bundle(
        boots=_items(top, "boots", _boot),
        collateral=_collateral(top),
        epochs=_items(top, "epochs", _epoch),
        receipts=_items(top, "receipts", _receipt),
        tasks=_items(top, "tasks", _task),
    )
    top.close()
    _require_used(bundle)
    return bundle


def parse_proof(text: str, *, what: str) -> str:
    """Return the tlog-proof `text` unchanged, having parsed it.

    An `extra` line is refused: nothing authenticates it.  Raises `MalformedError`.
    """
    if parse_tlog_proof(text).extra is not None:
        raise MalformedError(
            f"{what} has an extra line",
            code="proof_extra",
            expected="a proof without one: no signature covers it",
        )
    return text


def _require_bounded(data: bytes) -> None:
    if data.count(b",") > MAX_COMMAS:
        raise MalformedError(
            "the bundle has too many values",
            code="members",
            expected=f"at most {MAX_COMMAS} commas",
            hint="split it: a receipt verifies in any bundle that holds its boot",
        )


def _items(top: Members, name: str, read: Callable[[JsonValue, str], T]) -> tuple[T, ...]:
    values = top.array(name, max_items=MAX_ITEMS)
    return tuple(read(value, f"bundle.{name}[{index}]") for index, value in enumerate(values))


def _boot(value: JsonValue, where: str) -> BootEvidence:
    members = Members(value, where)
    boot = BootEvidence(
        statement=parse_boot_statement(members.raw("statement")),
        keyset=parse_keyset(members.raw("keyset")),
        quote=members.bytes_base64url("quote", max_bytes=MAX_QUOTE_BYTES),
        event_log=_event_log(members),
        gpu=tuple(
            _plain_object(item, where) for item in members.array("gpu", max_items=MAX_GPU_ITEMS)
        ),
        collateral=_reference(members),
    )
    members.close()
    return boot


def _event_log(members: Members) -> EventLogRecord | None:
    if members.is_null("event_log"):
        return None
    inner = members.object("event_log")
    record = EventLogRecord(
        format=inner.text("format", choices=EVENT_LOG_FORMATS), data=inner.raw("data")
    )
    inner.close()
    record.parse()
    return record


def _plain_object(value: JsonValue, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise MalformedError(
            f"{where}.gpu is malformed", code="member_type", expected="a list of objects"
        )
    return value


def _epoch(value: JsonValue, where: str) -> EpochEvidence:
    members = Members(value, where)
    checkpoint = members.text("checkpoint", max_chars=MAX_NOTE_BYTES)
    parse_checkpoint(parse_note(checkpoint).text)
    epoch = EpochEvidence(
        statement=parse_epoch_statement(members.raw("statement")),
        quote=members.bytes_base64url("quote", max_bytes=MAX_QUOTE_BYTES),
        checkpoint=checkpoint,
        collateral=_reference(members),
    )
    members.close()
    return epoch


def _receipt(value: JsonValue, where: str) -> BundledReceipt:
    members = Members(value, where)
    openings = None if members.is_null("openings") else parse_openings(members.raw("openings"))
    item = BundledReceipt(
        receipt=parse_receipt(members.text("receipt", max_chars=MAX_RECEIPT_CHARS)),
        openings=openings,
        proof=(
            None
            if members.is_null("proof")
            else parse_proof(members.text("proof", max_chars=MAX_PROOF_CHARS), what=where)
        ),
    )
    members.close()
    return item


def _task(value: JsonValue, where: str) -> str:
    if not isinstance(value, str):
        raise MalformedError(f"{where} is not text", code="member_type", expected="a compact JWS")
    return parse_compact_jws(value, what=where).token


def _reference(members: Members) -> Digest | None:
    return None if members.is_null("collateral") else members.digest_hex("collateral")


def _collateral(top: Members) -> dict[Digest, Collateral]:
    sets: dict[Digest, Collateral] = {}
    for name, value in top.mapping("collateral").items():
        digest = Digest.from_hex(name, what="the name of a collateral set")
        sets[digest] = parse_collateral(value)
    return sets


def _require_used(bundle: Bundle) -> None:
    used = {boot.collateral for boot in bundle.boots}
    used |= {epoch.collateral for epoch in bundle.epochs}
    for digest in bundle.collateral:
        if digest not in used:
            raise MalformedError(
                "a collateral set is used by no quote",
                code="unused_collateral",
                expected="each set to be named by a boot or an epoch",
                observed=digest.hex,
            )
