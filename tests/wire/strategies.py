"""Everything a worker may say, drawn over the whole of what receipts can hold."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from attestation.encoding.digest import Digest
from attestation.lineage.context import LineageContext
from attestation.receipt import text
from attestation.receipt.claims import Attempt, End, Splice, Usage
from attestation.receipt.outcome import Body, ModelFacts, Outcome
from gateway.notary.interface import Announcement

NUMBERS = st.integers(0, text.MAX_INTEGER)
DIGESTS = st.binary(min_size=32, max_size=32).map(Digest)
BODIES = st.builds(Body, digest=DIGESTS, length=NUMBERS)
CODES = st.from_regex(text.CODE, fullmatch=True)
CALLER_TEXT = st.from_regex(text.CALLER_TEXT, fullmatch=True)
TYPES = st.none() | st.from_regex(text.CONTENT_TYPE, fullmatch=True)
JTIS = st.from_regex(text.RECEIPT_ID, fullmatch=True)
PATHS = st.from_regex(text.PATH, fullmatch=True)
LINEAGES = st.builds(
    LineageContext,
    txn=CALLER_TEXT,
    span=st.from_regex(text.SPAN, fullmatch=True),
    parent_span=st.none() | st.from_regex(text.SPAN, fullmatch=True),
    parents=st.lists(CALLER_TEXT, max_size=text.MAX_PARENTS).map(tuple),
)
MODELS = st.builds(
    ModelFacts,
    id=st.none() | CALLER_TEXT,
    served=st.none() | CALLER_TEXT,
    engine=st.none() | st.from_regex(text.ENGINE, fullmatch=True),
)
USAGES = st.builds(Usage, input=st.none() | NUMBERS, output=NUMBERS, total=st.none() | NUMBERS)
ATTEMPTS = st.builds(
    Attempt,
    upstream=st.from_regex(text.LABEL, fullmatch=True),
    local=st.booleans(),
    outcome=CODES,
    milliseconds=NUMBERS,
)
ANNOUNCEMENTS = st.builds(
    Announcement,
    jti=JTIS,
    method=st.just("POST"),
    path=PATHS,
    sub=DIGESTS,
    grant_digest=DIGESTS,
    lineage=st.none() | LINEAGES,
)


@st.composite
def drawn_outcomes(draw: st.DrawFn) -> Outcome:
    """An outcome that does not contradict itself."""
    end = draw(st.sampled_from(list(End)))
    bodies = st.none() | BODIES if end is End.GATEWAY_FAILURE else BODIES
    request, response = draw(bodies), draw(bodies)
    inserted: tuple[bytes, ...] = ()
    if request is not None:
        pieces = st.lists(st.binary(max_size=40), max_size=text.MAX_SPLICES)
        inserted = tuple(draw(pieces))
    splices = tuple(
        Splice(code=draw(CODES), offset=draw(NUMBERS), deleted=draw(NUMBERS), inserted=len(piece))
        for piece in inserted
    )
    delivered = response.length if response else 0
    facts: dict[str, Any] = {
        "finish_reasons": draw(_texts(text.REASON, text.MAX_REASONS + 1)),
        "mods": draw(_texts(text.CODE, text.MAX_MODS)),
        "attempts": tuple(draw(st.lists(ATTEMPTS, max_size=text.MAX_ATTEMPTS))),
        "usage": draw(st.none() | USAGES),
        "model": draw(st.just(ModelFacts()) | MODELS),
    }
    return Outcome(
        jti=draw(JTIS),
        method="POST",
        path=draw(PATHS),
        sub=draw(DIGESTS),
        grant_digest=draw(DIGESTS),
        lineage=replace(draw(LINEAGES), repeated=draw(st.booleans())),
        inline=draw(st.booleans()),
        end=end,
        decision=draw(CODES),
        nonce=draw(st.none() | st.from_regex(text.NONCE, fullmatch=True)),
        request=request,
        request_type=draw(TYPES),
        request_partial=draw(st.booleans()),
        forwarded=draw(BODIES) if splices else None,
        splices=splices,
        inserted=inserted,
        status=draw(st.none() | st.integers(100, 599)),
        response=response,
        response_type=draw(TYPES),
        engine=draw(st.none() | BODIES),
        block_offset=draw(st.none() | st.integers(0, delivered)),
        events=draw(st.none() | NUMBERS),
        **facts,
    )


def _texts(pattern: Any, longest: int) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.from_regex(pattern, fullmatch=True), max_size=longest).map(tuple)
