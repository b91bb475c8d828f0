"""What the notary says to workers: its boot, how it is, answers and refusals."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from cryptography.hazmat.primitives.serialization import Encoding

from attestation.bundle import EpochEvidence, make_bundle, parse_bundle
from attestation.encoding import base64url
from attestation.encoding.jws import parse_compact_jws
from attestation.errors import (
    AttestationError,
    EvidenceError,
    MalformedError,
    PolicyError,
    UnavailableError,
    UsageError,
)
from attestation.receipt import text
from attestation.receipt.commitments import LABELS, Openings
from attestation.tdx.anchor import parse_anchor
from gateway.errors import NotaryUnavailable
from gateway.notary.interface import Boot, Challenge, Found, ReceiptState
from gateway.notary.wire import values
from gateway.notary.wire.values import refused

if TYPE_CHECKING:
    from attestation.bundle import Bundle

_REASON: Final = re.compile(r"[a-z0-9_.-]{0,64}", re.ASCII)
_STATES: Final = {str(state): state for state in ReceiptState}
_ERRORS: Final[dict[str, type[AttestationError]]] = {
    "malformed": MalformedError,
    "evidence": EvidenceError,
    "policy": PolicyError,
    "unavailable": UnavailableError,
    "usage": UsageError,
}
_KINDS: Final = {kind: name for name, kind in _ERRORS.items()}
_NOTARY: Final = "notary"
_MAX_TEXT: Final = 4096
_MAX_DOCUMENT: Final = 12 << 20
_MAX_PROOF: Final = 64 * 1024
_MAX_STATEMENT: Final = 16 * 1024
_MAX_QUOTE: Final = 64 * 1024
_MAX_PATH: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """How the notary is: `reason` is empty exactly while it is healthy."""

    healthy: bool
    reason: str


def encode_hello(boot: Boot, condition: Condition) -> bytes:
    """Return the payload of HELLO: the first frame, and whenever endorsements are renewed."""
    sets = [boot.collateral] if boot.collateral is not None else []
    evidence = make_bundle(boots=[boot.evidence], collateral=sets).encode().decode("utf-8")
    anchor = None
    if boot.anchor is not None:
        anchor = base64url.encode(boot.anchor.certificate.public_bytes(Encoding.DER))
    return values.encode(
        (
            evidence,
            anchor,
            boot.provider,
            condition.healthy,
            condition.reason,
            boot.cache_salt_key.hex(),
        )
    )


def decode_hello(payload: bytes) -> tuple[Boot, Condition]:
    """Return the boot and its condition, or raise `MalformedError`."""
    document, anchor, provider, healthy, reason, salt_key = values.decode(payload, 6)
    bundle = parse_bundle(values.free_text(document, _MAX_DOCUMENT).encode("utf-8"))
    if len(bundle.boots) != 1 or len(bundle.collateral) > 1:
        raise refused("the evidence of one boot")
    (evidence,) = bundle.boots
    boot = Boot(
        evidence=evidence,
        collateral=next(iter(bundle.collateral.values()), None),
        anchor=None if anchor is None else parse_anchor(values.binary(anchor)),
        provider=values.text_of(provider, text.LABEL),
        keyset_digest=evidence.statement.keyset_digest,
        log_origin=evidence.statement.log_origin,
        cache_salt_key=values.digest(salt_key).value,
    )
    return boot, _condition(healthy, reason)


def decode_renewal(payload: bytes, boot: Boot) -> tuple[Boot, Condition]:
    """Return what a later HELLO says of the same boot: only its endorsements may be others.

    Raises `MalformedError` for another boot, root, provider or cache salt key.
    """
    renewed, condition = decode_hello(payload)
    evidence = replace(renewed.evidence, collateral=boot.evidence.collateral)
    if replace(renewed, evidence=evidence, collateral=boot.collateral) != boot:
        raise refused("the boot of this connection, with other endorsements at most")
    return renewed, condition


def encode_condition(condition: Condition) -> bytes:
    """Return the payload of STATE."""
    return values.encode((condition.healthy, condition.reason))


def decode_condition(payload: bytes) -> Condition:
    """Return what STATE says, or raise `MalformedError`."""
    healthy, reason = values.decode(payload, 2)
    return _condition(healthy, reason)


def encode_found(found: Found) -> bytes:
    """Return the payload of FOUND."""
    openings = found.openings
    return values.encode(
        (
            found.jti,
            str(found.state),
            found.token,
            None if openings is None else [(k, key.hex()) for k, key in openings.keys.items()],
            [] if openings is None else [base64url.encode(piece) for piece in openings.inserted],
            found.proof,
            None if found.epoch is None else _epoch_text(found.epoch),
            None if found.earlier is None else found.earlier.encode().decode("utf-8"),
        )
    )


def decode_found(payload: bytes) -> Found:
    """Return what FOUND says, or raise `MalformedError`."""
    jti, state, token, keys, inserted, proof, epoch, earlier = values.decode(payload, 8)
    if token is not None:
        parse_compact_jws(values.free_text(token, _MAX_TEXT), what="a receipt that was found")
    return Found(
        jti=values.text_of(jti, text.RECEIPT_ID),
        state=_state(state),
        token=token,
        openings=None if keys is None else _openings(keys, inserted),
        proof=None if proof is None else values.free_text(proof, _MAX_PROOF),
        epoch=None if epoch is None else _epoch(epoch),
        earlier=None if earlier is None else _document(earlier),
    )


def encode_challenge(challenge: Challenge) -> bytes:
    """Return the payload of CHALLENGED."""
    return values.encode(
        (
            base64url.encode(challenge.statement),
            base64url.encode(challenge.quote),
            challenge.index,
            challenge.count,
            [node.hex() for node in challenge.path],
        )
    )


def decode_challenge(payload: bytes) -> Challenge:
    """Return what CHALLENGED says, or raise `MalformedError`."""
    statement, quote, index, count, path = values.decode(payload, 5)
    return Challenge(
        statement=values.binary(statement, longest=_MAX_STATEMENT),
        quote=values.binary(quote, longest=_MAX_QUOTE),
        index=values.integer(index),
        count=values.integer(count, 1),
        path=tuple(values.digest(node).value for node in values.array(path, longest=_MAX_PATH)),
    )


def encode_epoch(epoch: EpochEvidence) -> bytes:
    """Return the payload of QUOTED."""
    return values.encode((_epoch_text(epoch),))


def decode_epoch(payload: bytes) -> EpochEvidence:
    """Return the evidence of one epoch, or raise `MalformedError`."""
    (document,) = values.decode(payload, 1)
    return _epoch(document)


def encode_failure(error: AttestationError | NotaryUnavailable) -> bytes:
    """Return the payload of FAILED.  Errors that may leave a notary carry no content."""
    if isinstance(error, NotaryUnavailable):
        return values.encode((_NOTARY, str(error), "", "", "", ""))
    kind = _KINDS.get(type(error), "unavailable")
    parts = (error.message, error.code, error.expected, error.observed, error.hint)
    return values.encode((kind, *(part[:_MAX_TEXT] for part in parts)))


def decode_failure(payload: bytes) -> AttestationError | NotaryUnavailable:
    """Return the error that FAILED stands for, or raise `MalformedError`."""
    kind, *rest = values.decode(payload, 6)
    message, code, expected, observed, hint = (values.free_text(x, _MAX_TEXT) for x in rest)
    if kind == _NOTARY:
        return NotaryUnavailable(message)
    if type(kind) is not str or kind not in _ERRORS:
        raise refused("a kind of error: " + ", ".join((_NOTARY, *_ERRORS)))
    return _ERRORS[kind](message, code=code, expected=expected, observed=observed, hint=hint)


def _condition(healthy: object, reason: object) -> Condition:
    condition = Condition(healthy=values.flag(healthy), reason=values.text_of(reason, _REASON))
    if condition.healthy != (not condition.reason):
        raise refused("a reason exactly where the notary is not healthy")
    return condition


def _openings(keys: object, inserted: object) -> Openings:
    opened: dict[str, bytes] = {}
    for pair in values.array(keys, longest=len(LABELS)):
        label, key = values.array(pair, longest=2, length=2)
        if label not in LABELS or label in opened:
            raise refused("each label of an opening at most once")
        opened[label] = values.digest(key).value
    pieces = values.array(inserted, longest=text.MAX_SPLICES)
    return Openings(keys=opened, inserted=tuple(values.binary(piece) for piece in pieces))


def _state(value: object) -> ReceiptState:
    state = _STATES.get(value) if type(value) is str else None
    if state is None:
        raise refused("a state of a receipt: " + ", ".join(_STATES))
    return state


def _epoch_text(epoch: EpochEvidence) -> str:
    return make_bundle(epochs=[epoch]).encode().decode("utf-8")


def _epoch(value: object) -> EpochEvidence:
    bundle = _document(value)
    if len(bundle.epochs) != 1:
        raise refused("the evidence of one epoch")
    return bundle.epochs[0]


def _document(value: Any) -> Bundle:  # noqa: ANN401 - one parsed JSON value
    return parse_bundle(values.free_text(value, _MAX_DOCUMENT).encode("utf-8"))
