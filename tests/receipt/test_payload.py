"""The payload as it is written is the canonical JSON of the claims, whatever they say."""

from __future__ import annotations

import json
from dataclasses import replace
from enum import IntEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.encoding import jcs
from attestation.encoding.digest import Digest
from attestation.errors import MalformedError
from attestation.receipt.claims import (
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
from attestation.receipt.payload import encode_claims
from attestation.receipt.seal import claims_of
from tests.receipt.support import context, largest_context, largest_outcome, outcome

AWKWARD = st.sampled_from(["", '"\\/\x00\x1f\x7f', "é\u2028\U0001f600"])
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=9) | AWKWARD
NUMBER = st.integers(-2, 1 << 40) | st.sampled_from([jcs.MAX_SAFE_INTEGER, -jcs.MAX_SAFE_INTEGER])
BYTES = st.binary(max_size=33)
DIGEST = st.builds(Digest, st.binary(min_size=32, max_size=32))
MAYBE_TEXT = st.none() | TEXT
MAYBE_NUMBER = st.none() | NUMBER
MAYBE_BYTES = st.none() | BYTES
MAYBE_DIGEST = st.none() | DIGEST
TEXTS = st.lists(TEXT, max_size=3).map(tuple)

REQUEST = st.builds(
    RequestClaims,
    method=TEXT,
    path=TEXT,
    content_type=MAYBE_TEXT,
    commitment=MAYBE_BYTES,
    length=MAYBE_NUMBER,
    partial=st.booleans(),
    forwarded=MAYBE_BYTES,
    splices=st.lists(
        st.builds(Splice, code=TEXT, offset=NUMBER, deleted=NUMBER, inserted=NUMBER), max_size=2
    ).map(tuple),
)
RESPONSE = st.builds(
    ResponseClaims,
    end=st.sampled_from(End),
    status=MAYBE_NUMBER,
    content_type=MAYBE_TEXT,
    commitment=MAYBE_BYTES,
    length=MAYBE_NUMBER,
    engine=MAYBE_BYTES,
    block_offset=MAYBE_NUMBER,
    events=MAYBE_NUMBER,
    finish_reasons=TEXTS,
    mods=TEXTS,
)
MODEL = st.builds(
    ModelClaims,
    id=MAYBE_TEXT,
    served=MAYBE_TEXT,
    engine=MAYBE_TEXT,
    digest=MAYBE_DIGEST,
    configuration=MAYBE_DIGEST,
)
LINEAGE = st.builds(
    LineageClaims,
    txn=TEXT,
    span=TEXT,
    call=NUMBER,
    parent_span=MAYBE_TEXT,
    previous=MAYBE_DIGEST,
    parents=st.lists(st.builds(Parent, kind=TEXT, digest=DIGEST), max_size=3).map(tuple),
)
ATTEMPT = st.builds(Attempt, upstream=TEXT, local=st.booleans(), outcome=TEXT, milliseconds=NUMBER)
CLAIMS = st.builds(
    ReceiptClaims,
    issuer=TEXT,
    issued_at=NUMBER,
    jti=TEXT,
    bootseed=BYTES,
    keyset_digest=DIGEST,
    debug=TEXT,
    provider=TEXT,
    quote_digest=DIGEST,
    request=REQUEST,
    response=RESPONSE,
    model=MODEL,
    attempts=st.lists(ATTEMPT, max_size=3).map(tuple),
    decision=st.builds(Decision, grant=DIGEST, code=TEXT),
    subject=DIGEST,
    log=st.builds(LogPosition, origin=TEXT, index=NUMBER, admission=NUMBER),
    lineage=LINEAGE,
    nonce=MAYBE_TEXT,
    gpu_evidence=MAYBE_DIGEST,
    usage=st.none() | st.builds(Usage, input=MAYBE_NUMBER, output=MAYBE_NUMBER, total=MAYBE_NUMBER),
)


class Status(IntEnum):
    OK = 200


def canonical(claims: ReceiptClaims) -> bytes:
    return jcs.canonicalize(claims.to_json())


@given(CLAIMS)
def test_written_payload_is_the_canonical_json_of_the_claims(claims: ReceiptClaims) -> None:
    assert encode_claims(claims) == canonical(claims)
    assert jcs.canonicalize(json.loads(encode_claims(claims))) == encode_claims(claims)


@pytest.mark.parametrize("parents", [0, 1, 16])
def test_largest_claims_are_written_canonically(parents: int) -> None:
    claims, _ = claims_of(largest_outcome(parents), largest_context())
    assert encode_claims(claims) == canonical(claims)


def test_smallest_claims_are_written_canonically() -> None:
    told = outcome(end=End.GATEWAY_FAILURE, request=None, status=None, response=None)
    claims, _ = claims_of(told, context())
    assert encode_claims(claims) == canonical(claims)


def test_number_of_an_enumeration_is_written_as_its_digits() -> None:
    claims, _ = claims_of(outcome(status=Status.OK), context())
    assert b'"st":200}' in encode_claims(claims)
    assert encode_claims(claims) == canonical(claims)


@pytest.mark.parametrize("number", [1 << 53, -(1 << 53)])
def test_number_beyond_the_safe_integers_is_refused(number: int) -> None:
    claims, _ = claims_of(outcome(), context())
    with pytest.raises(MalformedError, match="integer") as caught:
        encode_claims(replace(claims, issued_at=number))
    assert caught.value.code == "jcs"


def test_lone_surrogate_is_refused() -> None:
    claims, _ = claims_of(outcome(), context())
    with pytest.raises(MalformedError, match="surrogate") as caught:
        encode_claims(replace(claims, issuer="\ud800"))
    assert caught.value.code == "jcs"
