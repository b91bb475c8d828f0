"""The auditor's side of these tests: the one pipeline, over files' worth of bytes only."""

from __future__ import annotations

import time
from dataclasses import replace

from attestation.bundle import parse_bundle
from attestation.receipt.claims import End, ReceiptClaims
from attestation.receipt.signing import parse_receipt
from attestation.result import Status, Verdict
from attestation.verifier import Contents, verify
from gateway.client.call import Call, Ended
from gateway.client.session import Session
from tests.support.serving import Served

# What has to be proved of every exchange, of what was forwarded, and of what was read to its end.
BOUND = frozenset(("RECEIPT-SIGNATURE", "RECEIPT-BINDING", "NONCE", "REQUEST-BODY"))
FORWARDED, ANSWERED = frozenset(("FORWARDED-BODY",)), frozenset(("RESPONSE-BODY",))
FROM_ENGINE = frozenset(("ENGINE-BODY",))


def audited(session: Session, gateway: Served) -> list[ReceiptClaims]:
    """The claims of every call of the session, in the order the calls ended.

    The bundle is written and read back, and verified with the bytes that really went over the
    wire: every check must hold for every receipt, on simulated evidence.  One changed byte of
    any body must not.
    """
    calls, trust = session.calls, gateway.trust()
    bundle = parse_bundle(session.bundle().encode())
    contents = {_claims(call).jti: _contents(call) for call in calls}
    assert len(contents) == len(calls) == len(bundle.receipts)
    at = int(time.time())
    result = verify(bundle, trust.policy, at, trust.anchors, contents)
    assert result.verdict is Verdict.SIMULATED, [c for c in result.checks if c.fault]
    passed = {(check.subject, check.id) for check in result.checks if check.status is Status.PASS}
    for call in calls:
        claims = _claims(call)
        wanted = {(f"receipt {claims.jti}", id_) for id_ in _wanted(call, claims)}
        assert not wanted - passed, call.ended
    changed = {jti: replace(known, request=_flipped(known)) for jti, known in contents.items()}
    refused = verify(bundle, trust.policy, at, trust.anchors, changed)
    assert refused.verdict is Verdict.REJECTED
    return [_claims(call) for call in calls]


def audited_one(session: Session, gateway: Served) -> ReceiptClaims:
    """`audited`, for a session of one call."""
    (claims,) = audited(session, gateway)
    return claims


def _wanted(call: Call, claims: ReceiptClaims) -> frozenset[str]:
    forwarded = claims.decision.code == "allow"
    complete = call.ended is Ended.COMPLETE
    # What was inserted comes with an answer only: who leaves before its end never gets it.
    disclosed = complete or not claims.request.splices
    wanted = BOUND | (FORWARDED if forwarded and disclosed else frozenset())
    if complete:
        # Where the engine broke off, the caller got the gateway's words after the engine's.
        engine = forwarded and claims.response.end is End.COMPLETE
        wanted |= ANSWERED | (FROM_ENGINE if engine else frozenset())
    return wanted


def _contents(call: Call) -> Contents:
    whole = call.ended is Ended.COMPLETE
    return Contents(
        request=call.request_body,
        response=call.response_body if whole else None,
        nonce=call.nonce,
        peer_spki=call.peer,
    )


def _claims(call: Call) -> ReceiptClaims:
    assert call.receipt is not None, f"{call.path} {call.status} has no receipt"
    return parse_receipt(call.receipt).claims


def _flipped(contents: Contents) -> bytes:
    assert contents.request is not None
    return contents.request[:-1] + bytes([contents.request[-1] ^ 1])
