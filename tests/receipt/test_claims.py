"""The closed format of the claims: one form for every value, nothing else gets in."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.encoding import jcs
from attestation.errors import MalformedError
from attestation.receipt import text
from attestation.receipt.claims import Attempt, End, Splice, Usage
from attestation.receipt.claims_parser import parse_claims
from attestation.receipt.outcome import ModelFacts, abandoned
from attestation.receipt.seal import claims_of
from tests.receipt.support import (
    JTI,
    body,
    context,
    digest,
    largest_context,
    largest_outcome,
    lineage,
    measured_model,
    outcome,
    payload,
)

ABSENT = object()
B64_32 = "A" * 43


def changed(path: str, value: object, base: dict[str, Any] | None = None) -> dict[str, Any]:
    """A payload in which one member, given by its path, has another value or is absent."""
    document = copy.deepcopy(full() if base is None else base)
    *parents, name = path.split(".")
    holder: Any = document
    for parent in parents:
        holder = holder[int(parent)] if isinstance(holder, list) else holder[parent]
    key = int(name) if isinstance(holder, list) else name
    if value is ABSENT:
        del holder[key]
    else:
        holder[key] = value
    return document


def full() -> dict[str, Any]:
    """A payload with every optional member."""
    claims, _ = claims_of(
        outcome(
            nonce="nonce-of-the-caller",
            request_partial=False,
            forwarded=body(b"forwarded"),
            splices=(Splice(code="cache_salt", offset=1, deleted=0, inserted=60),),
            inserted=(b"x" * 60,),
            engine=body(b"engine"),
            block_offset=3,
            events=2,
            finish_reasons=("stop", "error"),
            mods=("tail",),
            model=ModelFacts(
                id="tiny",
                served="tiny",
                engine="vllm/0.31.0",
            ),
            usage=Usage(input=1, output=2, total=3),
            attempts=(Attempt(upstream="engine", local=True, outcome="ok", milliseconds=4),),
            lineage=lineage(parent_span="1" * 16, parents=("p1", "p2")),
        ),
        context(
            call=2, previous=digest("previous"), gpu_evidence=digest("gpu"), model=measured_model()
        ),
    )
    return claims.to_json()


@pytest.mark.parametrize(
    "document",
    [payload(), full()],
    ids=["smallest", "full"],
)
def test_claims_survive_being_written_and_read(document: dict[str, Any]) -> None:
    claims = parse_claims(document)
    assert claims.to_json() == document
    assert parse_claims(claims.to_json()) == claims


@pytest.mark.parametrize("end", list(End))
def test_every_end_has_a_receipt(end: End) -> None:
    assert parse_claims(payload(end=end)).response.end is end


def test_largest_claims_are_in_the_format() -> None:
    claims, _ = claims_of(largest_outcome(), largest_context())
    assert parse_claims(claims.to_json()) == claims


def test_receipt_for_an_abandoned_exchange_is_in_the_format() -> None:
    told = abandoned(
        jti=JTI,
        method="POST",
        path="/v1/responses",
        sub=digest("key"),
        grant_digest=digest("grant"),
        lineage=lineage(),
    )
    claims, openings = claims_of(told, context())
    document = claims.to_json()
    assert document["req"] == {"ct": None, "m": "POST", "p": "/v1/responses"}
    assert document["res"] == {"end": "gateway_failure"}
    assert parse_claims(document) == claims
    assert openings.to_json() == {}


REQUIRED = """
    iss iat jti eat_profile bootseed keys dbgstat submods req res model att pol act log lin
    submods.tdx submods.tdx.provider submods.tdx.quote submods.gpu.evidence
    req.ct req.m req.p req.mod.0.code req.mod.0.off req.mod.0.del req.mod.0.ins_len
    res.end model.cfg model.dig model.eng model.id model.served
    att.0.local att.0.ms att.0.out att.0.up pol.dec pol.dig act.sub
    log.adm log.i log.o lin.k lin.par lin.sp lin.txn
    req.c req.len req.f req.mod res.c res.len res.st res.ct lin.prev
""".split()  # noqa: SIM905  (last line: members that come in pairs)


@pytest.mark.parametrize("path", REQUIRED)
def test_missing_member_is_refused(path: str) -> None:
    with pytest.raises(MalformedError):
        parse_claims(changed(path, ABSENT))


OBJECTS = ["", "submods", "submods.tdx", "submods.gpu", "req", "req.mod.0", "res", "model"]
OBJECTS += ["use", "att.0", "pol", "act", "log", "lin"]


@pytest.mark.parametrize("path", OBJECTS)
def test_unknown_member_is_refused(path: str) -> None:
    with pytest.raises(MalformedError) as refused:
        parse_claims(changed(f"{path}.zz".lstrip("."), 1))
    assert refused.value.code == "unknown_member"


@pytest.mark.parametrize("path", OBJECTS[1:])
def test_object_of_another_type_is_refused(path: str) -> None:
    others: tuple[object, ...] = ([], None, "text", 1)
    for value in others:
        with pytest.raises(MalformedError):
            parse_claims(changed(path, value))


NOT_NULLABLE = [
    "use.in",
    "eat_nonce",
    "req.c",
    "req.f",
    "res.c",
    "res.u",
    "res.st",
    "res.o",
    "res.n",
]
NOT_NULLABLE += ["lin.prev", "lin.psp", "iss", "att", "lin.par", "res.fin", "res.mod", "req.part"]


@pytest.mark.parametrize("path", NOT_NULLABLE)
def test_null_is_no_way_to_say_absent(path: str) -> None:
    with pytest.raises(MalformedError):
        parse_claims(changed(path, None))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("iss", "with space"),
        ("iss", ""),
        ("iss", "x" * 49),
        ("iat", -1),
        ("iat", 1.5),
        ("iat", True),
        ("iat", 1 << 53),
        ("jti", "A" * 32),
        ("jti", "0" * 31),
        ("eat_profile", "urn:attested-gateway:inference-receipt:2"),
        ("eat_nonce", "short"),
        ("eat_nonce", "n" * 89),
        ("bootseed", "A" * 42),
        ("bootseed", "A" * 42 + "B"),
        ("keys", "x"),
        ("dbgstat", "disabled-since-boot"),
        ("submods.tdx.provider", "no such / name !"),
        ("req.m", "GET"),
        ("req.p", "no-slash"),
        ("req.p", "/" + "p" * 32),
        ("req.ct", 'a"b'),
        ("req.len", -1),
        ("req.part", False),
        ("req.part", 1),
        ("req.mod", []),
        ("req.mod", ["x"]),
        ("req.mod.0.code", "UPPER"),
        ("req.mod.0.off", "1"),
        ("res.end", "done"),
        ("res.st", 99),
        ("res.st", 600),
        ("res.ct", "x" * 41),
        ("res.o", 7),
        ("res.n", -1),
        ("res.fin", []),
        ("res.fin", ["stop", 1]),
        ("res.fin", ["with space"]),
        ("res.fin", ["stop"] * 5),
        ("res.fin", "stop"),
        ("res.mod", []),
        ("res.mod", ["x"] * 5),
        ("res.mod", ["NO"]),
        ("model.id", "with space"),
        ("model.id", "x" * 129),
        ("model.eng", ""),
        ("model.dig", "x"),
        ("use", {}),
        ("use.in", -1),
        ("att", {}),
        ("att.0.local", 1),
        ("att.0.up", ""),
        ("att.0.out", "Out"),
        ("att.0.ms", -1),
        ("pol.dec", ""),
        ("act.sub", "x"),
        ("log.o", "name"),
        ("log.o", "name/0123"),
        ("log.i", 0),
        ("log.adm", -1),
        ("lin.txn", "with space"),
        ("lin.sp", "0" * 15),
        ("lin.psp", "X" * 16),
        ("lin.k", 0),
        ("lin.par", ["d"]),
        ("lin.par", [["d"]]),
        ("lin.par", [["d", B64_32, "x"]]),
        ("lin.par", [["d", 1]]),
        ("lin.par", [["x", B64_32]]),
        ("lin.par", [["d", "short"]]),
        ("lin.par", [["d", B64_32]] * 17),
        ("lin.par", [["r", "short"]]),
        ("lin.par", [["t", B64_32]]),
        ("lin.par", [["R", B64_32]]),
        ("lin.par", [["r", B64_32], ["d", B64_32]]),
        ("lin.par", [["r", B64_32], ["r", B64_32]]),
        ("lin.par", [["d", B64_32]] * 16 + [["r", B64_32]]),
    ],
)
def test_member_out_of_bounds_is_refused(path: str, value: object) -> None:
    with pytest.raises(MalformedError):
        parse_claims(changed(path, value))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("iss", "x" * 48),
        ("iat", 0),
        ("iat", text.MAX_INTEGER),
        ("eat_nonce", "n" * 8),
        ("eat_nonce", "n" * 88),
        ("submods.tdx.provider", "p" * 24),
        ("req.p", "/" + "p" * 31),
        ("req.ct", "x" * 40),
        ("req.ct", None),
        ("req.len", 0),
        ("req.mod.0.code", "c" * 32),
        ("res.st", 100),
        ("res.st", 599),
        ("res.ct", None),
        ("res.o", 6),
        ("res.o", 0),
        ("res.n", 0),
        ("res.fin", ["r" * 32] * 4),
        ("res.mod", ["tail"] * 4),
        ("model.id", "x" * 128),
        ("model.eng", "e" * 40),
        ("use.in", 0),
        ("att", []),
        ("att.0.ms", 0),
        ("log.i", 1),
        ("log.adm", 0),
        ("lin.txn", "x" * 128),
        ("lin.k", 1),
        ("lin.par", [["d", B64_32]] * 16),
        ("lin.par", [["r", B64_32]]),
        ("lin.par", [["d", B64_32]] * 15 + [["r", B64_32]]),
        ("dbgstat", "enabled"),
    ],
)
def test_member_at_its_bound_is_accepted(path: str, value: object) -> None:
    document = changed(path, value)
    assert parse_claims(document).to_json() == document


def test_ends_have_their_documented_names() -> None:
    assert {str(end) for end in End} == {
        "complete",
        "client_abort",
        "upstream_error",
        "timeout",
        "limit",
        "refused",
        "gateway_failure",
    }


def test_too_many_attempts_and_rewrites_are_refused() -> None:
    document = full()
    for path, most in (("att", text.MAX_ATTEMPTS), ("req.mod", text.MAX_SPLICES)):
        holder = document["att"] if path == "att" else document["req"]["mod"]
        full_up = changed(path, holder * most)
        assert parse_claims(full_up).to_json() == full_up
        with pytest.raises(MalformedError):
            parse_claims(changed(path, holder * (most + 1)))


def test_only_a_gateway_failure_lacks_the_commitment_to_the_request() -> None:
    document = payload(request=None)
    with pytest.raises(MalformedError):
        parse_claims(document)
    assert parse_claims(changed("res.end", "gateway_failure", document)).request.commitment is None


def test_only_a_gateway_failure_lacks_the_commitment_to_the_response() -> None:
    document = payload(response=None)
    with pytest.raises(MalformedError):
        parse_claims(document)
    assert parse_claims(changed("res.end", "gateway_failure", document)).response.length is None


def test_block_in_an_unknown_response_is_refused() -> None:
    document = payload(response=None, end=End.GATEWAY_FAILURE, block_offset=1)
    with pytest.raises(MalformedError):
        parse_claims(document)


def test_forwarded_body_without_a_received_one_is_refused() -> None:
    document = payload(
        request=None,
        end=End.GATEWAY_FAILURE,
        forwarded=body(b"x"),
        splices=(Splice(code="x", offset=0, deleted=0, inserted=0),),
    )
    with pytest.raises(MalformedError):
        parse_claims(document)


def test_first_call_of_a_task_has_no_previous_receipt() -> None:
    document = payload()
    assert document["lin"]["k"] == 0
    with pytest.raises(MalformedError):
        parse_claims(changed("lin.prev", B64_32, document))


def test_content_type_without_a_status_is_refused() -> None:
    with pytest.raises(MalformedError):
        parse_claims(changed("res.ct", "text/plain", payload(status=None)))


def test_claims_without_a_response_head_are_accepted() -> None:
    document = payload(status=None, end=End.CLIENT_ABORT)
    assert "ct" not in document["res"]
    assert parse_claims(document).response.status is None


def test_partial_request_is_marked() -> None:
    document = payload(request_partial=True, end=End.CLIENT_ABORT)
    assert document["req"]["part"] is True
    assert parse_claims(document).request.partial


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=4), children, max_size=3)
    ),
    max_leaves=6,
)
MEMBERS = sorted({*REQUIRED, *NOT_NULLABLE, *OBJECTS[1:], "req.part", "use"})


@given(st.sampled_from(MEMBERS), json_values)
def test_any_value_in_any_place_is_refused_or_read_back_the_same(path: str, value: Any) -> None:
    document = changed(path, value)
    try:
        claims = parse_claims(document)
    except MalformedError:
        return
    assert jcs.canonicalize(claims.to_json()) == jcs.canonicalize(document)


@given(st.dictionaries(st.sampled_from(MEMBERS), json_values, max_size=5))
def test_any_object_is_refused(document: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        parse_claims(document)
