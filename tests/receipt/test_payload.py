"""The payload as it is written is the canonical JSON of the claims, whatever they say."""

from __future__ import annotations

import hmac
import json
from dataclasses import replace
from enum import IntEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.encoding import base64url, jcs
from attestation.encoding.digest import Digest
from attestation.errors import MalformedError
from attestation.receipt.claims import Attempt, End, Splice, Usage
from attestation.receipt.commitments import Committer, commit, commitment_key
from attestation.receipt.fitting import MAX_PAYLOAD_BYTES
from attestation.receipt.outcome import Body, LineageContext, ModelFacts, Outcome
from attestation.receipt.payload import PayloadWriter, Place
from attestation.receipt.seal import SealContext, claims_of
from attestation.receipt.sealer import Sealer
from attestation.receipt.signing import MAX_TOKEN_BYTES
from attestation.statement.model_lock import MeasuredModel
from tests.receipt.support import (
    context,
    digest,
    key_of,
    largest_context,
    largest_outcome,
    outcome,
    private_key,
)

AWKWARD = st.sampled_from(["", '"\\/\x00\x1f\x7f', "é\u2028\U0001f600"])
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=9) | AWKWARD
NUMBER = st.integers(0, 1 << 40) | st.sampled_from([0, jcs.MAX_SAFE_INTEGER])
DIGEST = st.builds(Digest, st.binary(min_size=32, max_size=32))
MAYBE_TEXT = st.none() | TEXT
MAYBE_NUMBER = st.none() | NUMBER
MAYBE_DIGEST = st.none() | DIGEST
TEXTS = st.lists(TEXT, max_size=3).map(tuple)
JTI = st.text("0123456789abcdef", min_size=32, max_size=32)
MAYBE_BODY = st.none() | st.builds(Body, digest=DIGEST, length=NUMBER)
KNOWN = "0123456789abcdef0123456789abcdef"
PARENT = TEXT | st.sampled_from(["0" * 64, f"resp_{KNOWN}", base64url.encode(bytes(32)), "ä"])

OUTCOMES = st.builds(
    Outcome,
    jti=JTI,
    method=TEXT,
    path=TEXT,
    sub=DIGEST,
    grant_digest=DIGEST,
    lineage=st.builds(
        LineageContext,
        txn=TEXT,
        span=TEXT,
        parent_span=MAYBE_TEXT,
        parents=st.lists(PARENT, max_size=4).map(tuple),
    ),
    inline=st.booleans(),
    end=st.sampled_from(End),
    decision=TEXT,
    nonce=MAYBE_TEXT,
    request=MAYBE_BODY,
    request_type=MAYBE_TEXT,
    request_partial=st.booleans(),
    forwarded=MAYBE_BODY,
    splices=st.lists(
        st.builds(Splice, code=TEXT, offset=NUMBER, deleted=NUMBER, inserted=NUMBER), max_size=2
    ).map(tuple),
    inserted=st.lists(st.binary(max_size=9), max_size=2).map(tuple),
    status=MAYBE_NUMBER,
    response=MAYBE_BODY,
    response_type=MAYBE_TEXT,
    engine=MAYBE_BODY,
    block_offset=MAYBE_NUMBER,
    events=MAYBE_NUMBER,
    finish_reasons=TEXTS,
    mods=TEXTS,
    model=st.builds(ModelFacts, id=MAYBE_TEXT, served=MAYBE_TEXT, engine=MAYBE_TEXT),
    usage=st.none() | st.builds(Usage, input=MAYBE_NUMBER, output=MAYBE_NUMBER, total=MAYBE_NUMBER),
    attempts=st.lists(
        st.builds(Attempt, upstream=TEXT, local=st.booleans(), outcome=TEXT, milliseconds=NUMBER),
        max_size=3,
    ).map(tuple),
)
CONTEXTS = st.builds(
    SealContext,
    issuer=TEXT,
    issued_at=NUMBER,
    bootseed=st.binary(max_size=33),
    boot_secret=st.binary(max_size=70),
    keyset_digest=DIGEST,
    debug=TEXT,
    provider=TEXT,
    quote_digest=DIGEST,
    log_origin=TEXT,
    index=NUMBER,
    admission=NUMBER,
    call=NUMBER,
    previous=MAYBE_DIGEST,
    gpu_evidence=MAYBE_DIGEST,
    model=st.none() | st.builds(MeasuredModel, digest=DIGEST, engine=TEXT, arguments_digest=DIGEST),
    known=st.just({}) | st.fixed_dictionaries({KNOWN: DIGEST}),
    repeats=MAYBE_DIGEST,
)


class Status(IntEnum):
    OK = 200


def place_of(known: SealContext) -> Place:
    return Place(
        issued_at=known.issued_at,
        leaf=known.index,
        admission=known.admission,
        call=known.call,
        previous=known.previous,
        known=known.known,
        repeats=known.repeats,
    )


def written(told: Outcome, known: SealContext) -> bytes:
    return PayloadWriter(known).write(told, place_of(known))[0]


@given(OUTCOMES, CONTEXTS)
def test_written_payload_is_the_canonical_json_of_the_claims(
    told: Outcome, known: SealContext
) -> None:
    payload, keys = PayloadWriter(known).write(told, place_of(known))
    claims, openings = claims_of(told, known)
    assert payload == jcs.canonicalize(claims.to_json())
    assert jcs.canonicalize(json.loads(payload)) == payload
    assert keys == openings.keys


@given(st.binary(max_size=130), JTI, DIGEST)
def test_quick_commitments_are_hmacs(secret: bytes, jti: str, body: Digest) -> None:
    told = outcome(jti=jti, request=Body(digest=body, length=1), response=None)
    key = commitment_key(secret, "req", jti)
    assert Committer(secret).commit(told) == ({"req": key}, {"req": commit(key, body)})
    message = f"attested-gateway/commit/v1/req/{jti}".encode()
    assert key == hmac.digest(secret, message, "sha256")


@pytest.mark.parametrize("repeats", [None, digest("attempt")])
@pytest.mark.parametrize("parents", range(17))
def test_largest_receipt_is_that_of_the_claims_that_fit(
    parents: int, repeats: Digest | None
) -> None:
    private, told = private_key(), largest_outcome(parents)
    known = replace(largest_context(), repeats=repeats)
    sealer = Sealer(known, private, key_of(private).kid)
    signed = sealer.seal(told, place_of(known))
    claims, openings = claims_of(told, known)
    head, payload, _ = signed.token.split(".")
    assert base64url.decode(payload) == jcs.canonicalize(claims.to_json())
    assert signed.openings == openings
    assert signed.digest == Digest.of(f"{head}.{payload}".encode())
    assert len(signed.token) <= MAX_TOKEN_BYTES


def test_payload_that_is_too_large_is_seen_before_it_is_signed() -> None:
    sizes = [len(written(largest_outcome(parents), largest_context())) for parents in range(17)]
    assert sizes[0] <= MAX_PAYLOAD_BYTES < sizes[16]


def test_smallest_claims_are_written_canonically() -> None:
    told = outcome(end=End.GATEWAY_FAILURE, request=None, status=None, response=None)
    assert written(told, context()) == claims_of(told, context())[0].encode()


def test_parents_stand_for_what_they_are_known_as() -> None:
    told = outcome(lineage=LineageContext(txn="t", span="0" * 16, parents=(KNOWN,)))
    known = context(known={KNOWN: digest("parent")})
    assert f'"par":[["d","{digest("parent").base64url}"]]'.encode() in written(told, known)


def test_repeated_attempt_is_written_after_the_declared_parents() -> None:
    told = outcome(lineage=LineageContext(txn="t", span="0" * 16, parents=(KNOWN,)))
    known = context(known={KNOWN: digest("parent")}, repeats=digest("attempt"))
    pairs = f'["d","{digest("parent").base64url}"],["r","{digest("attempt").base64url}"]'
    assert f'"par":[{pairs}]'.encode() in written(told, known)


def test_number_of_an_enumeration_is_written_as_its_digits() -> None:
    told = outcome(status=Status.OK)
    assert b'"st":200}' in written(told, context())
    assert written(told, context()) == claims_of(told, context())[0].encode()


BEYOND = {
    "index": (outcome(), {"index": 1 << 53}),
    "admission": (outcome(), {"admission": -1}),
    "length": (outcome(response=Body(digest=digest("x"), length=1 << 53)), {}),
    "events": (outcome(events=1 << 60), {}),
    "tokens": (outcome(usage=Usage(output=1 << 53)), {}),
    "milliseconds": (
        outcome(attempts=(Attempt(upstream="e", local=True, outcome="ok", milliseconds=-1),)),
        {},
    ),
    "rewrite": (outcome(splices=(Splice(code="c", offset=1 << 53, deleted=0, inserted=0),)), {}),
}


@pytest.mark.parametrize("case", BEYOND)
def test_number_beyond_the_safe_integers_is_refused(case: str) -> None:
    told, changes = BEYOND[case]
    with pytest.raises(MalformedError, match="integer") as caught:
        written(told, context(**changes))
    assert caught.value.code == "jcs"


def test_lone_surrogate_is_refused() -> None:
    with pytest.raises(MalformedError, match="surrogate") as caught:
        written(outcome(decision="\ud800"), context())
    assert caught.value.code == "jcs"
