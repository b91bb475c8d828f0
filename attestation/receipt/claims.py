"""The claims of an inference receipt: closed, with one JSON form for every value.

An optional member is absent, never null; null stands only where the format says so, and means
"there was none, or it could not be recorded".
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from attestation.encoding import base64url, jcs

if TYPE_CHECKING:
    from attestation.encoding.digest import Digest

EAT_PROFILE: Final = "urn:attested-gateway:inference-receipt:1"
DECLARED: Final = "d"
RETRY: Final = "r"
ALLOWED: Final = "allow"
UNDECIDED: Final = "undecided"


class End(StrEnum):
    """How an exchange ended, as the gateway saw it."""

    COMPLETE = "complete"
    CLIENT_ABORT = "client_abort"
    UPSTREAM_ERROR = "upstream_error"
    TIMEOUT = "timeout"
    LIMIT = "limit"
    REFUSED = "refused"
    GATEWAY_FAILURE = "gateway_failure"


@dataclass(frozen=True, slots=True, kw_only=True)
class Splice:
    """One rewrite of the forwarded body: at byte `offset` of the received body, `deleted` bytes
    gave way to `inserted` bytes (both counts); offsets do not depend on other splices.
    """

    code: str
    offset: int
    deleted: int
    inserted: int

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "code": self.code,
            "del": self.deleted,
            "ins_len": self.inserted,
            "off": self.offset,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestClaims:
    """What came in and what went on to the engine.

    `commitment` and `length` are None together: only where nobody is left who saw the body.
    `forwarded` is the commitment to the forwarded body, None when no byte was changed.
    """

    method: str
    path: str
    content_type: str | None
    commitment: bytes | None
    length: int | None
    partial: bool = False
    forwarded: bytes | None = None
    splices: tuple[Splice, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        members: dict[str, Any] = {"ct": self.content_type, "m": self.method, "p": self.path}
        if self.commitment is not None:
            members |= {"c": base64url.encode(self.commitment), "len": self.length}
        if self.forwarded is not None:
            members["f"] = base64url.encode(self.forwarded)
            members["mod"] = [splice.to_json() for splice in self.splices]
        if self.partial:
            members["part"] = True
        return members


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseClaims:
    """What was committed for delivery to the caller.

    `status` None: no response head existed.  `commitment` and `length` are None together.
    `engine` is the commitment to the engine's bytes, None when they equal the delivered ones.
    """

    end: End
    status: int | None = None
    content_type: str | None = None
    commitment: bytes | None = None
    length: int | None = None
    engine: bytes | None = None
    block_offset: int | None = None
    events: int | None = None
    finish_reasons: tuple[str, ...] = ()
    mods: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        members: dict[str, Any] = {"end": str(self.end)}
        if self.status is not None:
            members |= {"ct": self.content_type, "st": self.status}
        if self.commitment is not None:
            members |= {"c": base64url.encode(self.commitment), "len": self.length}
        if self.engine is not None:
            members["u"] = base64url.encode(self.engine)
        if self.block_offset is not None:
            members["o"] = self.block_offset
        if self.events is not None:
            members["n"] = self.events
        if self.finish_reasons:
            members["fin"] = list(self.finish_reasons)
        if self.mods:
            members["mod"] = list(self.mods)
        return members


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelClaims:
    """The model as asked for (`id`), as the engine named it (`served`), and what is measured."""

    id: str | None = None
    served: str | None = None
    engine: str | None = None
    digest: Digest | None = None
    configuration: Digest | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "cfg": self.configuration.base64url if self.configuration else None,
            "dig": self.digest.base64url if self.digest else None,
            "eng": self.engine,
            "id": self.id,
            "served": self.served,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Token counts as the engine reported them; at least one is known."""

    input: int | None = None
    output: int | None = None
    total: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        counts = (("in", self.input), ("out", self.output), ("total", self.total))
        return {name: count for name, count in counts if count is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try to reach an upstream: its name, whether it is this TD's own engine, what came of it
    (a code) and how long it took in milliseconds.
    """

    upstream: str
    local: bool
    outcome: str
    milliseconds: int

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "local": self.local,
            "ms": self.milliseconds,
            "out": self.outcome,
            "up": self.upstream,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The digest of the caller's grant, and "allow", "undecided" or the code of the refusal."""

    grant: Digest
    code: str

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"dec": self.code, "dig": self.grant.base64url}


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPosition:
    """Where the receipt stands: log origin, its own leaf index, its admission number."""

    origin: str
    index: int
    admission: int

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"adm": self.admission, "i": self.index, "o": self.origin}


@dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """One edge of the lineage graph: `kind` is `DECLARED` by the caller, or `RETRY`: this request
    repeats the one of that receipt.
    """

    kind: str
    digest: Digest

    def to_json(self) -> list[str]:
        """Return the JSON form."""
        return [self.kind, self.digest.base64url]


@dataclass(frozen=True, slots=True, kw_only=True)
class LineageClaims:
    """The task, this call's place in it in seal order (`call` counts from 0), and its parents."""

    txn: str
    span: str
    call: int
    parent_span: str | None = None
    previous: Digest | None = None
    parents: tuple[Parent, ...] = ()

    @property
    def retry_of(self) -> Digest | None:
        """The receipt of the attempt that this one repeats, None if none is named."""
        last = self.parents[-1:]
        return last[0].digest if last and last[0].kind == RETRY else None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        members: dict[str, Any] = {
            "k": self.call,
            "par": [parent.to_json() for parent in self.parents],
            "sp": self.span,
            "txn": self.txn,
        }
        if self.previous is not None:
            members["prev"] = self.previous.base64url
        if self.parent_span is not None:
            members["psp"] = self.parent_span
        return members


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptClaims:
    """Everything one receipt says.  Times are Unix seconds by the guest's clock."""

    issuer: str
    issued_at: int
    jti: str
    bootseed: bytes
    keyset_digest: Digest
    debug: str
    provider: str
    quote_digest: Digest
    request: RequestClaims
    response: ResponseClaims
    model: ModelClaims
    attempts: tuple[Attempt, ...]
    decision: Decision
    subject: Digest
    log: LogPosition
    lineage: LineageClaims
    nonce: str | None = None
    gpu_evidence: Digest | None = None
    usage: Usage | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the payload of the token."""
        members: dict[str, Any] = {
            "act": {"sub": self.subject.base64url},
            "att": [attempt.to_json() for attempt in self.attempts],
            "bootseed": base64url.encode(self.bootseed),
            "dbgstat": self.debug,
            "eat_profile": EAT_PROFILE,
            "iat": self.issued_at,
            "iss": self.issuer,
            "jti": self.jti,
            "keys": self.keyset_digest.base64url,
            "lin": self.lineage.to_json(),
            "log": self.log.to_json(),
            "model": self.model.to_json(),
            "pol": self.decision.to_json(),
            "req": self.request.to_json(),
            "res": self.response.to_json(),
            "submods": self._submodules(),
        }
        if self.nonce is not None:
            members["eat_nonce"] = self.nonce
        if self.usage is not None:
            members["use"] = self.usage.to_json()
        return members

    def encode(self) -> bytes:
        """Return the payload of the token.  Raises `MalformedError` as `jcs.canonicalize`."""
        return jcs.canonicalize(self.to_json())

    def _submodules(self) -> dict[str, Any]:
        tdx = {"provider": self.provider, "quote": self.quote_digest.base64url}
        if self.gpu_evidence is None:
            return {"tdx": tdx}
        return {"gpu": {"evidence": self.gpu_evidence.base64url}, "tdx": tdx}
