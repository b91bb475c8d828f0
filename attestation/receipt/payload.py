"""The payload of a receipt, written straight from its claims in canonical order.

`encode_claims` gives what `jcs.canonicalize(claims.to_json())` gives, without a tree of dicts
that is built, copied and sorted for every receipt: about 7 instead of 26 microseconds, where an
Ed25519 signature takes 20.  The order of members is the alphabet's, because their names are
ASCII (RFC 8785 section 3.2.3); a test holds both ways of writing against each other.
"""

from __future__ import annotations

from json.encoder import encode_basestring as _text
from typing import TYPE_CHECKING

from attestation.encoding.base64url import encode as _base64url
from attestation.encoding.jcs import MAX_SAFE_INTEGER
from attestation.errors import MalformedError
from attestation.receipt.claims import EAT_PROFILE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from attestation.encoding.digest import Digest
    from attestation.receipt.claims import (
        Attempt,
        LineageClaims,
        LogPosition,
        ModelClaims,
        ReceiptClaims,
        RequestClaims,
        ResponseClaims,
        Splice,
        Usage,
    )


def encode_claims(claims: ReceiptClaims) -> bytes:
    """Return the payload of the token: the canonical JSON (RFC 8785) of the claims, in UTF-8.

    Raises `MalformedError` (code "jcs") for an integer of 2^53 or more in magnitude and for a
    lone surrogate.
    """
    nonce = "" if claims.nonce is None else f'"eat_nonce":{_text(claims.nonce)},'
    use = "" if claims.usage is None else f',"use":{_usage(claims.usage)}'
    written = (
        f'{{"act":{{"sub":{_digest(claims.subject)}}}'
        f',"att":[{_joined(_attempt(attempt) for attempt in claims.attempts)}]'
        f',"bootseed":{_bytes(claims.bootseed)},"dbgstat":{_text(claims.debug)}'
        f',{nonce}"eat_profile":"{EAT_PROFILE}"'
        f',"iat":{_integer(claims.issued_at)},"iss":{_text(claims.issuer)}'
        f',"jti":{_text(claims.jti)},"keys":{_digest(claims.keyset_digest)}'
        f',"lin":{_lineage(claims.lineage)},"log":{_log(claims.log)}'
        f',"model":{_model(claims.model)}'
        f',"pol":{{"dec":{_text(claims.decision.code)},"dig":{_digest(claims.decision.grant)}}}'
        f',"req":{_request(claims.request)},"res":{_response(claims.response)}'
        f',"submods":{_submodules(claims)}{use}}}'
    )
    try:
        return written.encode("utf-8")
    except UnicodeEncodeError:
        raise MalformedError("a string has a lone surrogate", code="jcs") from None


def _attempt(attempt: Attempt) -> str:
    return (
        f'{{"local":{_flag(attempt.local)},"ms":{_integer(attempt.milliseconds)}'
        f',"out":{_text(attempt.outcome)},"up":{_text(attempt.upstream)}}}'
    )


def _lineage(lineage: LineageClaims) -> str:
    parents = (f"[{_text(parent.kind)},{_digest(parent.digest)}]" for parent in lineage.parents)
    previous = "" if lineage.previous is None else f'"prev":{_digest(lineage.previous)},'
    span = "" if lineage.parent_span is None else f'"psp":{_text(lineage.parent_span)},'
    return (
        f'{{"k":{_integer(lineage.call)},"par":[{_joined(parents)}]'
        f',{previous}{span}"sp":{_text(lineage.span)},"txn":{_text(lineage.txn)}}}'
    )


def _log(log: LogPosition) -> str:
    return f'{{"adm":{_integer(log.admission)},"i":{_integer(log.index)},"o":{_text(log.origin)}}}'


def _model(model: ModelClaims) -> str:
    return (
        f'{{"cfg":{_digest_or_null(model.configuration)},"dig":{_digest_or_null(model.digest)}'
        f',"eng":{_text_or_null(model.engine)},"id":{_text_or_null(model.id)}'
        f',"served":{_text_or_null(model.served)}}}'
    )


def _request(request: RequestClaims) -> str:
    commitment = length = forwarded = splices = ""
    if request.commitment is not None:
        commitment = f'"c":{_bytes(request.commitment)},'
        length = f'"len":{_count(request.length)},'
    if request.forwarded is not None:
        forwarded = f'"f":{_bytes(request.forwarded)},'
        splices = f'"mod":[{_joined(map(_splice, request.splices))}],'
    partial = ',"part":true' if request.partial else ""
    return (
        f'{{{commitment}"ct":{_text_or_null(request.content_type)},{forwarded}{length}'
        f'"m":{_text(request.method)},{splices}"p":{_text(request.path)}{partial}}}'
    )


def _response(response: ResponseClaims) -> str:
    members = []
    if response.commitment is not None:
        members.append(f'"c":{_bytes(response.commitment)}')
    if response.status is not None:
        members.append(f'"ct":{_text_or_null(response.content_type)}')
    members.append(f'"end":{_text(response.end)}')
    if response.finish_reasons:
        members.append(f'"fin":[{_joined(map(_text, response.finish_reasons))}]')
    if response.commitment is not None:
        members.append(f'"len":{_count(response.length)}')
    if response.mods:
        members.append(f'"mod":[{_joined(map(_text, response.mods))}]')
    if response.events is not None:
        members.append(f'"n":{_integer(response.events)}')
    if response.block_offset is not None:
        members.append(f'"o":{_integer(response.block_offset)}')
    if response.status is not None:
        members.append(f'"st":{_integer(response.status)}')
    if response.engine is not None:
        members.append(f'"u":{_bytes(response.engine)}')
    return f"{{{_joined(members)}}}"


def _splice(splice: Splice) -> str:
    return (
        f'{{"code":{_text(splice.code)},"del":{_integer(splice.deleted)}'
        f',"ins_len":{_integer(splice.inserted)},"off":{_integer(splice.offset)}}}'
    )


def _submodules(claims: ReceiptClaims) -> str:
    gpu = ""
    if claims.gpu_evidence is not None:
        gpu = f'"gpu":{{"evidence":{_digest(claims.gpu_evidence)}}},'
    return (
        f'{{{gpu}"tdx":{{"provider":{_text(claims.provider)}'
        f',"quote":{_digest(claims.quote_digest)}}}}}'
    )


def _usage(usage: Usage) -> str:
    counts = (("in", usage.input), ("out", usage.output), ("total", usage.total))
    known = (f'"{name}":{_integer(count)}' for name, count in counts if count is not None)
    return f"{{{_joined(known)}}}"


def _integer(value: int) -> str:
    if not -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER:
        raise MalformedError(
            "an integer is too large for canonical JSON",
            code="jcs",
            expected="a magnitude below 2^53",
        )
    # The digits of the number itself: str() of an enumeration would be its name.
    return int.__repr__(value)


def _count(value: int | None) -> str:
    return "null" if value is None else _integer(value)


def _flag(value: bool) -> str:  # noqa: FBT001  (the value to write, not a choice of what to do)
    return "true" if value else "false"


def _bytes(value: bytes) -> str:
    return f'"{_base64url(value)}"'


def _digest(digest: Digest) -> str:
    return f'"{_base64url(digest.value)}"'


def _digest_or_null(digest: Digest | None) -> str:
    return "null" if digest is None else _digest(digest)


def _text_or_null(value: str | None) -> str:
    return "null" if value is None else _text(value)


def _joined(items: Iterable[str]) -> str:
    return ",".join(items)
