"""Reading the payload of a receipt: every member known, typed, bounded and consistent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from attestation.encoding.digest import Digest
from attestation.encoding.members import Members
from attestation.errors import MalformedError
from attestation.receipt import text
from attestation.receipt.claims import (
    DECLARED,
    EAT_PROFILE,
    RETRY,
    Attempt,
    Decision,
    End,
    LineageClaims,
    LogPosition,
    ModelClaims,
    Parent,
    ReceiptClaims,
    RequestClaims,
    ResponseClaims,
    Splice,
    Usage,
)

if TYPE_CHECKING:
    import re

PARENT_KINDS: Final = frozenset({DECLARED, RETRY})
_MEMBERS_OF_USE: Final = ("in", "out", "total")


def parse_claims(payload: dict[str, Any]) -> ReceiptClaims:
    """Return the claims of a parsed payload.

    Guarantees the closed format of `docs/spec/receipt.md`: nothing unknown, nothing missing,
    every text in its alphabet, and members that depend on each other present together.  Says
    nothing about the signature.  Raises `MalformedError`.
    """
    members = Members(payload, "the receipt")
    members.text("eat_profile", choices=(EAT_PROFILE,))
    provider, quote_digest, gpu_evidence = _submodules(members.object("submods"))
    request = _request(members.object("req"))
    response = _response(members.object("res"))
    if request.commitment is None and response.end is not End.GATEWAY_FAILURE:
        raise _inconsistent("only a gateway_failure may lack the commitment to the request")
    claims = ReceiptClaims(
        issuer=members.text("iss", pattern=text.NAME),
        issued_at=members.integer("iat"),
        jti=members.text("jti", pattern=text.RECEIPT_ID),
        nonce=_optional_text(members, "eat_nonce", text.NONCE),
        bootseed=members.bytes_base64url("bootseed", length=32),
        keyset_digest=members.digest_base64url("keys"),
        debug=members.text("dbgstat", choices=("disabled", "enabled")),
        provider=provider,
        quote_digest=quote_digest,
        gpu_evidence=gpu_evidence,
        request=request,
        response=response,
        model=_model(members.object("model")),
        usage=_usage(members.object("use")) if members.has("use") else None,
        attempts=_attempts(members),
        decision=_decision(members.object("pol")),
        subject=_subject(members.object("act")),
        log=_log(members.object("log")),
        lineage=_lineage(members.object("lin")),
    )
    members.close()
    return claims


def _submodules(members: Members) -> tuple[str, Digest, Digest | None]:
    tdx = members.object("tdx")
    provider = tdx.text("provider", pattern=text.LABEL)
    quote_digest = tdx.digest_base64url("quote")
    tdx.close()
    evidence = None
    if members.has("gpu"):
        gpu = members.object("gpu")
        evidence = gpu.digest_base64url("evidence")
        gpu.close()
    members.close()
    return provider, quote_digest, evidence


def _request(members: Members) -> RequestClaims:
    claims = RequestClaims(
        method=members.text("m", pattern=text.METHOD),
        path=members.text("p", pattern=text.PATH),
        content_type=_text_or_null(members, "ct", text.CONTENT_TYPE),
        commitment=_optional_commitment(members, "c"),
        length=_optional_integer(members, "len"),
        partial=_true(members, "part"),
        forwarded=_optional_commitment(members, "f"),
        splices=_splices(members) if members.has("mod") else (),
    )
    members.close()
    if (claims.commitment is None) != (claims.length is None):
        raise _inconsistent("c and len of the request are present together or not at all")
    if (claims.forwarded is None) != (not claims.splices):
        raise _inconsistent("f and mod of the request are present together or not at all")
    if claims.forwarded is not None and claims.commitment is None:
        raise _inconsistent("a forwarded body needs a received one")
    return claims


def _splices(members: Members) -> tuple[Splice, ...]:
    return tuple(_splice(value) for value in _filled(members, "mod", text.MAX_SPLICES))


def _splice(value: Any) -> Splice:  # noqa: ANN401  (one parsed JSON value)
    members = Members(value, "a rewrite of the request")
    splice = Splice(
        code=members.text("code", pattern=text.CODE),
        offset=members.integer("off"),
        deleted=members.integer("del"),
        inserted=members.integer("ins_len"),
    )
    members.close()
    return splice


def _response(members: Members) -> ResponseClaims:
    status = _optional_integer(members, "st", minimum=100, maximum=599)
    claims = ResponseClaims(
        end=End(members.text("end", choices=tuple(End))),
        status=status,
        content_type=(None if status is None else _text_or_null(members, "ct", text.CONTENT_TYPE)),
        commitment=_optional_commitment(members, "c"),
        length=_optional_integer(members, "len"),
        engine=_optional_commitment(members, "u"),
        block_offset=_optional_integer(members, "o"),
        events=_optional_integer(members, "n"),
        finish_reasons=_texts(members, "fin", text.MAX_REASONS + 1, text.REASON),
        mods=_texts(members, "mod", text.MAX_MODS, text.CODE),
    )
    members.close()
    _require_consistent_response(claims)
    return claims


def _require_consistent_response(claims: ResponseClaims) -> None:
    if (claims.commitment is None) != (claims.length is None):
        raise _inconsistent("c and len of the response are present together or not at all")
    if claims.commitment is None and claims.end is not End.GATEWAY_FAILURE:
        raise _inconsistent("only a gateway_failure may lack the commitment to the response")
    if claims.block_offset is not None and claims.block_offset > (claims.length or 0):
        raise _inconsistent("the in-band block lies inside or at the end of the response")


def _model(members: Members) -> ModelClaims:
    claims = ModelClaims(
        id=_text_or_null(members, "id", text.CALLER_TEXT),
        served=_text_or_null(members, "served", text.CALLER_TEXT),
        engine=_text_or_null(members, "eng", text.ENGINE),
        digest=_digest_or_null(members, "dig"),
        configuration=_digest_or_null(members, "cfg"),
    )
    members.close()
    return claims


def _usage(members: Members) -> Usage:
    counts = [_optional_integer(members, name) for name in _MEMBERS_OF_USE]
    members.close()
    if all(count is None for count in counts):
        raise _inconsistent("use names at least one token count")
    return Usage(input=counts[0], output=counts[1], total=counts[2])


def _attempts(members: Members) -> tuple[Attempt, ...]:
    return tuple(_attempt(value) for value in members.array("att", max_items=text.MAX_ATTEMPTS))


def _attempt(value: Any) -> Attempt:  # noqa: ANN401  (one parsed JSON value)
    members = Members(value, "an upstream attempt")
    attempt = Attempt(
        upstream=members.text("up", pattern=text.LABEL),
        local=members.flag("local"),
        outcome=members.text("out", pattern=text.CODE),
        milliseconds=members.integer("ms"),
    )
    members.close()
    return attempt


def _decision(members: Members) -> Decision:
    decision = Decision(
        grant=members.digest_base64url("dig"), code=members.text("dec", pattern=text.CODE)
    )
    members.close()
    return decision


def _subject(members: Members) -> Digest:
    subject = members.digest_base64url("sub")
    members.close()
    return subject


def _log(members: Members) -> LogPosition:
    position = LogPosition(
        origin=members.text("o", pattern=text.LOG_ORIGIN),
        index=members.integer("i", minimum=1),
        admission=members.integer("adm"),
    )
    members.close()
    return position


def _lineage(members: Members) -> LineageClaims:
    claims = LineageClaims(
        txn=members.text("txn", pattern=text.CALLER_TEXT),
        span=members.text("sp", pattern=text.SPAN),
        call=members.integer("k"),
        parent_span=_optional_text(members, "psp", text.SPAN),
        previous=members.digest_base64url("prev") if members.has("prev") else None,
        parents=tuple(_parent(pair) for pair in members.array("par", max_items=text.MAX_PARENTS)),
    )
    members.close()
    if (claims.call == 0) != (claims.previous is None):
        raise _inconsistent("the first call of a task, and only it, has no previous receipt")
    if any(parent.kind == RETRY for parent in claims.parents[:-1]):
        raise _inconsistent("a call repeats at most one other, which comes after declared parents")
    return claims


def _parent(pair: Any) -> Parent:  # noqa: ANN401  (one parsed JSON value)
    if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(x, str) for x in pair)):
        raise _inconsistent("a parent is a pair of kind and digest")
    kind, digest = pair
    if kind not in PARENT_KINDS:
        raise _inconsistent("the kind of a parent is one of: " + ", ".join(sorted(PARENT_KINDS)))
    return Parent(kind=kind, digest=Digest.from_base64url(digest, what="the digest of a parent"))


def _optional_text(members: Members, name: str, pattern: re.Pattern[str]) -> str | None:
    return members.text(name, pattern=pattern) if members.has(name) else None


def _text_or_null(members: Members, name: str, pattern: re.Pattern[str]) -> str | None:
    return None if members.is_null(name) else members.text(name, pattern=pattern)


def _digest_or_null(members: Members, name: str) -> Digest | None:
    return None if members.is_null(name) else members.digest_base64url(name)


def _optional_integer(
    members: Members, name: str, *, minimum: int = 0, maximum: int = text.MAX_INTEGER
) -> int | None:
    if not members.has(name):
        return None
    return members.integer(name, minimum=minimum, maximum=maximum)


def _optional_commitment(members: Members, name: str) -> bytes | None:
    return members.bytes_base64url(name, length=32) if members.has(name) else None


def _true(members: Members, name: str) -> bool:
    if not members.has(name):
        return False
    if not members.flag(name):
        raise _inconsistent(f"{name} is true or absent")
    return True


def _texts(
    members: Members, name: str, max_items: int, pattern: re.Pattern[str]
) -> tuple[str, ...]:
    if not members.has(name):
        return ()
    items = _filled(members, name, max_items)
    if not all(isinstance(item, str) and pattern.fullmatch(item) for item in items):
        raise _inconsistent(f"{name} lists texts of the form {pattern.pattern}")
    return tuple(items)


def _filled(members: Members, name: str, max_items: int) -> list[Any]:
    """An optional list is absent when there is nothing to list, so it is never empty."""
    items = members.array(name, max_items=max_items)
    if not items:
        raise _inconsistent(f"{name} is absent rather than empty")
    return items


def _inconsistent(rule: str) -> MalformedError:
    return MalformedError("the receipt breaks a rule of its format", code="claims", expected=rule)
