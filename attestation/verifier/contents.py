"""What a verifier holds beside the bundle: bodies, the nonce it sent, the key it was talking to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attestation.encoding.digest import Digest
    from attestation.statement.model_lock import ModelLock

BODY_CHECKS = frozenset({"REQUEST-BODY", "FORWARDED-BODY", "ENGINE-BODY", "RESPONSE-BODY"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What is known of one exchange besides its receipt; None: not known.

    `request` and `response` are the bodies exactly as sent and received, the response with its
    in-band block (without it only where some openings are withheld); `engine` is what the
    engine sent, where that differs.  `nonce` is what the caller sent.  `model_lock` is the lock of
    the model that is to have answered.  `peer_spki` is the
    SHA-256 of the SubjectPublicKeyInfo that the connection ended at.  `demanded` are ids of body
    checks that must not stay open.
    """

    request: bytes | None = field(default=None, repr=False)
    response: bytes | None = field(default=None, repr=False)
    engine: bytes | None = field(default=None, repr=False)
    nonce: str | None = None
    model_lock: ModelLock | None = None
    peer_spki: Digest | None = None
    demanded: frozenset[str] = frozenset()

    @property
    def must_check(self) -> frozenset[str]:
        """The body checks that were asked for, by name or by giving a body."""
        given = {"REQUEST-BODY": self.request, "RESPONSE-BODY": self.response}
        return self.demanded | {id_ for id_, body in given.items() if body is not None}


NOTHING = Contents()
