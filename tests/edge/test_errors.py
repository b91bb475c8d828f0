"""The gateway's own answers: their forms, their codes, and the document that lists them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from attestation.receipt import text
from attestation.receipt.dialect import Dialect
from gateway.edge import failures
from gateway.edge.errors import Refusal, error_body, error_frame, is_anthropic
from gateway.edge.limits import EdgeLimits
from gateway.edge.routes import PATHS
from gateway.errors import UpstreamError, UpstreamFailure

DOCUMENT = (Path(__file__).parents[2] / "docs/spec/http.md").read_text(encoding="utf-8")
LIMITS = EdgeLimits()
CONSTANTS = [value for value in vars(failures).values() if isinstance(value, Refusal)]
UPSTREAM = [failures.upstream_failed(UpstreamError(kind, "x")) for kind in UpstreamFailure]
MADE = [
    failures.body_too_large(LIMITS),
    failures.body_too_slow(LIMITS),
    failures.answer_too_large(LIMITS),
]
ALL = [*CONSTANTS, failures.OVERLOADED[0], *UPSTREAM, *MADE]


@pytest.mark.parametrize("refusal", ALL, ids=lambda refusal: refusal.code)
def test_every_failure_has_a_code_a_receipt_can_carry_and_stands_in_the_document(
    refusal: Refusal,
) -> None:
    assert text.CODE.fullmatch(refusal.code)
    assert refusal.message
    # "closed" is how a request ends whose caller left: nobody is there to be told; "status" is what
    # became of a try that another one followed.
    if refusal.code not in {"upstream_closed", "upstream_status", "route_not_granted"}:
        assert f"`{refusal.code}`" in DOCUMENT


RAN = {
    UpstreamFailure.TIMEOUT_FIRST_BYTE,
    UpstreamFailure.TIMEOUT_IDLE,
    UpstreamFailure.TIMEOUT_TOTAL,
    UpstreamFailure.MALFORMED,
    UpstreamFailure.INCOMPLETE,
}


@pytest.mark.parametrize("kind", UpstreamFailure)
def test_what_the_engine_worked_on_is_not_to_be_repeated(kind: UpstreamFailure) -> None:
    headers = dict(failures.upstream_failed(UpstreamError(kind, "x")).headers)
    if kind in RAN:
        assert headers == {b"x-should-retry": b"false"}
    else:
        assert int(headers[b"retry-after"]) >= 1
        assert b"x-should-retry" not in headers


@pytest.mark.parametrize(
    "refusal",
    [refusal for refusal in ALL if refusal.status in (429, 500, 502, 503, 504)],
    ids=lambda refusal: refusal.code,
)
def test_every_answer_that_an_sdk_would_repeat_says_whether_and_when(refusal: Refusal) -> None:
    if refusal is not failures.STREAM_BROKE:  # an event in a stream, which has no headers
        names = {name for name, _ in refusal.headers}
        assert len(names & {b"x-should-retry", b"retry-after"}) == 1


def test_those_turned_away_together_are_not_told_to_come_back_together() -> None:
    waits = [dict(refusal.headers)[b"retry-after"] for refusal in failures.OVERLOADED]
    assert waits == [b"1", b"2", b"3"]


def test_codes_are_distinct() -> None:
    codes = [refusal.code for refusal in ALL]
    # A stream that only breaks off is told like one that was cut, and a failure of ours is one
    # with and without a receipt.
    twice = {code for code in codes if codes.count(code) > 1}
    assert twice == {"upstream_incomplete", "internal_error"}


@pytest.mark.parametrize("kind", UpstreamFailure)
def test_slow_engines_are_504_and_broken_ones_502(kind: UpstreamFailure) -> None:
    refusal = failures.upstream_failed(UpstreamError(kind, "x"))
    assert (refusal.status == 504) == kind.is_timeout == (refusal.end == "timeout")


@pytest.mark.parametrize("path", [*sorted(PATHS), "/x", ""])
def test_body_has_the_form_of_its_route(path: str) -> None:
    refusal = Refusal(status=400, code="c", message="m", param="p")
    document = json.loads(error_body(path, refusal))
    if is_anthropic(path):
        error = {"type": "invalid_request_error", "message": "c: m"}
        assert document == {"type": "error", "error": error}
    else:
        assert document == {
            "error": {"message": "m", "type": "invalid_request_error", "param": "p", "code": "c"}
        }


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v1/messages", True), ("/v1/messages/count_tokens", True), ("/v1/messages/x", True),
        ("/v1/messagesx", False), ("/v1/chat/completions", False),
    ],
)  # fmt: skip
def test_anthropics_form_is_for_its_paths_only(path: str, expected: bool) -> None:
    assert is_anthropic(path) is expected


@pytest.mark.parametrize(
    ("status", "openai", "anthropic"),
    [
        (400, "invalid_request_error", "invalid_request_error"),
        (401, "authentication_error", "authentication_error"),
        (403, "permission_error", "permission_error"),
        (404, "not_found_error", "not_found_error"),
        (413, "invalid_request_error", "request_too_large"),
        (429, "rate_limit_error", "rate_limit_error"),
        (500, "server_error", "api_error"),
        (502, "server_error", "api_error"),
        (503, "server_error", "overloaded_error"),
        (504, "server_error", "timeout_error"),
    ],
)
def test_types_are_those_the_clients_know(status: int, openai: str, anthropic: str) -> None:
    refusal = Refusal(status=status, code="c", message="m")
    assert json.loads(error_body("/tokenize", refusal))["error"]["type"] == openai
    assert json.loads(error_body("/v1/messages", refusal))["error"]["type"] == anthropic


@pytest.mark.parametrize("dialect", Dialect)
def test_event_is_one_frame_of_json(dialect: Dialect) -> None:
    frame = error_frame(dialect, Refusal(status=502, code="c", message="m\n\nm"))
    assert frame.endswith(b"\n\n")
    assert frame.count(b"\n\n") == 1
    data = frame.rsplit(b"data: ", 1)[1]
    assert json.loads(data)["error"]["message"].endswith("m\n\nm")
