"""Is the boot alive now: a fresh quote of its trust domain over a nonce of the caller's?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from attestation.encoding import base64url
from attestation.encoding.counts import counted
from attestation.encoding.members import Members
from attestation.errors import EvidenceError, MalformedError, UsageError
from attestation.merkle.tree import leaf_hash, verify_inclusion
from attestation.policy import NO_POLICY
from attestation.statement import parse_challenge_statement
from attestation.tdx.quote import MAX_QUOTE_BYTES
from attestation.verifier.appraisal import (
    FILE,
    Appraised,
    appraise_boots,
    appraise_domain,
    collateral_of,
    conclude,
    read_quote,
)
from attestation.verifier.bootchain import check_boot_chain
from attestation.verifier.epochs import appraise_epochs
from attestation.verifier.equivocation import (
    SignedState,
    check_equivocation,
    find_contradictions,
)
from attestation.verifier.grounds import Grounds
from attestation.verifier.ledger import Ledger
from attestation.verifier.running import find_stranger, grounds_of
from attestation.verifier.scopes import BOOT_SCOPE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attestation.bundle import BootEvidence, Bundle
    from attestation.encoding.strict_json import JsonValue
    from attestation.policy import Policy
    from attestation.result import AttestationResult
    from attestation.statement import ChallengeStatement
    from attestation.tdx.anchor import Anchor
    from attestation.tdx.quote import Quote
    from attestation.verifier.high_water import HighWater
    from attestation.verifier.ledger import Page

SUBJECT = "challenge"
NONCE_BYTES = 32
_MAX_PATH = 53  # of a tree whose size is an integer that JSON carries exactly


@dataclass(frozen=True, slots=True, kw_only=True)
class ChallengeEvidence:
    """What a gateway answers to a nonce: a quote over a tree of nonces, and the nonce's place.

    The quote reports the statement; `path` is the RFC 6962 audit path (32-byte hashes, leaf
    first) of leaf `index` among `count` to the statement's `nonce_root`.
    """

    statement: ChallengeStatement
    quote: bytes
    index: int
    count: int
    path: tuple[bytes, ...]


def parse_challenge(value: JsonValue) -> ChallengeEvidence:
    """Return the `challenge` of an answer to `GET /v1/attestation?nonce=…`: closed members.

    What is hashed is the RFC 8785 form of the parsed statement.  The quote is only decoded.
    Raises `MalformedError`.
    """
    members = Members(value, "the challenge")
    challenge = ChallengeEvidence(
        statement=parse_challenge_statement(members.raw("statement")),
        quote=members.bytes_base64url("quote", max_bytes=MAX_QUOTE_BYTES),
        index=members.integer("index"),
        count=members.integer("count", minimum=1),
        path=tuple(_node(item) for item in members.array("path", max_items=_MAX_PATH)),
    )
    members.close()
    return challenge


def verify_challenge(
    bundle: Bundle,
    challenge: ChallengeEvidence,
    nonce: bytes,
    policy: Policy | None,
    at: int,
    anchors: Sequence[Anchor],
    *,
    high_water: HighWater | None = None,
) -> AttestationResult:
    """Return what the answer to `nonce` (32 bytes, drawn for this one question) proves.

    1. the boot, as `verify_boots` does; `bundle` holds exactly that one
    2. the challenge's quote, under the root of the boot's: format, genuine with the boot's
       endorsements
    3. it reports the challenge's statement, the statement names this boot, and the quote shows
       the trust domain and platform of the boot's quote
    4. the nonce is in the tree that the statement names
    5. endorsements, TCB, attributes, module, platform, measurements and event log, by the checks
       that the boot's quote goes through
    6. the log of the statement does not contradict the epochs in the bundle, if there are any

    A result that is accepted says that this boot ran after the nonce was drawn.  It does not say
    who is at the other end of a connection.  `high_water` is what was seen of endorsements before.
    Raises `UsageError` for another number of boots, a nonce of another length, no anchor, or an
    instant outside 1970-9999.
    """
    boot = _only_boot(bundle)
    _require_nonce(nonce)
    grounds = Grounds(
        policy=policy or NO_POLICY, at=at, anchors=tuple(anchors), high_water=high_water
    )
    ledger = Ledger((grounds.policy.required & BOOT_SCOPE) | {"NONCE"})
    boots = appraise_boots(bundle, grounds, ledger)
    epochs = appraise_epochs(bundle, boots, grounds, ledger)
    check_boot_chain(boots.values(), epochs.quoted, ledger)
    (known,) = boots.values()
    page = ledger.about(SUBJECT)
    own = grounds_of(known, grounds)
    quote, genuine = read_quote(challenge.quote, collateral_of(boot, bundle), own, page)
    _check_statement(challenge.statement, quote, known, page)
    _check_nonce(challenge, nonce, page)
    appraise_domain(genuine, boot, own, page)
    if epochs.quoted:
        states = [epoch.state for epoch in epochs.quoted]
        if genuine is not None and "BOOT-STATEMENT" not in page.flaws:
            states.append(_state(challenge.statement))
        contradictions = find_contradictions((), epochs.quoted, states)
        check_equivocation(contradictions, len(states), ledger.about(FILE))
    ledger.close(FILE)
    answered = replace(known, quote=quote, genuine=genuine)
    return conclude(ledger, grounds, (known, *epochs.appraised, answered))


def _check_statement(
    statement: ChallengeStatement, quote: Quote | None, known: Appraised, page: Page
) -> None:
    """BOOT-STATEMENT: a quote of this very domain reports a statement about this very boot."""
    if quote is None or known.quote is None:
        page.skipped("BOOT-STATEMENT", "the challenge's or the boot's quote could not be read")
        return
    complaint = find_stranger("challenge", statement, quote, known, known.quote)
    if complaint is None:
        page.passed("BOOT-STATEMENT", "REPORTDATA is the statement's hash")
    else:
        page.contradicted("BOOT-STATEMENT", complaint)


def _state(statement: ChallengeStatement) -> SignedState:
    return SignedState(
        bootseed=statement.bootseed,
        size=statement.size,
        root=statement.root.value,
        source="the challenge",
    )


def _check_nonce(challenge: ChallengeEvidence, nonce: bytes, page: Page) -> None:
    """NONCE: it is a leaf of the tree that was quoted, so the quote was made after it."""
    try:
        verify_inclusion(
            leaf_hash=leaf_hash(nonce),
            index=challenge.index,
            size=challenge.count,
            path=challenge.path,
            root=challenge.statement.nonce_root.value,
        )
    except EvidenceError as error:
        page.refused("NONCE", error, hint="ask again with a new nonce")
        return
    page.passed("NONCE", f"nonce {challenge.index + 1} of {challenge.count} under the quoted root")


def _node(item: object) -> bytes:
    if not isinstance(item, str):
        raise MalformedError(
            "the challenge.path is malformed",
            code="member_type",
            expected="an array of strings",
        )
    return base64url.decode(item, what="the challenge.path", length=32)


def _only_boot(bundle: Bundle) -> BootEvidence:
    if len(bundle.boots) != 1:
        raise UsageError(
            "a challenge is the answer of one boot",
            code="boots",
            expected="a bundle with exactly one boot",
            observed=counted(len(bundle.boots), "boot"),
        )
    return bundle.boots[0]


def _require_nonce(nonce: bytes) -> None:
    if len(nonce) != NONCE_BYTES:
        raise UsageError(
            "a challenge nonce has the wrong length",
            code="nonce",
            expected=f"{NONCE_BYTES} bytes",
            observed=counted(len(nonce), "byte"),
        )
