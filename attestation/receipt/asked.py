"""The request's side of an exchange: what was announced, received, decided, planned and tried."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from attestation.encoding.making import maker_of
from attestation.receipt import text
from attestation.receipt.claims import ALLOWED, UNDECIDED, Attempt
from attestation.receipt.delivery import RunningBody
from attestation.receipt.order import misuse, require_fit
from attestation.receipt.plan import NOTHING, ForwardPlan, require_consistent

if TYPE_CHECKING:
    from attestation.encoding.digest import Digest
    from attestation.receipt.outcome import LineageContext


_attempt = maker_of(Attempt)


@dataclass(slots=True, kw_only=True)
class Asked:
    """What is known of a request; whether a step comes in its turn is the exchange's to say.

    Every step raises `LocalProtocolError` for values that no receipt could hold.
    """

    jti: str
    method: str
    path: str
    sub: Digest
    grant_digest: Digest
    nonce: str | None
    lineage: LineageContext
    decision: str = UNDECIDED
    body: RunningBody = field(default_factory=RunningBody)
    pieces: list[bytes] = field(default_factory=list)
    content_type: str | None = None
    partial: bool = True
    model_id: str | None = None
    engine: str | None = None
    plan: ForwardPlan = NOTHING
    attempts: list[Attempt] = field(default_factory=list)

    def __post_init__(self) -> None:
        require_fit(text.RECEIPT_ID, self.jti, "a receipt id")
        require_fit(text.METHOD, self.method, "a method")
        require_fit(text.PATH, self.path, "a path")
        if self.nonce is not None:
            require_fit(text.NONCE, self.nonce, "a receipt nonce")

    def receive(self, data: bytes) -> None:
        """Take a piece of the body."""
        self.body.update(data)
        self.pieces.append(data)

    def ended(self, content_type: str | None, *, complete: bool) -> None:
        """Note that no more of the body comes."""
        self.content_type = text.fitting(text.CONTENT_TYPE, content_type)
        self.partial = not complete

    def decide(self, code: str) -> None:
        """Record the decision."""
        if code != ALLOWED:
            require_fit(text.CODE, code, "a decision code")
        self.decision = code

    def name_model(self, model_id: str | None, engine: str | None) -> None:
        """Record the model asked for and the engine; text outside its alphabet becomes None."""
        self.model_id = text.fitting(text.CALLER_TEXT, model_id)
        self.engine = text.fitting(text.ENGINE, engine)

    def fix(self, plan: ForwardPlan) -> None:
        """Record what goes to the engine: of a whole request that was allowed."""
        if self.decision != ALLOWED or self.partial:
            raise misuse("only a whole request that was allowed is forwarded", "plan")
        require_consistent(plan, self.pieces)
        self.plan = plan
        self.pieces = []

    def tried(self, upstream: str, *, local: bool, outcome: str, milliseconds: int) -> None:
        """Record a try to reach an upstream.  Of many, the first two and the last are kept."""
        require_fit(text.LABEL, upstream, "an upstream name")
        require_fit(text.CODE, outcome, "an attempt's outcome")
        del self.attempts[text.MAX_ATTEMPTS - 1 :]
        self.attempts.append(
            _attempt(
                upstream=upstream,
                local=local,
                outcome=outcome,
                milliseconds=max(0, milliseconds),
            )
        )
