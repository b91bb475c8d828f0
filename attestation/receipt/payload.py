"""The payload of a receipt, written straight from the outcome of its exchange.

What a receipt says is defined by `claims_of` and `ReceiptClaims.to_json`: a tree of values, which
canonical JSON (RFC 8785) then copies, sorts and writes.  For every receipt that would cost about
45 microseconds, twice the Ed25519 signature.  A `PayloadWriter` gives the same bytes in about 10:
it writes the members where canonical order has them (the alphabet's, because their names are
ASCII), and what all receipts of a boot have in common once.  A property test holds both ways
against each other.
"""

from __future__ import annotations

from functools import lru_cache
from json.encoder import encode_basestring as _text
from operator import attrgetter
from typing import TYPE_CHECKING, Final, NamedTuple

from attestation.encoding.base64url import encode as _base64url
from attestation.encoding.jcs import MAX_SAFE_INTEGER
from attestation.errors import MalformedError
from attestation.receipt.claims import EAT_PROFILE
from attestation.receipt.commitments import Committer
from attestation.receipt.seal import parents_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from attestation.encoding.digest import Digest
    from attestation.receipt.claims import Attempt, Splice, Usage
    from attestation.receipt.outcome import ModelFacts, Outcome
    from attestation.receipt.seal import SealContext
    from attestation.statement.model_lock import MeasuredModel

_LOCAL: Final = attrgetter("local")
_SAFE_BITS: Final = MAX_SAFE_INTEGER.bit_length()


class Place(NamedTuple):
    """What differs from receipt to receipt of what the notary knows, `leaf` being its index; see
    `SealContext`.
    """

    issued_at: int
    leaf: int
    admission: int
    call: int
    previous: Digest | None
    known: Mapping[str, Digest]
    repeats: Digest | None = None


class PayloadWriter:
    """Writes the payloads of one boot's receipts."""

    def __init__(self, boot: SealContext) -> None:
        """Take what the receipts have in common; what `Place` holds is not looked at."""
        self._committer = Committer(boot.boot_secret)
        self._measured = boot.model
        self._boot = f'],"bootseed":"{_base64url(boot.bootseed)}","dbgstat":{_text(boot.debug)},'
        self._profile = f'"eat_profile":"{EAT_PROFILE}","iat":'
        self._issuer = f',"iss":{_text(boot.issuer)},"jti":'
        self._keys = f',"keys":"{boot.keyset_digest.base64url}","lin":{{"k":'
        self._origin = f',"o":{_text(boot.log_origin)}}},"model":'
        self._submodules = f',"submods":{_submodules(boot)}'

    def write(self, outcome: Outcome, place: Place) -> tuple[bytes, dict[str, bytes]]:
        """Return what `claims_of` says of this outcome, before anything is left out to fit, as
        canonical JSON in UTF-8; and the commitment keys by label.

        Raises `MalformedError` (code "jcs") for an integer that is negative or not below 2^53,
        and for a lone surrogate.
        """
        _require_safe(outcome, place)
        lineage, (keys, commitments) = outcome.lineage, self._committer.commit(outcome)
        # A worker's word that its engine is this domain's own counts where that was measured.
        measured = self._measured
        if measured is not None and not all(map(_LOCAL, outcome.attempts)):
            measured = None
        attempts = [_attempt(one, local=measured is not None) for one in outcome.attempts]
        nonce = "" if outcome.nonce is None else f'"eat_nonce":{_text(outcome.nonce)},'
        previous = "" if place.previous is None else f'"prev":"{_base64url(place.previous.value)}",'
        span = "" if lineage.parent_span is None else f'"psp":{_text(lineage.parent_span)},'
        parents = _parents(outcome, place) if lineage.parents or place.repeats else ""
        use = "" if outcome.usage is None else f',"use":{_usage(outcome.usage)}'
        written = (
            f'{{"act":{{"sub":"{_repeated(outcome.sub.value)}"}},"att":[{",".join(attempts)}'
            f"{self._boot}{nonce}{self._profile}{place.issued_at + 0}{self._issuer}"
            f"{_text(outcome.jti)}{self._keys}{place.call + 0}"
            f',"par":[{parents}],{previous}{span}"sp":{_text(lineage.span)}'
            f',"txn":{_text(lineage.txn)}}},"log":{{"adm":{place.admission + 0}'
            f',"i":{place.leaf + 0}{self._origin}{_model(outcome.model, measured)}'
            f',"pol":{{"dec":{_text(outcome.decision)}'
            f',"dig":"{_repeated(outcome.grant_digest.value)}"}}'
            f',"req":{_request(outcome, commitments)},"res":{_response(outcome, commitments)}'
            f"{self._submodules}{use}}}"
        )
        try:
            return written.encode("utf-8"), keys
        except UnicodeEncodeError:
            raise MalformedError("a string has a lone surrogate", code="jcs") from None


def _require_safe(outcome: Outcome, place: Place) -> None:
    """Look at all numbers at once: the bits of their disjunction are those of all of them."""
    bits = place.issued_at | place.leaf | place.admission | place.call
    for body in (outcome.request, outcome.response):
        if body is not None:
            bits |= body.length
    bits |= (outcome.status or 0) | (outcome.block_offset or 0) | (outcome.events or 0)
    if outcome.usage is not None:
        usage = outcome.usage
        bits |= (usage.input or 0) | (usage.output or 0) | (usage.total or 0)
    for attempt in outcome.attempts:
        bits |= attempt.milliseconds
    for splice in outcome.splices:
        bits |= splice.offset | splice.deleted | splice.inserted
    if bits >> _SAFE_BITS:
        raise MalformedError(
            "an integer of a receipt is negative or too large for canonical JSON",
            code="jcs",
            expected="at least 0 and below 2^53",
        )


# "+ 0" makes a plain number of a member of an enumeration, which might be written as its name.


def _attempt(attempt: Attempt, *, local: bool) -> str:
    return (
        f'{{"local":{"true" if local else "false"},"ms":{attempt.milliseconds + 0}'
        f',"out":{_text(attempt.outcome)},"up":{_text(attempt.upstream)}}}'
    )


def _parents(outcome: Outcome, place: Place) -> str:
    parents = parents_of(outcome.lineage.parents, place.known, place.repeats)
    return ",".join([f'["{parent.kind}","{parent.digest.base64url}"]' for parent in parents])


def _model(facts: ModelFacts, measured: MeasuredModel | None) -> str:
    named, engine = '"cfg":null,"dig":null', facts.engine
    if measured is not None:
        arguments, lock = measured.arguments_digest.base64url, measured.digest.base64url
        named, engine = f'"cfg":"{arguments}","dig":"{lock}"', measured.engine
    return (
        f'{{{named},"eng":{_text_or_null(engine)},"id":{_text_or_null(facts.id)}'
        f',"served":{_text_or_null(facts.served)}}}'
    )


def _request(outcome: Outcome, commitments: Mapping[str, bytes]) -> str:
    commitment = length = forwarded = splices = ""
    if outcome.request is not None:
        commitment = f'"c":"{_base64url(commitments["req"])}",'
        length = f'"len":{outcome.request.length + 0},'
    if outcome.forwarded is not None:
        forwarded = f'"f":"{_base64url(commitments["fwd"])}",'
        splices = f'"mod":[{",".join(map(_splice, outcome.splices))}],'
    partial = ',"part":true' if outcome.request_partial else ""
    return (
        f'{{{commitment}"ct":{_text_or_null(outcome.request_type)},{forwarded}{length}'
        f'"m":{_text(outcome.method)},{splices}"p":{_text(outcome.path)}{partial}}}'
    )


def _response(outcome: Outcome, commitments: Mapping[str, bytes]) -> str:
    commitment = content_type = reasons = length = mods = events = offset = status = engine = ""
    if outcome.response is not None:
        commitment = f'"c":"{_base64url(commitments["res"])}",'
        length = f',"len":{outcome.response.length + 0}'
    if outcome.status is not None:
        content_type = f'"ct":{_text_or_null(outcome.response_type)},'
        status = f',"st":{outcome.status + 0}'
    if outcome.finish_reasons:
        reasons = f',"fin":[{",".join(map(_text, outcome.finish_reasons))}]'
    if outcome.mods:
        mods = f',"mod":[{",".join(map(_text, outcome.mods))}]'
    if outcome.events is not None:
        events = f',"n":{outcome.events + 0}'
    if outcome.block_offset is not None:
        offset = f',"o":{outcome.block_offset + 0}'
    if outcome.engine is not None:
        engine = f',"u":"{_base64url(commitments["eng"])}"'
    return (
        f'{{{commitment}{content_type}"end":{_text(outcome.end)}{reasons}{length}{mods}{events}'
        f"{offset}{status}{engine}}}"
    )


def _splice(splice: Splice) -> str:
    return (
        f'{{"code":{_text(splice.code)},"del":{splice.deleted + 0}'
        f',"ins_len":{splice.inserted + 0},"off":{splice.offset + 0}}}'
    )


def _submodules(boot: SealContext) -> str:
    gpu = ""
    if boot.gpu_evidence is not None:
        gpu = f'"gpu":{{"evidence":"{boot.gpu_evidence.base64url}"}},'
    quote = boot.quote_digest.base64url
    return f'{{{gpu}"tdx":{{"provider":{_text(boot.provider)},"quote":"{quote}"}}}}'


def _usage(usage: Usage) -> str:
    members = []
    if usage.input is not None:
        members.append(f'"in":{usage.input + 0}')
    if usage.output is not None:
        members.append(f'"out":{usage.output + 0}')
    if usage.total is not None:
        members.append(f'"total":{usage.total + 0}')
    return f"{{{','.join(members)}}}"


def _text_or_null(value: str | None) -> str:
    return "null" if value is None else _text(value)


@lru_cache(maxsize=4096)
def _repeated(digest: bytes) -> str:
    # Callers and their grants come again.
    return _base64url(digest)
